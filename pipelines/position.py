"""Where in the log an event stands: (log, partition, offset, index in the record).

Every row downstream is keyed by a position, so that replaying the log writes the same rows again.
"""

import re
from dataclasses import dataclass

POSITION_BYTES = 9
"""Six for the offset, three for the index."""
_INDEX_BITS = 24
_TEXT = re.compile(r"(\d{1,5})-(\d{1,5})-(\d{1,19})-(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class LogPartition:
    """One partition of one incarnation of the topic."""

    log: int
    partition: int

    def __str__(self) -> str:
        return f"{self.log}/{self.partition}"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an event stands, as people and addresses name it: `log-partition-offset-index`."""

    at: LogPartition
    offset: int
    index: int

    def __str__(self) -> str:
        return f"{self.at.log}-{self.at.partition}-{self.offset}-{self.index}"

    @classmethod
    def from_text(cls, text: str) -> "Position":
        """Read a position; anything else raises ValueError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no position, such as 0-3-1742-0")
        log, partition, offset, index = map(int, match.groups())
        return cls(LogPartition(log, partition), offset, index)


@dataclass(frozen=True, slots=True)
class Log:
    """One incarnation of the topic."""

    log: int
    topic: str
    topic_id: str
    partitions: int


def version_of(generation: int, last_offset: int) -> bytes:
    """Return the version of a window row, 16 bytes, little-endian as ClickHouse reads UInt128.

    A row holds its segment's value up to and including `last_offset`; a later rebuild
    `generation` outranks every offset.
    """
    return ((generation << 96) | (last_offset << 32)).to_bytes(16, "little")


def position_from_bytes(data: bytes) -> tuple[int, int]:
    """Return (offset, index) of nine bytes that sort as positions do."""
    number = int.from_bytes(data, "big")
    return number >> _INDEX_BITS, number & ((1 << _INDEX_BITS) - 1)
