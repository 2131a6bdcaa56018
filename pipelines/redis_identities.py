"""The memory of identities in Redis: exact, complete under its marker, and free to be lost.

Identities of a partition lie in slices (dropped whole when the horizon passes them), and in a
slice as entries of one length, appended to a few texts by identity. A marker says which range
[low slice, F) Redis holds completely, for which run of the server, under which token, and after
how many evictions; a Redis that was flushed, restarted, restored or made to evict fails that check,
and the range is refilled. Holding less makes it slower, never wrong.

Searching a text costs more than adding to it. So each worker keeps a filter per slice, read from
Redis once and followed from then on: what is in no filter is new, and is added unsearched. An
identity that is added twice, by a replay or by a second worker, has the same entry twice, since
both read the same log: it is the first time that the identity occurs at or after the horizon.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from pipelines.identity_entries import ENTRY_BYTES, FIELD_BYTES, Entries, seen, words_of
from pipelines.identity_filter import IdentityFilter
from pipelines.position import LogPartition
from pipelines.segment import SLICE_EVENTS, Segment
from pipelines.verdict import Claims, Seen

_BUCKETS_MAX = 65536
_BUCKET_ENTRIES = 1024
"""Of a full slice: more take longer to search, fewer are appended to one by one."""
_LOAD_BUCKETS = 64
_ANSWER_SECONDS = 60.0
_TRIES = 25
"""About 20 seconds of a Redis that refuses connections; the supervisor tries on from there."""

# Answers F, or false where not everything of [low slice, start) is here.
_CHECK = """
local function filled(low, start)
  local m = redis.call('HMGET', KEYS[1]..':m', 'run', 'token', 'low', 'F', 'evicted')
  if not m[2] or redis.call('GET', KEYS[1]..':t') ~= m[2] then return false end
  if m[1] ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then return false end
  if m[5] ~= string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)') then return false end
  if tonumber(m[3]) > low or start > tonumber(m[4]) then return false end
  return {m[2], tonumber(m[4])}
end
local range = filled(tonumber(ARGV[1]), tonumber(ARGV[2]))
if not range then return false end
"""

_RANGE = f"{_CHECK} return range"

# A batch comes as its slice, a bucket and a number of items each (two bytes), and the items: so
# that neither side spends a command's argument on a bucket.

# Finds fields in texts; answers pairs of a field's number and its value, of those found.
_FIND = (
    _CHECK
    + """
local slice, heads, fields = ARGV[3], ARGV[4], ARGV[5]
local out, n, number = {}, 0, 0
for g = 1, #heads, 4 do
  local bucket, count = struct.unpack('>I2I2', heads, g)
  local text = redis.call('GET', KEYS[1]..':'..slice..':'..bucket) or ''
  for _ = 1, count do
    local wanted = string.sub(fields, number * 10 + 1, number * 10 + 10)
    local at = string.find(text, wanted, 1, true)
    while at and at % 27 ~= 1 do at = string.find(text, wanted, at + 1, true) end
    if at then
      out[n + 1] = number
      out[n + 2] = string.sub(text, at + 10, at + 26)
      n = n + 2
    end
    number = number + 1
  end
end
return out
"""
)

_APPEND_ALL = """
local function append_all(slice, heads, entries)
  local from = 1
  for g = 1, #heads, 4 do
    local bucket, count = struct.unpack('>I2I2', heads, g)
    local through = from + count * 27 - 1
    redis.call('APPEND', KEYS[1]..':'..slice..':'..bucket, string.sub(entries, from, through))
    from = through + 1
  end
end
"""

# Appends entries; the last part of a run moves F.
_APPEND = (
    _CHECK
    + _APPEND_ALL
    + """
if ARGV[4] then append_all(ARGV[4], ARGV[5], ARGV[6]) end
local last = tonumber(ARGV[3])
if last > range[2] then redis.call('HSET', KEYS[1]..':m', 'F', last) end
return 1
"""
)

# A refill writes only while its token stands: one that began later starts over what it finds.
_FILL = (
    _APPEND_ALL
    + """
if redis.call('GET', KEYS[1]..':t') ~= ARGV[1] then return 0 end
append_all(ARGV[2], ARGV[3], ARGV[4])
return 1
"""
)

_CLEAR = """
if redis.call('GET', KEYS[1]..':t') ~= ARGV[1] then return 0 end
for bucket = 0, tonumber(ARGV[3]) - 1 do
  redis.call('UNLINK', KEYS[1]..':'..ARGV[2]..':'..bucket)
