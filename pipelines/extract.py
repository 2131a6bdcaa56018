"""Reads JSON paths out of a column of JSON texts, all events at once.

Each path gives a list with the JSON text of its value per event, or None where the event lacks
it. One decode serves all paths; only a column with a text that does not fit (not an object, or a
plain value where a path goes on) is walked event by event.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

RawColumn = list[bytes | None]
_NULL = b"null"
_FIELD_PREFIX = "f_"
"""Keeps members called like Python's own attributes out of their way."""


def extract(texts: Sequence[bytes], paths: Sequence[str]) -> dict[str, RawColumn]:
    """Return per path (`$.a.b`) the JSON text of its value in each of `texts`, or None."""
    columns: dict[str, RawColumn] = {}
    for layer in _layers(tuple(sorted(set(paths)))):
        columns.update(_extract_layer(texts, layer))
    return columns


def _extract_layer(texts: Sequence[bytes], layer: tuple[str, ...]) -> dict[str, RawColumn]:
    joined = b"[" + b",".join([text or _NULL for text in texts]) + b"]"
    try:
        rows = _decoder(layer).decode(joined)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        rows = None
    if rows is None or len(rows) != len(texts):
        return {path: [_walk(text, path.split(".")[1:]) for text in texts] for path in layer}
    return {path: _column(rows, _field_names(path)) for path in layer}


def _column(rows: list[Any], names: list[str]) -> RawColumn:
    for name in names[:-1]:
        rows = [None if row is None else getattr(row, name) for row in rows]
    last = names[-1]
    values = [None if row is None else getattr(row, last) for row in rows]
    raws = [None if value is None else bytes(value) for value in values]
    return [None if raw == _NULL else raw for raw in raws]


def _walk(text: bytes, names: list[str]) -> bytes | None:
    raw: bytes = text
    for name in names:
        try:
            members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if name not in members:
            return None
        raw = bytes(members[name])
    return None if raw == _NULL else raw


def _layers(paths: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Split paths so that within a layer none is the beginning of another."""
    layers: list[list[str]] = []
    for path in paths:
        for layer in layers:
            if not any(path.startswith(other + ".") for other in layer):
                layer.append(path)
                break
        else:
            layers.append([path])
    return [tuple(layer) for layer in layers]


@lru_cache(maxsize=256)
def _decoder(layer: tuple[str, ...]) -> "msgspec.json.Decoder[list[Any]]":
    tree: dict[str, Any] = {}
    for path in layer:
        node = tree
        for name in path.split(".")[1:]:
            node = node.setdefault(name, {})
    row: Any = _struct(tree) | None
    return msgspec.json.Decoder(list[row])


def _struct(tree: dict[str, Any]) -> Any:
    fields: list[tuple[str, Any, Any]] = []
    for name, children in tree.items():
        kind = _struct(children) | None if children else msgspec.Raw
        default = None if children else msgspec.Raw(_NULL)
        fields.append((_FIELD_PREFIX + name, kind, default))
    return msgspec.defstruct("Data", fields, gc=False, rename=lambda f: f[len(_FIELD_PREFIX) :])


def _field_names(path: str) -> list[str]:
    return [_FIELD_PREFIX + name for name in path.split(".")[1:]]
