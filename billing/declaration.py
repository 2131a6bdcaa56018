"""What `tollbook apply` reads: meters, price books, customers, subscriptions and wallets, in files.

Every fault of every file is found in one pass and named by file and line; nothing is applied
unless there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from billing.customer import Customer, Moment, Subscription
from billing.price_book import PriceBook
from billing.wallet_terms import WalletTerms
from billing.yaml_text import Fault, Path, Tree
from pipelines.meter import MeterDefinition

_Model = TypeVar("_Model", bound=BaseModel)
_SCHEMAS: dict[str, type[BaseModel]] = {
    "price_books": PriceBook,
    "customers": Customer,
    "subscriptions": Subscription,
    "wallets": WalletTerms,
}
_NAMED = ("charge ", "price book ", "subscription ", "item ")
_SECTIONS = ("meters", "price_books", "customers", "subscriptions", "wallets")


class _Effective(BaseModel):
    """The one key of a meter that is no part of its definition: when a new version begins."""

    effective_at: Moment | None = None


_NAME_BY_SCHEMA: dict[type[BaseModel], str] = {
    MeterDefinition: "meter",
    _Effective: "meter",
    PriceBook: "price book",
    Customer: "customer",
    Subscription: "subscription",
    WalletTerms: "wallet",
}


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter's definition, and the instant or (UTC) day from which a new version of it counts."""

    definition: MeterDefinition
    effective_at: datetime | date | None = None
    archives: bool = False
    """True where the meter shall count nothing from then on."""


@dataclass(slots=True)
class Declarations:
    """Everything the files declare, where each thing stands, and what is wrong with them."""

    meters: dict[str, Meter] = field(default_factory=dict)
    price_books: dict[str, PriceBook] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    wallets: dict[str, WalletTerms] = field(default_factory=dict)
    places: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    trees: dict[tuple[str, str], tuple[Tree, Path]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, section: str, key: str, message: str, at: Path = ()) -> None:
        """Note a fault of a declared thing, or of what stands at a path within it."""
        file, line = self.places.get((section, key), ("?", 0))
        if at and (section, key) in self.trees:
            tree, path = self.trees[section, key]
            line = tree.line_of((*path, *at))
        self.faults.append(Fault(file, line, message))


def read_declarations(trees: list[Tree]) -> Declarations:
    """Check parsed files against the schema."""
    found = Declarations()
    for tree in trees:
        found.faults.extend(tree.faults)
        if tree.value is None:
            if not tree.faults:
                found.faults.append(Fault(tree.file, 0, "it declares nothing"))
            continue
        if not isinstance(tree.value, Mapping):
            message = f"expected the keys {', '.join(_SECTIONS)}"
            found.faults.append(Fault(tree.file, 1, message))
            continue
        for section, things in tree.value.items():
            _read_section(found, tree, section, things)
    return found


def _read_section(found: Declarations, tree: Tree, section: str, things: Any) -> None:
    line = tree.line_of((section,))
    if section not in _SECTIONS:
        message = f"unknown key {section}; expected one of {', '.join(_SECTIONS)}"
        found.faults.append(Fault(tree.file, line, message))
    elif not isinstance(things, list):
        found.faults.append(Fault(tree.file, line, f"{section} must be a list"))
    else:
        for index, thing in enumerate(things):
            _read_thing(found, tree, (section, index), thing)


def _read_thing(found: Declarations, tree: Tree, path: Path, thing: Any) -> None:
    section = str(path[0])
    read: Any
    if section == "meters":
        read = _read_meter(found, tree, path, thing)
        key = read.definition.key if read else ""
    else:
        read = _validate(found, tree, path, _SCHEMAS[section], thing)
        key = read.key if read else ""
    if read is None:
        return
    into: dict[str, Any] = getattr(found, section)
    if key in into:
        file, line = found.places[section, key]
        message = f"{section[:-1].replace('_', ' ')} {key} is declared twice (also {file}:{line})"
        found.faults.append(Fault(tree.file, tree.line_of(path), message))
    else:
        into[key] = read
        found.places[section, key] = (tree.file, tree.line_of(path))
        found.trees[section, key] = (tree, path)


def _read_meter(found: Declarations, tree: Tree, path: Path, thing: Any) -> Meter | None:
    if not isinstance(thing, dict):
        message = "expected keys and values"
        found.faults.append(Fault(tree.file, tree.line_of(path), message))
        return None
    own = {key: value for key, value in thing.items() if key == "effective_at"}
    rest = {key: value for key, value in thing.items() if key not in own}
    definition = _validate(found, tree, path, MeterDefinition, rest)
    effective = _validate(found, tree, path, _Effective, own)
    if definition is None or effective is None:
        return None
    return Meter(definition, effective.effective_at)


def _validate(
    found: Declarations, tree: Tree, path: Path, schema: type[_Model], thing: Any
) -> _Model | None:
    try:
        return schema.model_validate(thing)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            if detail["type"] == "too_short" and any(
                len(other["loc"]) > len(detail["loc"]) for other in details
            ):
                continue  # its elements were there, and have faults of their own
            steps: Path = (*path, *detail["loc"])
            line = tree.line_of(steps)
            found.faults.append(Fault(tree.file, line, _message(schema, detail, thing)))
        return None


def _where(loc: Path, thing: Any) -> str:
    """Return the place of a fault as a reader finds it: `charge departures: tiers[1].up_to`."""
    named, where = "", ""
    for index, step in enumerate(loc):
        thing = _inner(thing, step)
        if isinstance(step, str):
            where += f".{step}" if where else step
            continue
        where += f"[{step}]"
        if index == 1 and loc[0] == "versions" and (number := _inner(thing, "version")):
            named, where = f"version {number}", ""
        if index == 3 and loc[2] == "charges" and (key := _inner(thing, "key")):
            named, where = f"charge {key}", ""
    return ": ".join(part for part in (named, where) if part)


def _inner(thing: Any, step: str | int) -> Any:
    """Return what stands at a step; None where the file has nothing there."""
    if isinstance(thing, dict):
        return thing.get(step)
    if isinstance(thing, list) and isinstance(step, int) and step < len(thing):
        return thing[step]
    return None


def _message(schema: type[BaseModel], detail: Mapping[str, Any], thing: Any) -> str:
    """Return a fault in words of the file, not of the validator."""
    where = _where(detail["loc"], thing)
    text = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "expression":
        places = detail["ctx"]
        caret = str(places["caret"]).replace("\n", "\n    ")
        line = f"line {places['line']}, " if places["line"] > 1 else ""
        return f"{where}: {line}column {places['column']}: {text}\n    {caret}"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {detail['loc'][-1]}"
    if detail["type"] == "missing":
        return f"{where} is missing"
    if detail["type"] in ("model_type", "dict_type") and not where:
        return "expected keys and values"
    if detail["type"] == "value_error" and text.startswith(_NAMED):
        return text
    return f"{where}: {text}" if where else f"{_NAME_BY_SCHEMA[schema]}: {text}"
