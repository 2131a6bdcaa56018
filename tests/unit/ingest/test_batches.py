"""Columns of many requests become one record per partition, and nothing is lost or mixed up."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.batches import Batches
from ingest.columns import Columns
from ingest.topic import decode_record, partition_of
from tests.unit.ingest.texts import text_and_rows


def columns(tenant: str, subjects: list[str], data: bytes = b"{}", size: int = 100) -> Columns:
    values = [
        [b"", f"{tenant}-{number}".encode(), b"s", b"t", subject.encode(), data, b""]
        for number, subject in enumerate(subjects)
    ]
    return Columns(tenant, *text_and_rows(values), size)


def rows_by_partition(records: list[tuple[int, bytes]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for partition, value in records:
        found.setdefault(partition, []).extend(decode_record(value).to_pylist())
    return found


def test_each_event_is_in_the_record_of_its_partition_in_its_order() -> None:
    batches = Batches(partitions=4, record_bytes_max=10**6)
    subjects = [f"customer-{number % 7}" for number in range(50)]
    batches.add(columns("acme", subjects))
    batches.add(columns("beta", subjects))
    records = batches.take_records()
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
    batches = Batches(partitions=1, record_bytes_max=10_000)
    batches.add(columns("acme", ["one"] * 40, data=b'"%b"' % (b"x" * 1000), size=40_000))
    records = batches.take_records()
    assert len(records) > 1
    assert all(len(value) < 12_000 for _, value in records)
    rows = rows_by_partition(records)[0]
    assert [row["id"] for row in rows] == [f"acme-{number}" for number in range(40)]


def test_one_event_larger_than_a_record_should_be_still_goes_out() -> None:
    batches = Batches(partitions=1, record_bytes_max=10)
    batches.add(columns("acme", ["one"]))
    assert len(batches.take_records()) == 1


@given(
    tenant=st.text(min_size=1, max_size=9),
    subjects=st.lists(st.text(min_size=1, max_size=9), min_size=1),
)
def test_what_is_compiled_and_the_rule_agree_about_partitions(
    tenant: str, subjects: list[str]
) -> None:
    batches = Batches(partitions=7, record_bytes_max=10**6)
    batches.add(columns(tenant, subjects))
    for partition, rows in rows_by_partition(batches.take_records()).items():
        assert {partition_of(row["tenant"], row["subject"], 7) for row in rows} == {partition}


def test_subjects_of_one_pattern_are_spread_evenly() -> None:
    homes = [partition_of("acme", f"customer-{number}", 8) for number in range(8_000)]
    assert all(900 < homes.count(partition) < 1_100 for partition in range(8))


def test_what_was_taken_does_not_come_again() -> None:
    batches = Batches(partitions=2, record_bytes_max=10**6)
    batches.add(columns("acme", ["a"]))
    assert (batches.events, batches.size) == (1, 100)
    assert batches.take_records()
    assert (batches.events, batches.size) == (0, 0)
    assert batches.take_records() == []
