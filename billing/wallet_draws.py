"""What a document draws from a wallet, and what it puts back, line by line.

One rule for all documents: what is drawn for a line's key never exceeds what that costs. What costs
less now gets its credit back first, the last in order first, and only the rest lessens what is
asked for in money. And what is drawn in all never exceeds what all documents come to. So a credit
never pays out what was given. Restoring comes before drawing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from billing.rating import LineKey
from billing.wallet import Grant, Movement, Use, change_left, in_order, moved, reopened


@dataclass(frozen=True, slots=True)
class UsedLine:
    """A line of a document as a wallet sees it: what it adds to the price of a key."""

    ordinal: int
    key: LineKey
    amount_minor: int
    use: Use


@dataclass(slots=True)
class Draws:
    """Draws for the documents of one transaction, one after the other.

    `billed_minor` is what all documents of the wallet's customer came to before; `costs` what each
    key of the lines did, and `drawn` what of that was paid by each grant.
    """

    grants: dict[int, Grant]
    billed_minor: int = 0
    costs: dict[LineKey, int] = field(default_factory=dict)
    drawn: dict[LineKey, dict[int, int]] = field(default_factory=dict)

    def of(self, lines: Sequence[UsedLine], room_minor: int) -> list[Movement]:
        """Return the movements of a document, of which as much as `room_minor` can be drawn.

        That is its total where it is an invoice, and nothing where it is a credit note, all of
        whose lines give. What an invoice restores it asks for again, and so can draw.
        """
        for line in lines:
            self.costs[line.key] = self.costs.get(line.key, 0) + line.amount_minor
            self.billed_minor += line.amount_minor
        found = self._restore([line for line in lines if line.amount_minor < 0])
        room_minor = min(room_minor - drawn_minor(found), -self._excess())
        for line in lines:
            if line.amount_minor > 0 and room_minor > 0:
                movements = self._draw(line, min(line.amount_minor, room_minor))
                room_minor -= drawn_minor(movements)
                found += movements
        return found

    def _excess(self) -> int:
        """Return by how much more is drawn than all documents come to."""
        drawn = sum(grant.drawn_minor for grant in self.grants.values())
        return drawn - max(self.billed_minor, 0)

    def _restore(self, lines: Sequence[UsedLine]) -> list[Movement]:
        """Put back what is drawn for the key of each line beyond what it costs now.

        What takes off other lines, as a maximum does, has nothing of its own to put back: what is
        drawn for them goes back as far as it is more than all that was ever billed.
        """
        found: list[Movement] = []
        for line in lines:
            own = self.drawn.setdefault(line.key, {})
            limits = {n: min(part, self.grants[n].drawn_minor) for n, part in own.items()}
            excess = sum(own.values()) - max(self.costs[line.key], 0)
            found += self._put_back(line, limits, min(excess, -line.amount_minor))
        for line in lines:
            restored = sum(one.left_minor for one in found if one.line == line.ordinal)
            limits = {grant.number: grant.drawn_minor for grant in self.grants.values()}
            most_minor = min(self._excess(), -line.amount_minor - restored)
            found += self._put_back(line, limits, most_minor)
        return found

    def _put_back(
        self, line: UsedLine, limits: Mapping[int, int], most_minor: int
    ) -> list[Movement]:
        own = self.drawn[line.key]
        found: list[Movement] = []
        for grant in reversed(in_order(self.grants[number] for number in limits)):
            part = min(limits[grant.number], most_minor)
            if part > 0:
                most_minor -= part
                own[grant.number] = own.get(grant.number, 0) - part
                found += self._move(change_left(grant, "restore", part, line.ordinal))
        return found

    def _draw(self, line: UsedLine, most_minor: int) -> list[Movement]:
        drawn = self.drawn.setdefault(line.key, {})
        most_minor = min(most_minor, self.costs[line.key] - sum(drawn.values()))
        found: list[Movement] = []
        for grant in in_order(self.grants.values()):
            part = min(most_minor, grant.free_minor + grant.expired_minor)
            if part > 0 and grant.pays_for(line.use):
                found += self._move(*reopened(grant, part - grant.free_minor, line.ordinal))
                again = self.grants[grant.number]
                found += self._move(change_left(again, "draw", -part, line.ordinal))
                drawn[grant.number] = drawn.get(grant.number, 0) + part
                most_minor -= part
        return found

    def _move(self, *movements: Movement) -> list[Movement]:
        for movement in movements:
            self.grants[movement.number] = moved(self.grants[movement.number], movement)
        return list(movements)


def drawn_minor(movements: Iterable[Movement]) -> int:
    """Return what movements draw, less what they restore."""
    return -sum(one.left_minor for one in movements if one.kind in ("draw", "restore"))


def split_owed(movements: Iterable[Movement]) -> Mapping[str, int]:
    """Return what a document's movements debit, by ledger account.

    What was owed for what is drawn pays; the rest was given and lessens revenue. What is reopened
    is owed again, and is breakage no more.
    """
    found = {"prepaid_credit": 0, "promotional_credit": 0, "breakage": 0}
    for one in movements:
        found["prepaid_credit"] -= one.owed_minor
        if one.kind == "reopen":
            found["breakage"] += one.owed_minor
        else:
            found["promotional_credit"] -= one.left_minor - one.owed_minor
    return {account: minor for account, minor in found.items() if minor}
