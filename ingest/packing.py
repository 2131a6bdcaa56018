"""Packs columns into the value of a record, laid out as Arrow's own writer would.

All records share their schema message, and their batch messages differ in numbers only. So both
are taken once from a record that Arrow wrote, and the numbers are filled in: Arrow's writer costs
more than everything else about a request of one event.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.topic import EVENT_SCHEMA, encode_record

PAYLOADS = ("data", "extensions")
NAMES = ("tenant", "id", "source", "type", "subject")
_TEXTS = (*PAYLOADS, *NAMES)
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_PADDING = tuple(bytes(size) for size in range(8))

# Fields of the flatbuffers `Message` and `RecordBatch` of Arrow's format, by number.
_MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 2, 3
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS = 0, 1, 2


class _Message:
    """What Arrow writes before the body of a batch, with places for its numbers."""

    def __init__(self) -> None:
        row = dict.fromkeys(NAMES, "") | dict.fromkeys(PAYLOADS, b"")
        batch = pa.RecordBatch.from_pylist(
            [row | {"time": 0, "time_stamped": False}], schema=EVENT_SCHEMA
        )
        stream = encode_record(batch)
        start = 8 + struct.unpack_from("<i", stream, 4)[0]
        size = struct.unpack_from("<i", stream, start + 4)[0]
        self.schema = stream[:start]
        self._bytes = bytearray(stream[start : start + 8 + size])
        message = self._follow(8)
        header = self._follow(self._field(message, _MESSAGE_HEADER))
        self._body_length_at = self._field(message, _MESSAGE_BODY_LENGTH)
        self._length_at = self._field(header, _BATCH_LENGTH)
        self._nodes_at = self._follow(self._field(header, _BATCH_NODES)) + 4
        self._buffers_at = self._follow(self._field(header, _BATCH_BUFFERS)) + 4
        self._nodes = struct.Struct(f"<{2 * len(EVENT_SCHEMA)}q")
        self._buffers = struct.Struct(f"<{2 * self._unsigned(self._buffers_at - 4)}q")

    def _unsigned(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._bytes, at)[0])

    def _follow(self, at: int) -> int:
        return at + self._unsigned(at)

    def _field(self, table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", self._bytes, table)[0]
        offset = int(struct.unpack_from("<H", self._bytes, vtable + 4 + 2 * number)[0])
        if not offset:
            raise RuntimeError(f"this Arrow writes no field {number} where one was expected")
        return table + offset

    def of(self, rows: int, body_length: int, buffers: Sequence[int]) -> bytes:
        """Return the message about so many rows; each buffer is two numbers, offset and length."""
        struct.pack_into("<q", self._bytes, self._length_at, rows)
        struct.pack_into("<q", self._bytes, self._body_length_at, body_length)
        self._nodes.pack_into(self._bytes, self._nodes_at, *((rows, 0) * len(EVENT_SCHEMA)))
        self._buffers.pack_into(self._bytes, self._buffers_at, *buffers)
        return bytes(self._bytes)


_message = _Message()


def pack(texts: Sequence[Sequence[Any]], times: bytes, stamped: bytes) -> bytes:
    """Return the value of a record of at least one event.

    `texts` are the columns `PAYLOADS`, then `NAMES`; `times` are 64-bit microseconds, `stamped`
    a byte of 0 or 1 for each event.
    """
    rows = len(stamped)
    width = rows + 1 + (rows + 1) % 2
    joined, lengths = _joined(texts, rows)
    offsets = np.zeros((len(_TEXTS), width), dtype=np.int32)
    np.cumsum(lengths, axis=1, dtype=np.int32, out=offsets[:, 1 : rows + 1])
    bits = _bits(stamped)
    parts = [_message.schema, b"", offsets.tobytes(), times, bits]
    times_at = 4 * width * len(_TEXTS)
    end = times_at + len(times) + len(bits)
    buffers: list[tuple[int, ...]] = []
    for place, text in enumerate(joined):
        size = len(text)
        parts += (text, _PADDING[-size % 8])
        buffers.append((0, 0, 4 * width * place, 4 * (rows + 1), end, size))
        end += size + -size % 8
    fixed = (0, 0, times_at, 8 * rows, 0, 0, times_at + 8 * rows, (rows + 7) // 8)
    data, extensions, *names = buffers
    parts[1] = _message.of(rows, end, [*chain.from_iterable([*names, fixed, data, extensions])])
    parts.append(_END)
    return b"".join(parts)


def _joined(texts: Sequence[Sequence[Any]], rows: int) -> tuple[list[bytes], Any]:
    """Return each column's text as bytes, and the length in bytes of every value."""
    joined = [b"".join(values) for values in texts[: len(PAYLOADS)]]
    measured = list(texts)
    for place in range(len(PAYLOADS), len(_TEXTS)):
        text = "".join(texts[place])
        encoded = text.encode()
        if len(encoded) != len(text):
            measured[place] = [value.encode() for value in texts[place]]
        joined.append(encoded)
    try:
        # Most values are short, and a byte for each is the quickest way into an array.
        lengths = np.frombuffer(bytes(map(len, chain.from_iterable(measured))), dtype=np.uint8)
    except ValueError:
        lengths = np.fromiter(
            map(len, chain.from_iterable(measured)), dtype=np.int32, count=rows * len(_TEXTS)
        )
    return joined, lengths.reshape(len(_TEXTS), rows)


def _bits(stamped: bytes) -> bytes:
    """Return a bitmap, padded to whole 64 bits."""
    size = 8 * -(-len(stamped) // 64)
    if b"\x01" not in stamped:
        return bytes(size)
    bits = np.packbits(np.frombuffer(stamped, dtype=np.uint8), bitorder="little").tobytes()
    return bits.ljust(size, b"\x00")
