"""What is packed byte by byte is what Arrow reads, value for value, and what Arrow would write."""

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.event import EPOCH
from ingest.packing import pack
from ingest.scanning import FIELDS, ROW_ITEMS, STAMPED, TIME
from ingest.topic import EVENT_SCHEMA, decode_record, encode_record, partition_of
from tests.unit.ingest.texts import text_and_rows

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9) | st.just(
    "x" * 256
)
_rows = st.fixed_dictionaries(
    {
        "data": st.binary(max_size=9) | st.just(b'{"n":1}' * 40),
        "extensions": st.binary(max_size=3),
        **dict.fromkeys(("tenant", "id", "source", "type", "subject"), _names),
        "time": st.integers(0, 2**52),
        "time_stamped": st.booleans(),
    }
)


def packed(rows: list[dict[str, Any]]) -> bytes:
    values = [
        [row[name] if isinstance(row[name], bytes) else row[name].encode() for name in FIELDS]
        for row in rows
    ]
    text, numbers = text_and_rows(values)
    numbers[:, TIME] = [row["time"] for row in rows]
    numbers[:, STAMPED] = [row["time_stamped"] for row in rows]
    ((_, record),) = pack(np.frombuffer(text, np.uint8), numbers, 1, 10**6)
    return bytes(record)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(_rows, min_size=1, max_size=5), times=st.sampled_from([1, 14]))
def test_arrow_reads_what_was_packed(rows: list[dict[str, Any]], times: int) -> None:
    rows = rows * times
    found = decode_record(packed(rows)).to_pylist()
    expected = [row | {"time": EPOCH + timedelta(microseconds=row["time"])} for row in rows]
    assert found == expected


def test_a_record_is_no_longer_than_arrows_own() -> None:
    row = {
        **dict.fromkeys(EVENT_SCHEMA.names, "a"),
        "time": 1,
        "time_stamped": True,
        "data": b"{}",
        "extensions": b"",
    }
    rows = [row] * 100
    own = encode_record(pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA))
    assert len(packed(rows)) <= len(own)
    assert decode_record(packed(rows)).equals(decode_record(own))


def events(tenant: str, subjects: list[str], data: bytes = b"{}") -> list[list[bytes]]:
    return [
        [tenant.encode(), f"{tenant}-{number}".encode(), b"s", b"t", subject.encode(), data, b""]
        for number, subject in enumerate(subjects)
    ]


def spread(values: list[list[bytes]], partitions: int, bytes_max: int) -> list[tuple[int, bytes]]:
    text, rows = text_and_rows(values)
    return pack(np.frombuffer(text, np.uint8), rows, partitions, bytes_max)


def rows_by_partition(records: list[tuple[int, bytes]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for partition, value in records:
        found.setdefault(partition, []).extend(decode_record(value).to_pylist())
    return found


def test_each_event_is_in_the_record_of_its_partition_in_its_order() -> None:
    subjects = [f"customer-{number % 7}" for number in range(50)]
    records = spread(events("acme", subjects) + events("beta", subjects), 4, 10**6)
    assert len(records) == len({partition for partition, _ in records}) <= 4
    found = rows_by_partition(records)
    for tenant in ("acme", "beta"):
        for number, subject in enumerate(subjects):
            rows = found[partition_of(tenant, subject, 4)]
            same = [
                row["id"] for row in rows if (row["tenant"], row["subject"]) == (tenant, subject)
            ]
            assert same == [f"{tenant}-{place}" for place in range(number % 7, 50, 7)]
    assert sum(map(len, found.values())) == 100


def test_a_record_is_cut_where_it_would_be_too_large() -> None:
    records = spread(events("acme", ["one"] * 40, data=b'"%b"' % (b"x" * 1000)), 1, 10_000)
    assert len(records) > 1
    assert all(len(value) < 12_000 for _, value in records)
    rows = rows_by_partition(records)[0]
    assert [row["id"] for row in rows] == [f"acme-{number}" for number in range(40)]


def test_one_event_larger_than_a_record_should_be_still_goes_out() -> None:
    assert len(spread(events("acme", ["one"]), 1, 10)) == 1


def test_no_events_make_no_record() -> None:
    assert pack(np.zeros(9, np.uint8), np.zeros((0, ROW_ITEMS), np.int64), 3, 10) == []


@given(
    tenant=st.text(min_size=1, max_size=9),
    subjects=st.lists(st.text(min_size=1, max_size=9), min_size=1),
)
def test_what_is_compiled_and_the_rule_agree_about_partitions(
    tenant: str, subjects: list[str]
) -> None:
    for partition, rows in rows_by_partition(spread(events(tenant, subjects), 7, 10**6)).items():
        assert {partition_of(row["tenant"], row["subject"], 7) for row in rows} == {partition}


def test_subjects_of_one_pattern_are_spread_evenly() -> None:
    homes = [partition_of("acme", f"customer-{number}", 8) for number in range(8_000)]
    assert all(900 < homes.count(partition) < 1_100 for partition in range(8))
