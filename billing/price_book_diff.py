"""What differs between two versions of price books: charge by charge, field by field.

Compared is what is stored and hashed, with defaults left out: versions with the same content
hash do not differ, and versions with another one do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from billing.price_book import BookVersion, to_content


@dataclass(frozen=True, slots=True)
class Change:
    """One field with its text before and after; None where it is not given."""

    charge: str
    """Empty for fields of the version itself."""
    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Keys of charges that came and went, and the fields of those in both that changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Change, ...]

    def to_row(self) -> dict[str, Any]:
        """Return JSON-ready fields."""
        return asdict(self)

    @property
    def is_none(self) -> bool:
        """True where the versions say the same."""
        return not (self.added or self.removed or self.changed)


def difference(before: BookVersion, after: BookVersion) -> Difference:
    """Return what makes the one version into the other; their numbers do not count."""
    old = {charge.key: charge for charge in before.charges}
    new = {charge.key: charge for charge in after.charges}
    changed = _changes("", _own_fields(before), _own_fields(after))
    for key, charge in old.items():
        if key in new:
            changed += _changes(key, to_content(charge), to_content(new[key]))
    if (kept := [key for key in old if key in new]) != (now := [key for key in new if key in old]):
        changed.append(Change("", "order of charges", ", ".join(kept), ", ".join(now)))
    return Difference(
        added=tuple(key for key in new if key not in old),
        removed=tuple(key for key in old if key not in new),
        changed=tuple(changed),
    )


def _own_fields(version: BookVersion) -> dict[str, Any]:
    return {
        name: value
        for name, value in to_content(version).items()
        if name not in ("version", "charges")
    }


def _changes(charge: str, before: object, after: object) -> list[Change]:
    old, new = dict(_fields(before, "")), dict(_fields(after, ""))
    return [
        Change(charge, name, old.get(name), new.get(name))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _fields(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield every leaf under the path at which a reader looks for it."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _fields(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for number, one in enumerate(value):
            yield from _fields(one, f"{path}[{number}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value)) or "none"
    elif isinstance(value, Mapping):
        yield path, "yes"
    else:
        yield path, _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
