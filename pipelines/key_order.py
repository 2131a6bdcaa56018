"""Puts rows into the order of a table's key, by column.

A server that is handed rows in order need not compare them again, text by text: that is most of
what it spends on an insert. Here texts are compared once each, and rows by one number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SIZE_MAX = 1 << 62


def in_order(table: Any, names: Sequence[str]) -> Any:
    """Return the rows of a table by some columns, which tell them apart, in one chunk a column.

    The columns are texts as dictionaries, one for all chunks; whole numbers; or times. Texts go by
    their bytes.
    """
    rows = table.num_rows
    key, size = np.zeros(rows, np.int64), 1
    alike = {name for name in table.column_names if _is_one_text(table.column(name))}
    for name in names if rows else ():
        ranks, count = (None, 1) if name in alike else _ranks(table.column(name).combine_chunks())
        if count == 1:
            alike.add(name)
            continue
        if size * count >= _SIZE_MAX:
            key, size = _compacted(key)
        if size * count >= _SIZE_MAX:
            ranks, count = _compacted(ranks)
        key *= count
        key += ranks
        size *= count
    if (key[1:] >= key[:-1]).all():
        return table.combine_chunks()
    order = pa.array(np.argsort(key))
    # Column by column, so that no second copy of the table is in memory beside the result.
    columns = [
        column.combine_chunks() if name in alike else column.combine_chunks().take(order)
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, schema=table.schema)


def _is_one_text(column: Any) -> bool:
    is_coded = pa.types.is_dictionary(column.type) and column.num_chunks > 0
    return is_coded and len(column.chunk(0).dictionary) == 1


def _ranks(column: Any) -> tuple[Any, int]:
    """Return a number per row in the order of the values, and how many numbers there can be."""
    if pa.types.is_dictionary(column.type):
        texts = column.dictionary.cast(pa.binary())
        ranks = np.zeros(len(texts), np.int64)
        ranks[pc.sort_indices(texts).to_numpy()] = np.arange(len(texts))
        # numpy takes its quick ways only with places of its own kind.
        return ranks.take(column.indices.to_numpy().astype(np.intp)), len(texts)
    values = column.cast(pa.int64()).to_numpy()
    least, greatest = int(values.min()), int(values.max())
    if greatest - least >= _SIZE_MAX:
        return _compacted(values)
    return values - least, greatest - least + 1


def _compacted(values: Any) -> tuple[Any, int]:
    distinct, ranks = np.unique(values, return_inverse=True)
    return ranks, len(distinct)
