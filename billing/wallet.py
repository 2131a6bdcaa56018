"""Wallets: credit that was bought or given, who may use it for what, and in which order.

Pure: what is done to a wallet answers the movements it takes, and moves nothing by itself. Of a
grant some is left; parts of that are held, or settled and not yet on a document; the rest is free.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from billing.charge import STRICT, Key
from billing.money import earned_minor

GrantKind = Literal["prepaid", "promotional"]
MovementKind = Literal[
    "grant", "top_up", "hold", "settle", "release", "invoice", "draw", "restore", "expire",
    "reopen", "void",
]  # fmt: skip

_NEVER = datetime.max.replace(tzinfo=UTC)
_Names = Annotated[frozenset[Key], Field(max_length=1000)]


class Scope(BaseModel):
    """What a grant pays for: what any of its lists names, or all where there is none."""

    model_config = STRICT

    charges: _Names = frozenset()
    products: _Names = frozenset()
    meters: _Names = frozenset()

    def covers(self, use: "Use") -> bool:
        """Return whether it pays for a use."""
        return (
            not (self.charges or self.products or self.meters)
            or use.charge in self.charges
            or use.product in self.products
            or use.meter in self.meters
        )


@dataclass(frozen=True, slots=True)
class Use:
    """What credit is used for, and when: an instant, or the days of a line, `[from, until)`."""

    since: datetime
    until: datetime | None = None
    charge: str | None = None
    product: str | None = None
    meter: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Some credit of a wallet and what became of it; amounts in minor units."""

    number: int
    kind: GrantKind
    granted_minor: int
    cost_minor: int
    """What was paid for all of it: its share of what is left is owed to the customer."""
    effective_at: datetime
    expires_at: datetime | None = None
    priority: int = 50
    """The lower is drawn first."""
    scope: Scope = field(default_factory=Scope)
    left_minor: int = 0
    held_minor: int = 0
    settled_minor: int = 0
    drawn_minor: int = 0
    expired_minor: int = 0
    voided_minor: int = 0
    owed_minor: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_minor + self.settled_minor <= self.left_minor <= self.granted_minor:
            raise AssertionError(f"grant {self.number} is overspent")
        gone = (self.drawn_minor, self.expired_minor, self.voided_minor)
        if min(self.held_minor, self.settled_minor, *gone) < 0:
            raise AssertionError(f"grant {self.number} holds less than nothing")
        if self.left_minor + sum(gone) not in (0, self.granted_minor):
            raise AssertionError(f"grant {self.number} is not what is left and gone of it")
        if self.owed_minor != owed(self, self.left_minor):
            raise AssertionError(f"grant {self.number} owes another share than what is left")

    @property
    def free_minor(self) -> int:
        """What is left and neither held nor settled."""
        return self.left_minor - self.held_minor - self.settled_minor

    @property
    def rank(self) -> tuple[int, datetime, bool, datetime, int]:
        """Its place in the order of drawing: the least comes first."""
        expires = self.expires_at or _NEVER
        return (self.priority, expires, self.kind == "prepaid", self.effective_at, self.number)

    def pays_for(self, use: Use) -> bool:
        """Return whether it covers a use, and was in force when that was made."""
        return (
            self.scope.covers(use)
            and (self.expires_at is None or use.since < self.expires_at)
            and (self.effective_at <= use.since if use.until is None
                 else self.effective_at < use.until)
        )  # fmt: skip

    def is_over(self, at: datetime) -> bool:
        """Return whether it has expired by an instant."""
        return self.expires_at is not None and self.expires_at <= at


@dataclass(frozen=True, slots=True)
class Movement:
    """What changes of one grant: of what is left, held, settled, and owed for what was paid."""

    kind: MovementKind
    number: int
    left_minor: int = 0
    held_minor: int = 0
    settled_minor: int = 0
    owed_minor: int = 0
    line: int | None = None
    """The line of a document that it is drawn for, or restored by."""


@dataclass(frozen=True, slots=True)
class Part:
    """How much of a hold lies on one grant."""

    number: int
    amount_minor: int


class NotEnoughError(Exception):
    """There is less credit for a use than is asked for."""

    def __init__(self, wanted_minor: int, available_minor: int) -> None:
        super().__init__(f"{wanted_minor} wanted, {available_minor} available")
        self.available_minor = available_minor


