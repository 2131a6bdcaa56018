"""Packs columns into the value of a record, laid out as Arrow's own writer would.

All records share their schema message, and their batch messages differ in numbers only. So both
are taken once from a record that Arrow wrote, and the numbers are filled in: Arrow's writer costs
more than everything else about a request of one event.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.scanning import FIELDS, STAMPED, TIME, lay_out
from ingest.topic import EVENT_SCHEMA, encode_record

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"

# Fields of the flatbuffers `Message` and `RecordBatch` of Arrow's format, by number.
_MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 2, 3
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS = 0, 1, 2


class _Message:
    """What Arrow writes before the body of a batch, with places for its numbers."""

    def __init__(self) -> None:
        row = dict.fromkeys(FIELDS, b"") | {"time": 0, "time_stamped": False}
        batch = pa.RecordBatch.from_pylist([row], schema=EVENT_SCHEMA)
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


def pack(text: Any, rows: Any) -> bytes:
    """Return the value of a record of at least one event.

    `text` is an array of bytes; `rows` are those of `ingest.scanning`.
    """
    count = len(rows)
    width = count + 1 + (count + 1) % 2
    times_at = 4 * width * len(FIELDS)
    bits_at = times_at + 8 * count
    texts_at = bits_at + 8 * -(-count // 64)
    sizes = (rows[:, 1:TIME:2] - rows[:, 0:TIME:2]).sum(axis=0).tolist()
    starts = [*accumulate(((size + 7) & ~7 for size in sizes), initial=texts_at)]
    body = np.zeros(starts[-1], np.uint8)
    offsets = body[:times_at].view(np.int32).reshape(len(FIELDS), width)
    lay_out(text, rows, np.array(starts[:-1]), offsets, body)
    body[times_at:bits_at].view(np.int64)[:] = rows[:, TIME]
    bits = np.packbits(rows[:, STAMPED].astype(np.bool_), bitorder="little")
    body[bits_at : bits_at + len(bits)] = bits
    buffers = [
        (0, 0, 4 * width * place, 4 * (count + 1), start, size)
        for place, (start, size) in enumerate(zip(starts[:-1], sizes, strict=True))
    ]
    fixed = (0, 0, times_at, 8 * count, 0, 0, bits_at, (count + 7) // 8)
    *names, data, extensions = buffers
    numbers = [*chain.from_iterable([*names, fixed, data, extensions])]
    message = _message.of(count, len(body), numbers)
    return b"".join((_message.schema, message, body.data, _END))
