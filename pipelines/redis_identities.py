"""The memory of identities in Redis: fast, complete under its marker, and free to be lost.

Identities of a partition lie in slices (dropped whole when the horizon passes them), packed into
small hashes by identity. A marker says which range [low slice, F) Redis holds completely, for
which run of the server, under which token, and after how many evictions; a Redis that was flushed,
restarted, restored or made to evict fails that check, and the range is refilled. Holding less
makes it slower, never wrong.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import redis

from pipelines.position import POSITION_BYTES, position_bytes, position_from_bytes
from pipelines.segment import SLICE_EVENTS, Segment
from pipelines.verdict import Claims, Seen

_CLAIM_BYTES = 29
_CLAIM_ROWS = 10_000
"""A script holds Redis up while it runs: about 20 ms."""
_FILL_ROWS = 5_000
_BUCKETS_MAX = 65536
_BUCKET_ENTRIES = 32
"""Of a full slice: fewer cost keys of their own, more are searched for long."""
_DROP_BUCKETS = 4096

# A claim is 29 bytes: bucket 2, field 10, value 17 (position 9, body hash 8).
_CLAIM = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
local m = redis.call('HMGET', KEYS[1]..':m', 'run', 'token', 'low', 'F', 'evicted')
local slice, low = tonumber(ARGV[1]), tonumber(ARGV[2])
local a, b = tonumber(ARGV[3]), tonumber(ARGV[4])
if m[1] ~= run or m[5] ~= evicted or not m[2] then return false end
if redis.call('GET', KEYS[1]..':t') ~= m[2] then return false end
if tonumber(m[3]) > low or a > tonumber(m[4]) then return false end
local s, out, n = ARGV[5], {}, 0
for i = 1, #s, 29 do
  local k, f = string.sub(s, i, i + 1), string.sub(s, i + 2, i + 11)
  local v = string.sub(s, i + 12, i + 28)
  local old = false
  for older = low, slice - 1 do
    old = redis.call('HGET', KEYS[1]..':'..older..':'..k, f)
    if old then break end
  end
  if not old then
    local key = KEYS[1]..':'..slice..':'..k
    if redis.call('HSETNX', key, f, v) == 0 then old = redis.call('HGET', key, f) end
  end
  if old and old ~= v then
    out[n + 1] = (i - 1) / 29
    out[n + 2] = old
    n = n + 2
  end
end
if b > tonumber(m[4]) then redis.call('HSET', KEYS[1]..':m', 'F', b) end
return out
"""

_FILL = """
local s, p = ARGV[2], KEYS[1]..':'..ARGV[1]..':'
for i = 1, #s, 29 do
  local k, f = string.sub(s, i, i + 1), string.sub(s, i + 2, i + 11)
  redis.call('HSET', p..k, f, string.sub(s, i + 12, i + 28))
end
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
for n = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local k = string.char(math.floor(n / 256), n % 256)
  redis.call('UNLINK', KEYS[1]..':'..ARGV[2]..':'..k)
end
return 1
"""


def buckets_of(slice_events: int) -> int:
    """Return how many buckets a slice of so many events has: a power of two."""
    wanted = max(1, slice_events // _BUCKET_ENTRIES)
    return min(_BUCKETS_MAX, 1 << (wanted - 1).bit_length())


def pack(claims: Claims, buckets: int) -> bytes:
    """Return claims as the scripts read them, 29 bytes each."""
    packed = np.concatenate(
        [
            claims.identities[:, :12],
            position_bytes(claims.offsets, claims.indexes),
            claims.body_hashes,
        ],
        axis=1,
    )
    packed[:, :2] &= np.frombuffer((buckets - 1).to_bytes(2, "big"), np.uint8)
    return packed.tobytes()


@dataclass(slots=True)
class RedisIdentities:
    """An `IdentityMemory` on a Redis that must not evict."""

    client: redis.Redis
    deployment: str
    """Keeps deployments that share a Redis apart."""
    slice_events: int = SLICE_EVENTS

    def claim(
        self, segment: Segment, start: int, end: int, claims: Claims
    ) -> Mapping[int, Seen] | None:
        """Claim identities; see `IdentityMemory.claim`."""
        claim = self.client.register_script(_CLAIM)
        packed = pack(claims, buckets_of(self.slice_events))
        hits: dict[int, Seen] = {}
        for first in range(0, max(len(packed), 1), _CLAIM_BYTES * _CLAIM_ROWS):
            part = packed[first : first + _CLAIM_BYTES * _CLAIM_ROWS]
            # Only the last part moves the marker; the same claims made again are still ours.
            is_last = first + _CLAIM_BYTES * _CLAIM_ROWS >= len(packed)
            bounds = [segment.slice, segment.horizon_slice, start, end if is_last else start]
            answer = claim(keys=[self._key(segment)], args=[*bounds, part])
            if answer is None:
                return None
            for row, old in zip(answer[::2], answer[1::2], strict=True):
                place = position_from_bytes(old[:POSITION_BYTES])
                hits[first // _CLAIM_BYTES + int(row)] = Seen(*place, old[POSITION_BYTES:])
        return hits

    def refill(
        self, segment: Segment, end: int, slices: Iterable[tuple[int, Iterable[Claims]]]
    ) -> None:
        """Take the identities of `[horizon, end)` and vouch for them; see `IdentityMemory`."""
        key, token = self._key(segment), uuid.uuid4().hex
        run = self.client.info("server")["run_id"]
        evicted = self.client.info("stats")["evicted_keys"]
        self.client.set(f"{key}:t", token)
        fill = self.client.register_script(_FILL)
        for slice_number, parts in slices:
            for claims in parts:
                packed = pack(claims, buckets_of(self.slice_events))
                for at in range(0, len(packed), _CLAIM_BYTES * _FILL_ROWS):
                    fill(
                        keys=[key], args=[slice_number, packed[at : at + _CLAIM_BYTES * _FILL_ROWS]]
                    )
        self.client.register_script(_MARK)(
            keys=[key], args=[token, segment.horizon_slice, end, run, evicted]
        )

    def drop_before(self, segment: Segment) -> None:
        """Drop slices that no verdict of `segment` looks at; see `IdentityMemory`."""
        drop = self.client.register_script(_DROP)
        buckets = buckets_of(self.slice_events)
        step = min(buckets, _DROP_BUCKETS)
        for number in range(max(0, segment.horizon_slice - 2), segment.horizon_slice):
            for bucket in range(0, buckets, step):
                drop(
                    keys=[self._key(segment)],
                    args=[segment.horizon_slice, number, bucket, bucket + step - 1],
                )

    def check_settings(self) -> None:
        """Refuse a Redis that may evict identities: raises ValueError with the remedy."""
        policy = self.client.config_get("maxmemory-policy").get("maxmemory-policy")
        if policy != "noeviction":
            raise ValueError(
                f"Redis may evict identities (maxmemory-policy is {policy}); "
                "set `maxmemory-policy noeviction`"
            )

    def _key(self, segment: Segment) -> str:
        # Slices of another size have other buckets: what was kept there is not looked at.
        at, buckets = segment.at, buckets_of(self.slice_events)
        return f"tollbook:{self.deployment}:{buckets}:{{{at.log}:{at.partition}}}"