def owed(grant: Grant, left_minor: int) -> int:
    """Return what is owed for what is left of a grant: its share of what was paid.

    Differences of this telescope, so that nothing is owed once nothing is left.
    """
    return earned_minor(grant.cost_minor, left_minor, grant.granted_minor)


def moved(grant: Grant, movement: Movement) -> Grant:
    """Return a grant after a movement of it."""
    assert grant.number == movement.number  # noqa: S101

    def gone(*kinds: MovementKind) -> int:
        return -movement.left_minor if movement.kind in kinds else 0

    return replace(
        grant,
        left_minor=grant.left_minor + movement.left_minor,
        held_minor=grant.held_minor + movement.held_minor,
        settled_minor=grant.settled_minor + movement.settled_minor,
        drawn_minor=grant.drawn_minor + gone("draw", "restore"),
        expired_minor=grant.expired_minor + gone("expire", "reopen"),
        voided_minor=grant.voided_minor + gone("void"),
        owed_minor=grant.owed_minor + movement.owed_minor,
    )


def change_left(
    grant: Grant, kind: MovementKind, left_minor: int, line: int | None = None
) -> Movement:
    """Return the movement that adds to what is left of a grant, or takes from it."""
    after = owed(grant, grant.left_minor + left_minor)
    return Movement(kind, grant.number, left_minor, owed_minor=after - grant.owed_minor, line=line)


def in_order(grants: Iterable[Grant]) -> list[Grant]:
    """Return grants as they are drawn: priority, expiry, promotional before prepaid, age."""
    return sorted(grants, key=lambda grant: grant.rank)


def available(grants: Iterable[Grant], use: Use) -> int:
    """Return how much credit can be held for a use."""
    return sum(grant.free_minor for grant in grants if grant.pays_for(use))


def hold(grants: Sequence[Grant], amount_minor: int, use: Use) -> list[Movement]:
    """Reserve credit for a use, all of it or nothing.

    Raises:
        NotEnoughError: there is less.
    """
    free = available(grants, use)
    if free < amount_minor:
        raise NotEnoughError(amount_minor, free)
    found = []
    for grant in in_order(grants):
        part = min(grant.free_minor, amount_minor) if grant.pays_for(use) else 0
        if part:
            found.append(Movement("hold", grant.number, held_minor=part))
            amount_minor -= part
    return found


def settle(parts: Sequence[Part], amount_minor: int) -> list[Movement]:
    """Set aside what was used of a hold until it is on a document; the rest is free again."""
    held_minor = sum(part.amount_minor for part in parts)
    if not 0 <= amount_minor <= held_minor:
        raise NotEnoughError(amount_minor, held_minor)
    found = []
    for part in parts:
        used = min(part.amount_minor, amount_minor)
        amount_minor -= used
        found.append(Movement("settle", part.number, 0, -part.amount_minor, used))
    return found


def release(parts: Sequence[Part]) -> list[Movement]:
    """Free what a hold reserved."""
    return [Movement("release", part.number, held_minor=-part.amount_minor) for part in parts]


def invoice(parts: Sequence[Part]) -> list[Movement]:
    """Free what was settled, since the document that draws for it is issued now."""
    return [Movement("invoice", part.number, settled_minor=-part.amount_minor) for part in parts]


def expire(grants: Iterable[Grant], at: datetime) -> list[Movement]:
    """Take what is free of the grants that are over; what is held or settled stays until then."""
    return [
        change_left(grant, "expire", -grant.free_minor)
        for grant in grants
        if grant.is_over(at) and grant.free_minor
    ]


def void(grant: Grant) -> list[Movement]:
    """Take what is free of a grant."""
    return [change_left(grant, "void", -grant.free_minor)] if grant.free_minor else []


def reopened(grant: Grant, short_minor: int, line: int) -> list[Movement]:
    """Give back of what expired as much as is short, where the use was made before."""
    again = min(short_minor, grant.expired_minor)
    return [change_left(grant, "reopen", again, line)] if again > 0 else []


def apply_movements(grants: Mapping[int, Grant], movements: Iterable[Movement]) -> dict[int, Grant]:
    """Return grants after movements, by number."""
    after = dict(grants)
    for movement in movements:
        after[movement.number] = moved(after[movement.number], movement)
    return after
