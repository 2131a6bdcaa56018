"""Reads JSON paths out of a column of JSON texts, all events at once.

One decode serves all paths. Where every event has what is expected at a path (a whole number, a
text), the values come as such; else as the JSON text of each value, to be looked at one by one.
Only a column with a text that does not fit at all (not an object, or a plain value where a path
goes on) is walked event by event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import msgspec

Kind = Literal["number", "text", "truth", "raw"]
"""What is expected at a path: whole numbers, texts, true or false, or anything (the JSON text)."""

_NULL = b"null"
_DECODE_TEXTS = 2_000
"""So many decoded at a time stay in the processor's caches until their values are taken."""
_FIELD_PREFIX = "f_"
"""Keeps members called like Python's own attributes out of their way."""
_TYPES: Mapping[Kind, Any] = {
    "number": int | None, "text": str | None, "truth": bool | None, "raw": msgspec.Raw,
}  # fmt: skip
_DEFAULTS: Mapping[Kind, Any] = {
    "number": None, "text": None, "truth": None, "raw": msgspec.Raw(_NULL),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """The values at one path, None where an event has none; of kind raw, as bytes of JSON text."""

    kind: Kind
    values: list[Any]


def extract(texts: Sequence[bytes], kinds: Mapping[str, Kind]) -> dict[str, Column]:
    """Return per path (`$.a.b`) its value in each of `texts`, as expected or as JSON text."""
    columns: dict[str, Column] = {}
    for layer in _layers(tuple(sorted(kinds))):
        columns.update(_extract_layer(texts, tuple((path, kinds[path]) for path in layer)))
    return columns


def _extract_layer(
    texts: Sequence[bytes], layer: tuple[tuple[str, Kind], ...]
) -> dict[str, Column]:
    anything = tuple((path, _raw(kind)) for path, kind in layer)
    for kinds in (layer, anything):
        columns = _decode(texts, kinds)
        if columns is not None:
            return columns
    return {
        path: Column("raw", [_walk(text, path.split(".")[1:]) for text in texts])
        for path, _ in layer
    }


def _decode(
    texts: Sequence[bytes], kinds: tuple[tuple[str, Kind], ...]
) -> dict[str, Column] | None:
    """Return the columns of paths; None where a text does not fit."""
    decoder = _decoder(kinds)
    columns = {path: Column(kind, []) for path, kind in kinds}
    for first in range(0, len(texts), _DECODE_TEXTS):
        part = texts[first : first + _DECODE_TEXTS]
        try:
            rows = decoder.decode(b"[" + b",".join([text or _NULL for text in part]) + b"]")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if len(rows) != len(part):
            return None
        for path, kind in kinds:
            columns[path].values.extend(_values(rows, path, kind))
    return columns


def _raw(_: Kind) -> Kind:
    return "raw"


def _values(rows: list[Any], path: str, kind: Kind) -> list[Any]:
    names = [_FIELD_PREFIX + name for name in path.split(".")[1:]]
    has_gaps = None in rows
    for name in names[:-1]:
        rows = [None if row is None else getattr(row, name) for row in rows]
        has_gaps = has_gaps or None in rows
    if has_gaps:
        last = names[-1]
        values = [None if row is None else getattr(row, last) for row in rows]
    else:
        values = list(map(attrgetter(names[-1]), rows))
    if kind != "raw":
        return values
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
def _decoder(layer: tuple[tuple[str, Kind], ...]) -> "msgspec.json.Decoder[list[Any]]":
    tree: dict[str, Any] = {}
    for path, kind in layer:
        *parents, last = path.split(".")[1:]
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = kind
    row: Any = _struct(tree) | None
    return msgspec.json.Decoder(list[row])


def _struct(tree: dict[str, Any]) -> Any:
    fields: list[tuple[str, Any, Any]] = []
    for name, below in tree.items():
        if isinstance(below, dict):
            fields.append((_FIELD_PREFIX + name, _struct(below) | None, None))
        else:
            fields.append((_FIELD_PREFIX + name, _TYPES[below], _DEFAULTS[below]))
    return msgspec.defstruct("Data", fields, gc=False, rename=lambda f: f[len(_FIELD_PREFIX) :])
