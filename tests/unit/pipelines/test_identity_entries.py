"""Entries of the memory of identities, and their batches, beside naive ones of bytes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import identity_entries
from pipelines.identity_entries import ENTRY_BYTES, FIELD_BYTES, Entries, seen
from pipelines.verdict import Claims, Seen
from tests.unit.pipelines.fake_servers import claims

OFFSETS = st.one_of(st.sampled_from([0, 255, 256, 2**32, 2**40, 2**48 - 1]), st.integers(0, 300))
INDEXES = st.one_of(st.sampled_from([0, 255, 256, 2**24 - 1]), st.integers(0, 300))
CLAIMED = st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))
ROWS = st.lists(st.tuples(CLAIMED, OFFSETS, INDEXES), max_size=30)
BUCKETS = st.sampled_from([1, 2, 256, 2048, 65536])

Row = tuple[tuple[bytes, bytes], int, int]


def claims_of(rows: list[Row]) -> Claims:
    return claims(
        [identity for (identity, _), _, _ in rows],
        [body_hash for (_, body_hash), _, _ in rows],
        [offset for _, offset, _ in rows],
        [index for _, _, index in rows],
    )


def naive_entry(row: Row) -> bytes:
    (identity, body_hash), offset, index = row
    return identity[2:12] + offset.to_bytes(6, "big") + index.to_bytes(3, "big") + body_hash


def naive_bucket(row: Row, buckets: int) -> int:
    return int.from_bytes(row[0][0][:2], "big") % buckets


@settings(deadline=None)
@given(ROWS, BUCKETS)
def test_an_entry_holds_identity_position_and_body_hash(rows: list[Row], buckets: int) -> None:
    entries = Entries.of(claims_of(rows), buckets)
    assert [each.tobytes() for each in entries.entries] == [naive_entry(row) for row in rows]
    assert entries.buckets.tolist() == [naive_bucket(row, buckets) for row in rows]
    for number, ((_, body_hash), offset, index) in enumerate(rows):
        assert seen(entries.value(number)) == Seen(offset, index, body_hash)


@settings(deadline=None)
@given(ROWS, BUCKETS, st.sampled_from([FIELD_BYTES, ENTRY_BYTES]), st.randoms())
def test_a_batch_has_items_by_bucket_in_the_order_of_their_rows(
    rows: list[Row], buckets: int, size: int, dice: random.Random
) -> None:
    chosen = [number for number in range(len(rows)) if dice.random() < 0.7]
    ordered = sorted(chosen, key=lambda number: naive_bucket(rows[number], buckets))
    got = list(Entries.of(claims_of(rows), buckets).batches(np.array(chosen, np.int64), size))
    assert [number for batch in got for number in batch.rows.tolist()] == ordered
    assert b"".join(batch.items for batch in got) == b"".join(
        naive_entry(rows[number])[:size] for number in ordered
    )
    heads = np.frombuffer(b"".join(batch.heads for batch in got), ">u2").reshape(-1, 2)
    told = [bucket for bucket, count in heads.tolist() for _ in range(count)]
    assert told == [naive_bucket(rows[number], buckets) for number in ordered]


def test_many_rows_are_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_entries, "_SCRIPT_ENTRIES", 3)
    rows: list[Row] = [((bytes([0, n % 2] + [0] * 14), bytes(8)), n, 0) for n in range(8)]
    batches = list(Entries.of(claims_of(rows), 2).batches(np.arange(8), ENTRY_BYTES))
    assert [batch.rows.tolist() for batch in batches] == [[0, 2, 4], [6, 1, 3], [5, 7]]
    assert batches[1].heads == bytes([0, 0, 0, 1, 0, 1, 0, 2])


def test_positions_in_entries_sort_as_positions_do() -> None:
    places = [(0, 0), (0, 1), (1, 0), (255, 7), (256, 0), (2**40, 2**20)]
    rows: list[Row] = [((bytes(16), bytes(8)), offset, index) for offset, index in places]
    entries = Entries.of(claims_of(rows), 1)
    values = [entries.value(number) for number in range(len(rows))]
    assert values == sorted(values)


def test_only_rows_that_are_new_are_copies_of_each_other() -> None:
    dice = random.Random(1)
    identities = [dice.randbytes(16) for _ in range(20)]
    rows: list[Row] = [((dice.choice(identities), bytes(8)), n, 0) for n in range(60)]
    is_new = np.array([dice.random() < 0.8 for _ in rows])
    firsts: dict[bytes, int] = {}
    copies = {}
    for number in np.flatnonzero(is_new).tolist():
        first = firsts.setdefault(rows[number][0][0], number)
        if first != number:
            copies[number] = first
    assert dict(Entries.of(claims_of(rows), 64).copies(is_new)) == copies
