"""Wallets as somebody would keep them with coins: every minor unit is moved by itself."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Line = tuple[tuple[str, int], int]
"""A charge and month, and what it adds to the price of that."""


@dataclass
class Pot:
    """A grant: coins that are left, held, set aside, or gone."""

    number: int
    size: int
    cost: int
    rank: tuple[float, ...]
    since: float
    until: float
    charge: str | None
    free: int = 0
    held: int = 0
    aside: int = 0
    drawn: int = 0
    expired: int = 0
    voided: int = 0

    @property
    def owed(self) -> int:
        left = self.free + self.held + self.aside
        return (2 * self.cost * left + self.size) // (2 * self.size)

    def pays(self, charge: str | None, since: float, until: float) -> bool:
        return self.charge in (None, charge) and self.since < until and since < self.until


@dataclass
class Model:
    """One wallet, and what its customer was asked for in money."""

    month_days: Callable[[int], tuple[float, float]]
    below: int
    pots: list[Pot] = field(default_factory=list)
    holds: dict[str, tuple[str | None, float, list[Pot]]] = field(default_factory=dict)
    aside: dict[str, tuple[str | None, float, list[Pot]]] = field(default_factory=dict)
    cost: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    drawn: dict[tuple[str, int], list[Pot]] = field(default_factory=lambda: defaultdict(list))
    asked: int = 0
    tops_up: bool = False

    def first(self, pots: Iterable[Pot]) -> Pot | None:
        return min(pots, key=lambda pot: pot.rank, default=None)

    def grant(self, pot: Pot) -> None:
        pot.free = pot.size
        self.pots.append(pot)

    def available(self, charge: str | None, now: float) -> int:
        return sum(p.free for p in self.pots if p.pays(charge, now, now + 1e-9))

    def hold(self, key: str, amount: int, charge: str | None, now: float, until: float) -> bool:
        if self.available(charge, now) < amount:
            return False
        coins = []
        for _ in range(amount):
            pot = self.first(p for p in self.pots if p.free and p.pays(charge, now, now + 1e-9))
            assert pot is not None
            pot.free, pot.held = pot.free - 1, pot.held + 1
            coins.append(pot)
        self.holds[key] = (charge, until, coins)
        return True

    def settle(self, key: str, amount: int, now: float) -> None:
        charge, _, coins = self.holds[key]
        self.release(key)
        for pot in coins[:amount]:
            pot.free, pot.aside = pot.free - 1, pot.aside + 1
        self.aside[key] = (charge, now, coins[:amount])

    def release(self, key: str) -> None:
        for pot in self.holds.pop(key)[2]:
            pot.free, pot.held = pot.free + 1, pot.held - 1

    def void(self, pot: Pot) -> None:
        pot.voided, pot.free = pot.voided + pot.free, 0

    def pass_time(self, now: float) -> None:
        for key in [key for key, one in self.holds.items() if one[1] <= now]:
            self.release(key)
        for pot in self.pots:
            if pot.until <= now:
                pot.expired, pot.free = pot.expired + pot.free, 0
        self.tops_up = self.tops_up or self.available_to_all(now) < self.below

    def available_to_all(self, now: float) -> int:
        return sum(p.free for p in self.pots if p.since <= now < p.until)

    def bill(self, deltas: list[Line], firsts: set[tuple[str, int]]) -> None:
        for key, (charge, used, coins) in list(self.aside.items()):
            if any(charge in (None, c) and used < self.month_days(m)[1] for c, m in firsts):
                for pot in coins:
                    pot.free, pot.aside = pot.free + 1, pot.aside - 1
                del self.aside[key]
        room = sum(max(delta, 0) for _, delta in deltas)
        invoice, note = [], []
        for line, delta in deltas:
            kept = max(delta, -room)
            room += min(kept, 0)
            invoice.append((line, kept))
            note.append((line, delta - kept))
        for lines, is_note in ((invoice, False), (note, True)):
            self._issue([line for line in lines if line[1]], is_note=is_note)

    def _issue(self, lines: list[Line], *, is_note: bool) -> None:
        asks = sum(delta for _, delta in lines)
        for key, delta in lines:
            self.cost[key] += delta
        for key, delta in lines:
            for _ in range(-delta):
                asks += self._put_back(key)
        for key, delta in lines:
            for _ in range(delta):
                if asks > 0 and not is_note:
                    asks -= self._pay(key)
        self.asked += asks

    def _put_back(self, key: tuple[str, int]) -> bool:
        own = self.drawn[key]
        if len(own) > max(self.cost[key], 0):
            pot = max(own, key=lambda one: one.rank)
            own.remove(pot)
            pot.drawn, pot.free = pot.drawn - 1, pot.free + 1
            return True
        return False

    def _pay(self, key: tuple[str, int]) -> bool:
        pays = [
            pot
            for pot in self.pots
            if (pot.free or pot.expired) and pot.pays(key[0], *self.month_days(key[1]))
        ]
        pot = self.first(pays)
        if pot is None or len(self.drawn[key]) >= self.cost[key]:
            return False
        if not pot.free:
            pot.expired, pot.free = pot.expired - 1, pot.free + 1
        pot.free, pot.drawn = pot.free - 1, pot.drawn + 1
        self.drawn[key].append(pot)
        return True
