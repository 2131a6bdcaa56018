"""Packs events into the values of records, laid out as Arrow's own writer would.

All records share their head, the schema and what says where the columns lie, but for its numbers.
So it is taken once from a record that Arrow wrote, and the numbers are filled in: Arrow's writer
costs more than everything else about a request of one event.
"""

import struct
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.layout import lay_out
from ingest.scanning import FIELDS, TIME
from ingest.topic import EVENT_SCHEMA, encode_record

# Fields of the flatbuffers `Message` and `RecordBatch` of Arrow's format, by number.
_MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 2, 3
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS = 0, 1, 2


class _Head:
    """What Arrow writes before the body of a batch, and the places of its numbers."""

    def __init__(self) -> None:
        row = dict.fromkeys(FIELDS, b"") | {"time": 0, "time_stamped": False}
        batch = pa.RecordBatch.from_pylist([row], schema=EVENT_SCHEMA)
        stream = encode_record(batch)
        start = 8 + struct.unpack_from("<i", stream, 4)[0]
        self._stream = stream
        message = self._follow(start + 8)
        header = self._follow(self._field(message, _MESSAGE_HEADER))
        places = (
            self._field(header, _BATCH_LENGTH),
            self._field(message, _MESSAGE_BODY_LENGTH),
            self._follow(self._field(header, _BATCH_NODES)) + 4,
            self._follow(self._field(header, _BATCH_BUFFERS)) + 4,
        )
        end = start + 8 + struct.unpack_from("<i", stream, start + 4)[0]
        if any(place % 8 for place in (*places, end)):
            raise RuntimeError("this Arrow does not align numbers to their size")
        self.numbers = tuple(place // 8 for place in places)
        """In words of 8 bytes."""
        self.bytes = np.frombuffer(stream[:end], np.uint8)

    def _follow(self, at: int) -> int:
        return at + int(struct.unpack_from("<I", self._stream, at)[0])

    def _field(self, table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", self._stream, table)[0]
        offset = int(struct.unpack_from("<H", self._stream, vtable + 4 + 2 * number)[0])
        if not offset:
            raise RuntimeError(f"this Arrow writes no field {number} where one was expected")
        return table + offset


_head = _Head()


def pack(text: Any, rows: Any, partitions: int, bytes_max: int) -> list[tuple[int, Any]]:
    """Return the records of events, each an array of bytes with its partition, in their order.

    Args:
        text: an array of bytes.
        rows: those of `ingest.scanning`.
        partitions: how many there are.
        bytes_max: of a record that holds more than one event.
    """
    if len(text) > bytes_max and len(rows) > 1:
        size = int(rows[:, 1:TIME:2].sum() - rows[:, 0:TIME:2].sum())
        if size > bytes_max:
            middle = len(rows) // 2
            return pack(text, rows[:middle], partitions, bytes_max) + pack(
                text, rows[middle:], partitions, bytes_max
            )
    return _packed(text, rows, partitions) if len(rows) else []


def _packed(text: Any, rows: Any, partitions: int) -> list[tuple[int, Any]]:
    """Return a record for each partition that has events."""
    records, ends = lay_out(text, rows, partitions, _head.bytes, _head.numbers)
    found = []
    begin = 0
    for partition, end in enumerate(ends.tolist()):
        if end > begin:
            found.append((partition, records[begin:end]))
            begin = end
    return found
