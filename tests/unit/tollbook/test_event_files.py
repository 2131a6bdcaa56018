"""Files become events, line by line, and every event knows where the next one begins."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.event import Reception, parse_event
from tollbook.event_files import CsvMapping, CsvReader, MappingError, read_ndjson

FLIGHTS = (
    b"\xef\xbb\xbfflight,carrier,tail,when,seats,note\r\n"
    b"F1,UA,N1,2013-01-01 10:00:00,0150.10,\r\n"
    b'F2,AA,,2013-07-01T10:00:00+01:00,2,"two\nlines, ""quoted"""\r\n'
    b"\r\n"
    b"F3,UA,N3,not a time,,x"
)


def mapping(**changes: Any) -> CsvMapping:
    plain: dict[str, Any] = {
        "id": "flight",
        "subject": "{carrier}:{tail}",
        "type": "flight.{carrier}",
        "source": "file",
        "time": "when",
        "time_zone": "America/New_York",
    }
    return CsvMapping(**{**plain, **changes})


def events(content: bytes, how: CsvMapping) -> list[dict[str, Any]]:
    reader = CsvReader(io.BytesIO(content), how)
    return [json.loads(record.event) for record, _ in reader.records(0, 0, 0)]


def test_a_row_becomes_an_event_by_columns_templates_and_texts() -> None:
    first, second, third = events(FLIGHTS, mapping())
    assert first == {
        "specversion": "1.0",
        "id": "F1",
        "source": "file",
        "type": "flight.UA",
        "subject": "UA:N1",
        "time": "2013-01-01T10:00:00-05:00",
        "data": {"seats": "0150.10"},
    }
    assert second["data"] == {"seats": "2", "note": 'two\nlines, "quoted"'}
    assert (second["subject"], second["time"]) == ("AA:", "2013-07-01T10:00:00+01:00")
    assert third["time"] == "not a time"


def test_named_data_columns_and_row_numbers() -> None:
    how = mapping(id="{flight}-{#}", data=["seats", "carrier"])
    found = events(FLIGHTS, how)
    assert [one["id"] for one in found] == ["F1-1", "F2-2", "F3-3"]
    assert found[1]["data"] == {"seats": "2", "carrier": "AA"}


@pytest.mark.parametrize(
    "changes", [{"id": "nope"}, {"subject": "{nope}"}, {"time": "nope"}, {"data": ["nope"]}]
)
def test_a_column_that_is_not_there_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(MappingError, match="nope"):
        events(FLIGHTS, mapping(**changes))


def test_reading_resumes_behind_any_row() -> None:
    reader = CsvReader(io.BytesIO(FLIGHTS), mapping(id="{flight}-{#}"))
    whole = list(reader.records(0, 0, 0))
    assert whole[-1][0].end == len(FLIGHTS)
    for place, (record, row) in enumerate(whole):
        rest = list(reader.records(record.end, record.line, row))
        assert rest == whole[place + 1 :]


def test_bytes_that_are_not_utf_8_stay_wrong_for_ingest_to_refuse() -> None:
    reader = CsvReader(io.BytesIO(b"id,s\n\xff,x\n"), CsvMapping("id", "s", "t", "f"))
    ((record, _),) = reader.records(0, 0, 0)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(record.event)


def test_a_row_with_more_values_than_columns_is_made_for_ingest_to_refuse_by_name() -> None:
    (event,) = events(b"flight,carrier\nF1,UA,N1,x\n", mapping(time=None, subject="carrier"))
    refusals = parse_event(json.dumps(event).encode(), Reception(datetime.now(UTC)))
    assert isinstance(refusals, list)
    assert [refusal.field for refusal in refusals] == ["4 values for 2 columns"]


def test_ndjson_lines_are_left_as_they_are() -> None:
    content = b'{"a": 1}\r\n\n  \n not json \n{"b":2}'
    records = list(read_ndjson(io.BytesIO(content), 0, 0))
    assert [(one.event, one.line) for one in records] == [
        (b'{"a": 1}', 1),
        (b"not json", 4),
        (b'{"b":2}', 5),
    ]
    assert list(read_ndjson(io.BytesIO(content), records[0].end, 1)) == records[1:]
