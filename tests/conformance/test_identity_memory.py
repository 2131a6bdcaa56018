"""The memory of identities in a real Redis: what it answers, and when it says that it forgot."""

from collections.abc import Iterator

import numpy as np
import pytest
import redis
import xxhash

from pipelines import identity_entries, redis_identities
from pipelines.identity_filter import IdentityFilter
from pipelines.position import LogPartition
from pipelines.redis_identities import RedisIdentities
from pipelines.segment import Segment, first_segment
from pipelines.verdict import Claims, Seen
from tests.embedded_stack import EmbeddedStack
from tests.unit.pipelines.fake_servers import claims

AT = LogPartition(9, 0)


@pytest.fixture
def memory(stack: EmbeddedStack) -> Iterator[RedisIdentities]:
    client = redis.Redis.from_url(stack.read().redis_url)
    yield RedisIdentities(client, "conformance")
    for key in client.scan_iter("tollbook:conformance:*"):
        client.delete(key)


def claims_of(first: int, count: int, offset: int) -> Claims:
    numbers = range(first, first + count)
    return claims(
        [xxhash.xxh3_128_digest(b"%d" % number) for number in numbers],
        [xxhash.xxh3_64_digest(b"%d" % number) for number in numbers],
        [offset] * count,
        list(range(count)),
    )


def segment_of(slice_number: int = 0, horizon: int = 0) -> Segment:
    first = first_segment(AT, 0, 0)
    return Segment(AT, 1, 0, first.started_at_ms, 0, slice_number, horizon, 0, first.horizon_at_ms)


def test_an_empty_memory_says_that_it_does_not_know(memory: RedisIdentities) -> None:
    assert memory.claim(segment_of(), 0, 1, claims_of(0, 3, 0)) is None


def test_a_copy_is_found_and_ones_own_claim_is_not_a_copy(memory: RedisIdentities) -> None:
    segment = segment_of()
    memory.refill(segment, 0, [])
    first = claims_of(0, 3, 0)
    assert memory.claim(segment, 0, 1, first) == {}
    assert memory.claim(segment, 0, 1, first) == {}
    again = claims_of(2, 3, 1)
    assert memory.claim(segment, 1, 2, again) == {0: Seen(0, 2, first.body_hashes[2].tobytes())}


def test_claims_in_several_parts_give_the_rows_of_the_whole(
    memory: RedisIdentities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_entries, "_SCRIPT_ENTRIES", 3)
    memory = RedisIdentities(memory.client, "conformance", 10_000)
    segment = segment_of()
    memory.refill(segment, 0, [])
    assert memory.claim(segment, 0, 1, claims_of(0, 10, 0)) == {}
    hits = memory.claim(segment, 1, 2, claims_of(7, 10, 1))
    assert hits is not None
    assert sorted(hits) == [0, 1, 2]


def test_a_gap_below_the_claim_is_noticed(memory: RedisIdentities) -> None:
    segment = segment_of()
    memory.refill(segment, 5, [])
    assert memory.claim(segment, 6, 7, claims_of(0, 1, 6)) is None
    assert memory.claim(segment, 5, 6, claims_of(0, 1, 5)) == {}
    assert memory.claim(segment, 6, 7, claims_of(0, 1, 6)) is not None


def test_a_flushed_memory_says_so_even_after_its_marker_was_restored(
    memory: RedisIdentities,
) -> None:
    segment = segment_of()
    memory.refill(segment, 0, [])
    assert memory.claim(segment, 0, 1, claims_of(0, 1, 0)) == {}
    key = memory._key(segment)
    marker = memory.client.hgetall(f"{key}:m")
    memory.client.delete(f"{key}:m", f"{key}:t")
    assert memory.claim(segment, 1, 2, claims_of(0, 1, 1)) is None
    memory.client.hset(f"{key}:m", mapping=marker)  # type: ignore[arg-type]
    assert memory.claim(segment, 1, 2, claims_of(0, 1, 1)) is None


def test_a_marker_of_another_run_of_the_server_is_not_believed(memory: RedisIdentities) -> None:
    segment = segment_of()
    memory.refill(segment, 0, [])
    memory.client.hset(f"{memory._key(segment)}:m", "run", "0" * 40)
    assert memory.claim(segment, 0, 1, claims_of(0, 1, 0)) is None


def test_a_memory_that_has_evicted_anything_is_not_believed(memory: RedisIdentities) -> None:
    segment = segment_of()
    memory.refill(segment, 0, [])
    assert memory.claim(segment, 0, 1, claims_of(0, 3, 0)) == {}
    evicted = int(memory.client.hget(f"{memory._key(segment)}:m", "evicted") or -1)
    assert evicted == int(memory.client.info("stats")["evicted_keys"])
    memory.client.hset(f"{memory._key(segment)}:m", "evicted", evicted + 1)
    assert memory.claim(segment, 1, 2, claims_of(0, 1, 1)) is None


def test_older_slices_are_looked_at_down_to_the_horizon(memory: RedisIdentities) -> None:
    old = claims_of(0, 5, 0)
    memory.refill(segment_of(1, 0), 1, [(0, [old])])
    assert memory.claim(segment_of(1, 0), 1, 2, claims_of(4, 2, 1)) == {
        0: Seen(0, 4, old.body_hashes[4].tobytes())
    }
    assert memory.claim(segment_of(2, 1), 2, 3, claims_of(0, 1, 2)) == {}