end
return 1
"""

_MARK = """
if redis.call('GET', KEYS[1]..':t') ~= ARGV[1] then return 0 end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
if run ~= ARGV[4] or evicted ~= ARGV[5] then return 0 end
redis.call('HSET', KEYS[1]..':m', 'run', run, 'token', ARGV[1], 'low', ARGV[2], 'F', ARGV[3],
  'evicted', evicted)
return 1
"""

# The range vouched for shrinks before anything is dropped; a refill under way (another token) or
# done since (a lower low) stops the dropping.
_DROP = """
local m = redis.call('HMGET', KEYS[1]..':m', 'token', 'low')
if not m[1] or redis.call('GET', KEYS[1]..':t') ~= m[1] then return 0 end
if tonumber(m[2]) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1]..':m', 'low', ARGV[1])
for bucket = 0, tonumber(ARGV[3]) - 1 do
  redis.call('UNLINK', KEYS[1]..':'..ARGV[2]..':'..bucket)
end
return 1
"""


def buckets_of(slice_events: int) -> int:
    """Return how many buckets a slice of so many events has: a power of two."""
    wanted = max(1, slice_events // _BUCKET_ENTRIES)
    return min(_BUCKETS_MAX, 1 << (wanted - 1).bit_length())


@dataclass(slots=True)
class _Known:
    """What a worker has read and added itself: everything of [low slice, through), by slice."""

    low: int
    through: int
    filters: dict[int, IdentityFilter] = field(default_factory=dict)


def open_redis(url: str) -> redis.Redis:
    """Return a client that waits out a restart: every command of ours may be given again."""
    return redis.Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), _TRIES),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
        socket_timeout=_ANSWER_SECONDS,
    )


@dataclass(slots=True)
class RedisIdentities:
    """An `IdentityMemory` on a Redis that must not evict."""

    client: redis.Redis
    deployment: str
    """Keeps deployments that share a Redis apart."""
    slice_events: int = SLICE_EVENTS
    _known: dict[LogPartition, _Known] = field(default_factory=dict)

    def claim(
        self, segment: Segment, start: int, end: int, claims: Claims
    ) -> Mapping[int, Seen] | None:
        """Claim identities; see `IdentityMemory.claim`."""
        known = self._range_known(segment, start)
        if known is None:
            return None
        entries = Entries.of(claims, buckets_of(self.slice_events))
        words = entries.words
        found = self._find(segment, start, known, entries, words)
        if found is None:
            return None
        hits = {row: seen(old) for row, old in found.items() if old != entries.value(row)}
        is_new = np.ones(len(claims), bool)
        is_new[list(found)] = False
        for row, first in entries.copies(is_new):
            hits[row] = seen(entries.value(first))
            is_new[row] = False
        rows = np.flatnonzero(is_new)
        if not self._append(segment, (start, end), entries, rows):
            return None
        known.filters.setdefault(segment.slice, self._filter()).add(words[rows])
        known.through = max(known.through, end)
        return hits

    def refill(
        self, segment: Segment, end: int, slices: Iterable[tuple[int, Iterable[Claims]]]
    ) -> None:
        """Take the identities of `[horizon, end)` and vouch for them; see `IdentityMemory`."""
        self._known.pop(segment.at, None)
        key, token = self._key(segment), uuid.uuid4().hex
        run = self.client.info("server")["run_id"]
        evicted = self.client.info("stats")["evicted_keys"]
        self.client.set(f"{key}:t", token)
        buckets = buckets_of(self.slice_events)
        clear = self.client.register_script(_CLEAR)
        fill = self.client.register_script(_FILL)
        for number in range(segment.horizon_slice, segment.slice + 1):
            clear(keys=[key], args=[token, number, buckets])
        for slice_number, parts in slices:
            for claims in parts:
                entries = Entries.of(claims, buckets)
                for batch in entries.batches(np.arange(len(claims)), ENTRY_BYTES):
                    if not fill(keys=[key], args=[token, slice_number, batch.heads, batch.items]):
                        return
        self.client.register_script(_MARK)(
            keys=[key], args=[token, segment.horizon_slice, end, run, evicted]
        )

    def drop_before(self, segment: Segment) -> None:
        """Drop slices that no verdict of `segment` looks at; see `IdentityMemory`."""
        known = self._known.get(segment.at)
        if known is not None:
            known.low = max(known.low, segment.horizon_slice)
            for number in [number for number in known.filters if number < known.low]:
                del known.filters[number]
        drop = self.client.register_script(_DROP)
        buckets = buckets_of(self.slice_events)
        for number in range(max(0, segment.horizon_slice - 2), segment.horizon_slice):
            drop(keys=[self._key(segment)], args=[segment.horizon_slice, number, buckets])

    def check_settings(self) -> None:
        """Refuse a Redis that may evict identities: raises ValueError with the remedy."""
        policy = self.client.config_get("maxmemory-policy").get("maxmemory-policy")
        if policy != "noeviction":
            raise ValueError(
                f"Redis may evict identities (maxmemory-policy is {policy}); "
                "set `maxmemory-policy noeviction`"
            )

    def _range_known(self, segment: Segment, start: int) -> _Known | None:
        """Return the filters of everything from the horizon to `start`, read if need be."""
        known = self._known.get(segment.at)
        if known is not None and known.low <= segment.horizon_slice and start <= known.through:
            return known
        before = self._range(segment, start)
        if before is None:
            return None
        known = _Known(segment.horizon_slice, int(before[1]))
        for number in range(segment.horizon_slice, segment.slice + 1):
            known.filters[number] = self._read_filter(segment, number)
        after = self._range(segment, start)
        # Had it been lost and refilled meanwhile, some of what was read may have been missing.
        if after is None or after[0] != before[0]:
            return None
        self._known[segment.at] = known
        return known

    def _range(self, segment: Segment, start: int) -> Any:
        """Return token and F, or None where not everything is there up to `start`."""
        script = self.client.register_script(_RANGE)
        return script(keys=[self._key(segment)], args=[segment.horizon_slice, start])

    def _read_filter(self, segment: Segment, number: int) -> IdentityFilter:
        read = self._filter()
        key, buckets = self._key(segment), buckets_of(self.slice_events)
        for first in range(0, buckets, _LOAD_BUCKETS):
            last = min(first + _LOAD_BUCKETS, buckets)
            keys = [f"{key}:{number}:{bucket}" for bucket in range(first, last)]
            texts: list[Any] = self.client.mget(keys)
            held = np.frombuffer(b"".join(text or b"" for text in texts), np.uint8)
            read.add(words_of(held.reshape(-1, ENTRY_BYTES)))
        return read

    def _find(
        self, segment: Segment, start: int, known: _Known, entries: Entries, words: Any
    ) -> dict[int, bytes] | None:
        """Return the values of the rows that are there, of the oldest slice that has them."""
        find = self.client.register_script(_FIND)
        found: dict[int, bytes] = {}
        for number in range(segment.horizon_slice, segment.slice + 1):
            if number not in known.filters:
                continue
            maybe = np.flatnonzero(known.filters[number].may_hold(words))
            for batch in entries.batches(maybe, FIELD_BYTES):
                answer = find(
                    keys=[self._key(segment)],
                    args=[segment.horizon_slice, start, number, batch.heads, batch.items],
                )
                if answer is None:
                    return None
                for place, value in zip(answer[::2], answer[1::2], strict=True):
                    found.setdefault(int(batch.rows[place]), value)
        return found

    def _append(self, segment: Segment, run: tuple[int, int], entries: Entries, rows: Any) -> bool:
        """Add what is new of a run of records; return False where the memory was lost."""
        append = self.client.register_script(_APPEND)
        start, end = run
        batches = [*entries.batches(rows, ENTRY_BYTES)]
        parts: list[list[int | bytes]] = [
            [segment.slice, batch.heads, batch.items] for batch in batches
        ]
        for number, part in enumerate(parts or [[]], 1):
            # Only the last part moves the marker; the same claims made again are still ours.
            through = end if number >= len(parts) else start
            args = [segment.horizon_slice, start, through, *part]
            if append(keys=[self._key(segment)], args=args) is None:
                return False
        return True

    def _filter(self) -> IdentityFilter:
        return IdentityFilter(self.slice_events)

    def _key(self, segment: Segment) -> str:
        # Slices of another size have other buckets: what was kept there is not looked at.
        at, buckets = segment.at, buckets_of(self.slice_events)
        return f"tollbook:{self.deployment}:{buckets}:{{{at.log}:{at.partition}}}"
