"""Values of events as one text and rows of places in it."""

from itertools import accumulate
from typing import Any

import numpy as np

from ingest.scanning import ROW_ITEMS


def text_and_rows(values: list[list[bytes]]) -> tuple[bytes, Any]:
    """Return the text and the rows of events of so many fields each."""
    rows = np.zeros((len(values), ROW_ITEMS), np.int64)
    flat = [value for event in values for value in event]
    ends = list(accumulate(map(len, flat)))
    for number, (value, end) in enumerate(zip(flat, ends, strict=True)):
        event, field = divmod(number, len(values[0]))
        rows[event, 2 * field : 2 * field + 2] = end - len(value), end
    return b"".join(flat), rows