def test_dropping_slices_shrinks_the_range_first_so_that_a_sleeper_asks_again(
    memory: RedisIdentities,
) -> None:
    memory.refill(segment_of(1, 0), 1, [(0, [claims_of(0, 50, 0)])])
    memory.drop_before(segment_of(2, 1))
    assert not list(memory.client.scan_iter(f"{memory._key(segment_of())}:0:*"))
    assert memory.claim(segment_of(1, 0), 1, 2, claims_of(0, 1, 1)) is None
    assert memory.claim(segment_of(2, 1), 1, 2, claims_of(60, 1, 1)) == {}


def test_a_redis_that_may_evict_is_refused(memory: RedisIdentities) -> None:
    memory.check_settings()
    memory.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ValueError, match="noeviction"):
            memory.check_settings()
    finally:
        memory.client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("slice_events", "buckets"), [(1, 1), (5_000, 4), (2_000_000, 2048), (90_000_000, 65536)]
)
def test_a_full_slice_has_up_to_1024_entries_a_bucket_as_far_as_two_bytes_go(
    memory: RedisIdentities, slice_events: int, buckets: int
) -> None:
    assert redis_identities.buckets_of(slice_events) == buckets
    sized = RedisIdentities(memory.client, "conformance", slice_events)
    segment = segment_of()
    sized.refill(segment, 0, [])
    first = claims_of(0, 400, 0)
    assert sized.claim(segment, 0, 1, first) == {}
    hits = sized.claim(segment, 1, 2, claims_of(0, 400, 1))
    assert hits is not None
    assert len(hits) == 400
    kept = list(sized.client.scan_iter(f"{sized._key(segment)}:0:*"))
    assert len(kept) <= buckets
    assert sum(sized.client.strlen(key) for key in kept) == 400 * 27
    sized.drop_before(segment_of(1, 1))
    assert not list(sized.client.scan_iter(f"{sized._key(segment)}:0:*"))


def another_worker(memory: RedisIdentities) -> RedisIdentities:
    return RedisIdentities(memory.client, memory.deployment, memory.slice_events)


def test_a_worker_that_starts_knows_what_others_claimed(memory: RedisIdentities) -> None:
    segment, first = segment_of(), claims_of(0, 500, 0)
    memory.refill(segment, 0, [])
    assert memory.claim(segment, 0, 1, first) == {}
    other = another_worker(memory)
    assert other.claim(segment, 0, 1, first) == {}
    hits = other.claim(segment, 1, 2, claims_of(499, 2, 1))
    assert hits == {0: Seen(0, 499, first.body_hashes[499].tobytes())}


def test_a_sleeper_that_wakes_judges_as_those_who_went_on(memory: RedisIdentities) -> None:
    segment = segment_of()
    memory.refill(segment, 0, [])
    sleeper = another_worker(memory)
    assert sleeper.claim(segment, 0, 1, claims_of(0, 5, 0)) == {}
    runs = [(offset, claims_of(5 * offset - 2, 7, offset)) for offset in range(1, 5)]
    ahead = [
        memory.claim(segment, offset, offset + 1, run)
        for offset, run in [(0, claims_of(0, 5, 0)), *runs]
    ]
    behind = [sleeper.claim(segment, offset, offset + 1, run) for offset, run in runs]
    assert behind == ahead[1:]
    assert all(hits is not None and sorted(hits) == [0, 1] for hits in behind)
    assert another_worker(memory).claim(segment, 1, 2, runs[0][1]) == behind[0]


def test_copies_within_one_run_repeat_its_first(memory: RedisIdentities) -> None:
    segment, one = segment_of(), claims_of(0, 3, 0)
    memory.refill(segment, 0, [])
    twice = claims(
        [row.tobytes() for row in one.identities] * 2,
        [row.tobytes() for row in one.body_hashes] * 2,
        [0, 0, 0, 1, 1, 1],
        [0, 1, 2, 0, 1, 2],
    )
    expected = {3 + row: Seen(0, row, one.body_hashes[row].tobytes()) for row in range(3)}
    assert memory.claim(segment, 0, 2, twice) == expected
    assert another_worker(memory).claim(segment, 0, 2, twice) == expected


def test_a_refill_that_another_overtook_writes_nothing_more(memory: RedisIdentities) -> None:
    segment, entries = segment_of(), claims_of(0, 50, 0)

    def overtaken() -> Iterator[tuple[int, list[Claims]]]:
        yield 0, [entries]
        another_worker(memory).refill(segment, 2, [(0, [entries, claims_of(50, 50, 1)])])
        yield 0, [entries]

    memory.refill(segment, 1, overtaken())
    kept = memory.client.scan_iter(f"{memory._key(segment)}:0:*")
    assert sum(memory.client.strlen(key) for key in kept) == 100 * 27
    hits = memory.claim(segment, 2, 3, claims_of(99, 2, 2))
    assert hits is not None
    assert sorted(hits) == [0]


def test_filters_that_say_maybe_too_often_change_no_verdict(
    memory: RedisIdentities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IdentityFilter, "may_hold", lambda _, words: np.ones(len(words), bool))
    test_older_slices_are_looked_at_down_to_the_horizon(memory)
    test_copies_within_one_run_repeat_its_first(memory)
