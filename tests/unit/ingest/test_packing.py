"""What is packed byte by byte is what Arrow reads, value for value, and what Arrow would write."""

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.event import EPOCH
from ingest.packing import pack
from ingest.scanning import FIELDS, STAMPED, TIME
from ingest.topic import EVENT_SCHEMA, decode_record, encode_record
from tests.unit.ingest.texts import text_and_rows

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9) | st.just(
    "x" * 256
)
_rows = st.fixed_dictionaries(
    {
        "data": st.binary(max_size=9) | st.just(b'{"n":1}' * 40),
        "extensions": st.binary(max_size=3),
        **dict.fromkeys(("tenant", "id", "source", "type", "subject"), _names),
        "time": st.integers(0, 2**52),
        "time_stamped": st.booleans(),
    }
)


def packed(rows: list[dict[str, Any]]) -> bytes:
    values = [
        [row[name] if isinstance(row[name], bytes) else row[name].encode() for name in FIELDS]
        for row in rows
    ]
    text, numbers = text_and_rows(values)
    numbers[:, TIME] = [row["time"] for row in rows]
    numbers[:, STAMPED] = [row["time_stamped"] for row in rows]
    return pack(np.frombuffer(text, np.uint8), numbers, 1)[0][1]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(_rows, min_size=1, max_size=5), times=st.sampled_from([1, 14]))
def test_arrow_reads_what_was_packed(rows: list[dict[str, Any]], times: int) -> None:
    rows = rows * times
    found = decode_record(packed(rows)).to_pylist()
    expected = [row | {"time": EPOCH + timedelta(microseconds=row["time"])} for row in rows]
    assert found == expected


def test_a_record_is_no_longer_than_arrows_own() -> None:
    row = {
        **dict.fromkeys(EVENT_SCHEMA.names, "a"),
        "time": 1,
        "time_stamped": True,
        "data": b"{}",
        "extensions": b"",
    }
    rows = [row] * 100
    own = encode_record(pa.RecordBatch.from_pylist(rows, schema=EVENT_SCHEMA))
    assert len(packed(rows)) <= len(own)
    assert decode_record(packed(rows)).equals(decode_record(own))
