"""Identities as ClickHouse keeps them: complete below what was written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.identity import BODY_HASH_BYTES, IDENTITY_BYTES
from pipelines.position import LogPartition
from pipelines.segment import Segment, SliceStart
from pipelines.verdict import Claims, Seen

_LOOKUP_ROWS = 5_000


@dataclass(slots=True)
class ClickHouseArchive:
    """An `IdentityArchive` over the table usage_identities."""

    client: Any

    def slices(
        self, segment: Segment, slice_starts: Mapping[int, SliceStart], end: int
    ) -> Iterable[tuple[int, Iterable[Claims]]]:
        """Return the identities of `[horizon, end)` by slice; see `IdentityArchive`."""
        numbers = sorted(n for n in slice_starts if n >= segment.horizon_slice)
        for number in numbers:
            start = slice_starts[number].offset
            stop = min([end, *(slice_starts[n].offset for n in numbers if n > number)])
            if start < stop:
                yield number, self._range(segment.at, start, stop)

    def find(self, at: LogPartition, identities: Sequence[bytes], below: int) -> dict[bytes, Seen]:
        """Return where identities were first seen; see `IdentityArchive`."""
        found: dict[bytes, Seen] = {}
        for first in range(0, len(identities), _LOOKUP_ROWS):
            asked = identities[first : first + _LOOKUP_ROWS]
            listed = ",".join(f"unhex('{identity.hex()}')" for identity in asked)
            answer = self.client.query(
                "SELECT hex(identity), offset, index, hex(body_hash) FROM usage_identities"
                f" WHERE identity IN ({listed}) AND log = {at.log}"
                f" AND partition = {at.partition} AND offset < {below}"
                " ORDER BY offset DESC, index DESC",
                settings={"max_query_size": 4_000_000},
            )
            for identity, offset, index, body_hash in answer.result_rows:
                found[bytes.fromhex(identity)] = Seen(offset, index, bytes.fromhex(body_hash))
        return found

    def _range(self, at: LogPartition, start: int, stop: int) -> Iterator[Claims]:
        sql = (
            "SELECT identity, body_hash, offset, index FROM usage_identities"
            f" WHERE log = {at.log} AND partition = {at.partition}"
            f" AND offset >= {start} AND offset < {stop}"
        )
        with self.client.query_column_block_stream(
            sql, query_formats={"FixedString": "bytes"}
        ) as stream:
            for identities, body_hashes, offsets, indexes in stream:
                yield Claims(
                    np.frombuffer(b"".join(identities), np.uint8).reshape(-1, IDENTITY_BYTES),
                    np.frombuffer(b"".join(body_hashes), np.uint8).reshape(-1, BODY_HASH_BYTES),
                    np.array(offsets, np.uint64),
                    np.array(indexes, np.uint32),
                )
