"""What `tollbook bench` measures with: the events are what a figure's configuration says."""

import json

import pytest

from ingest.topic import decode_record, partition_of
from tollbook.bench.figure import Figure
from tollbook.bench.load import Shape, records


@pytest.mark.parametrize(
    "shape", [Shape(3_000, 50), Shape(3_000, 50, minutes=4), Shape(500, 1_000, 1, 1)], ids=str
)
def test_events_touch_as_many_windows_as_their_configuration_says(shape: Shape) -> None:
    touched, ids, count = set(), set(), 0
    for partition, value in records(shape, "t", "call", 3):
        for event in decode_record(value).to_pylist():
            assert partition_of("t", event["subject"], 3) == partition
            data = json.loads(event["data"])
            minute = event["time"].replace(second=0, microsecond=0)
            touched.add((event["subject"], data["model"], data["region"], minute))
            ids.add(event["id"])
            count += 1
    assert count == len(ids) == shape.events
    assert 2 * len(touched) == shape.windows


def test_events_are_of_about_270_bytes_as_json() -> None:
    (_, value), *_ = records(Shape(100), "t", "llm.request", 1)
    for event in decode_record(value).to_pylist():
        body = {name: event[name] for name in ("id", "source", "type", "subject")}
        body |= {"specversion": "1.0", "time": event["time"].isoformat()}
        body["data"] = json.loads(event["data"])
        assert 250 <= len(json.dumps(body)) <= 310
        assert len(body["data"]) == 4


def test_a_figure_tells_its_target_and_what_it_holds_for() -> None:
    content = Figure("a", 1.23456, "s", "two workers", 2.0).to_content()
    assert content == {
        "name": "a",
        "value": 1.235,
        "target": 2.0,
        "unit": "s",
        "configuration": "two workers",
    }
