"""Lays events out as records, one per partition: a loop over bytes, compiled.

A record is one Arrow stream: a head that all records share but for its numbers, a body, an end.
Everything in it begins at a multiple of 8 bytes.
"""

import numpy as np

from compiled.memory import (
    CHUNK_BYTES,
    byte_at,
    compiled,
    copy_byte,
    copy_chunk,
    copy_half,
    copy_word,
    inlined,
    long_at,
    put_byte,
    put_int,
    put_long,
)
from ingest.scanning import FIELDS, ROW_BYTES, STAMPED, TIME
from ingest.topic import SPREAD_START, spread_mixed, spread_on

END_BYTES = 8
_SUBJECT = FIELDS.index("subject")
_NAMES = 5
"""Fields before time and stamp; two come after them."""
_COLUMNS = len(FIELDS) + 2
_spread_on, _spread_mixed = inlined(spread_on), inlined(spread_mixed)


@inlined
def _padded(size):
    return (size + 7) & ~7


@inlined
def _fixed_sizes(events):
    """Return the bytes of one column's offsets, of the times, and of the stamps."""
    return _padded(4 * (events + 1)), 8 * events, _padded((events + 7) // 8)


@compiled
def _body_size(events, sizes):
    offsets, times, stamps = _fixed_sizes(events)
    size = len(sizes) * offsets + times + stamps
    for each in sizes:
        size += _padded(each)
    return size


@compiled
def _put_buffers(words, at, begin, size):
    """Note an absent bitmap of nulls and where a buffer lies; return the place of the next."""
    words[at], words[at + 1] = 0, 0
    words[at + 2], words[at + 3] = begin, size
    return at + 4


@compiled
def _open_record(words, head, numbers, events, sizes, begins):
    """Fill in the numbers of a record's head, and where in its body each field's text begins."""
    length_at, body_length_at, nodes_at, at = numbers
    offsets, times, stamps = _fixed_sizes(events)
    words[head + length_at] = events
    words[head + body_length_at] = _body_size(events, sizes)
    for column in range(_COLUMNS):
        words[head + nodes_at + 2 * column] = events
    times_at = len(sizes) * offsets
    begin = times_at + times + stamps
    at += head
    for field in range(len(sizes)):
        if field == _NAMES:
            at = _put_buffers(words, at, times_at, 8 * events)
            at = _put_buffers(words, at, times_at + times, (events + 7) // 8)
        at = _put_buffers(words, at, field * offsets, 4 * (events + 1))
        words[at], words[at + 1] = begin, sizes[field]
        at += 2
        begins[field] = begin
        begin += _padded(sizes[field])


@compiled
def _name_on(hashed, text, line, field):
    """Return what hashed bytes and a name of the row are."""
    for at in range(long_at(line, 16 * field), long_at(line, 16 * field + 8)):
        hashed = _spread_on(hashed, byte_at(text, at))
    return hashed


@compiled
def _choose_homes(text, rows, partitions, homes):
    """Fill in the partition of each row."""
    tenant, started = -1, 0
    for row in range(len(homes)):
        line = rows + ROW_BYTES * row
        if long_at(line, 0) != tenant:
            tenant = long_at(line, 0)
            started = _spread_on(_name_on(SPREAD_START, text, line, 0), 0xFF)
        homes[row] = _spread_mixed(_name_on(started, text, line, _SUBJECT)) % partitions


@compiled
def lay_out(text, rows, partitions, head, numbers):
    """Return the records of all events behind each other, and where each partition's ends.

    Args:
        text: an array of bytes.
        rows: those of `ingest.scanning`.
        partitions: how many there are; see `ingest.topic.partition_of`.
        head: the bytes of a record before its body, with 0 for its numbers.
        numbers: the places in the head, in words of 8 bytes, of the number of events, the length
            of the body, the nodes and the buffers.
    """
    fields = len(rows[0]) // 2 - 1
    homes = np.empty(len(rows), np.int64)
    _choose_homes(text.ctypes.data, rows.ctypes.data, partitions, homes)
    events = np.zeros(partitions, np.int64)
    sizes = np.zeros((partitions, fields), np.int64)
    for row in range(len(rows)):
        home = homes[row]
        events[home] += 1
        for field in range(fields):
            sizes[home, field] += rows[row, 2 * field + 1] - rows[row, 2 * field]
    ends = np.zeros(partitions, np.int64)
    end = 0
    for home in range(partitions):
        if events[home]:
            end += len(head) + _body_size(events[home], sizes[home]) + END_BYTES
        ends[home] = end
    records = np.zeros(end, np.uint8)
    words, halves = records.view(np.int64), records.view(np.int32)
    begins = np.zeros((partitions, fields), np.int64)
    bodies = np.zeros(partitions, np.int64)
    begin = 0
    for home in range(partitions):
        if events[home]:
            records[begin : begin + len(head)] = head
            _open_record(words, begin // 8, numbers, events[home], sizes[home], begins[home])
            halves[ends[home] // 4 - 2] = -1
            bodies[home] = records.ctypes.data + begin + len(head)
        begin = ends[home]
    _fill(text.ctypes.data, rows.ctypes.data, homes, events, bodies, begins)
    return records, ends


@inlined
def _copy(to, at, size):
    """Copy so many bytes from the second address to the first; the two must not overlap."""
    if size >= CHUNK_BYTES:
        for done in range(0, size - CHUNK_BYTES, CHUNK_BYTES):
            copy_chunk(to + done, at + done)
        copy_chunk(to + size - CHUNK_BYTES, at + size - CHUNK_BYTES)
    elif size >= 8:
        copy_word(to, at)
        copy_word(to + size - 8, at + size - 8)
    elif size >= 4:
        copy_half(to, at)
        copy_half(to + size - 4, at + size - 4)
    else:
        for done in range(size):
            copy_byte(to + done, at + done)


@compiled
def _fill(text, rows, homes, events, bodies, begins):
    """Copy the values of events into the bodies of their records, which are given by address."""
    fields = begins.shape[1]
    reached = begins.copy()
    taken = np.zeros(len(events), np.int64)
    for row in range(len(homes)):
        line, home = rows + ROW_BYTES * row, homes[row]
        body, number = bodies[home], taken[home]
        taken[home] += 1
        offsets, times, _ = _fixed_sizes(events[home])
        for field in range(fields):
            begin = long_at(line, 16 * field)
            size = long_at(line, 16 * field + 8) - begin
            _copy(body + reached[home, field], text + begin, size)
            reached[home, field] += size
            offset = reached[home, field] - begins[home, field]
            put_int(body + field * offsets, 4 * (number + 1), offset)
        times_at = body + fields * offsets
        put_long(times_at, 8 * number, long_at(line, 8 * TIME))
        if long_at(line, 8 * STAMPED):
            bit = times_at + times + number // 8
            put_byte(bit, 0, byte_at(bit, 0) | (1 << (number & 7)))
