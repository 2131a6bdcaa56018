"""Columns of many requests become one record per partition, and nothing is lost or mixed up."""

from typing import Any

from ingest.batches import Batches
from ingest.columns import Columns
from ingest.topic import decode_record, partition_of


def columns(tenant: str, subjects: list[str], data: bytes = b"{}", size: int = 100) -> Columns:
    count = len(subjects)
    return Columns(
        tenant=tenant,
        ids=[f"{tenant}-{number}" for number in range(count)],
        sources=["s"] * count,
        types=["t"] * count,
        subjects=subjects,
        times=b"".join(number.to_bytes(8, "little") for number in range(count)),
        stamped=bytes(count),
        data=[data] * count,
        extensions=[b""] * count,
        size=size,
    )


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


def test_what_was_taken_does_not_come_again() -> None:
    batches = Batches(partitions=2, record_bytes_max=10**6)
    batches.add(columns("acme", ["a"]))
    assert (batches.events, batches.size) == (1, 100)
    assert batches.take_records()
    assert (batches.events, batches.size) == (0, 0)
    assert batches.take_records() == []
