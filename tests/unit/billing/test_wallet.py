"""What is drawn from wallets, in which order, and that nothing of it is created or lost."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating import LineKey
from billing.wallet import (
    Grant,
    Movement,
    NotEnoughError,
    Part,
    Scope,
    Use,
    apply_movements,
    available,
    change_left,
    expire,
    hold,
    in_order,
    invoice,
    release,
    settle,
    void,
)
from billing.wallet_draws import Draws, UsedLine, drawn_minor, split_owed

JANUARY = datetime(2013, 1, 1, tzinfo=UTC)
NOW = datetime(2013, 1, 15, tzinfo=UTC)


def day(number: int) -> datetime:
    return JANUARY + timedelta(days=number)


def given_credit(number: int, amount: int = 100, cost: int | None = None, **terms: object) -> Grant:
    """Return a grant that was just made: prepaid at its amount, or promotional at no cost."""
    cost = amount if cost is None else cost
    kind = "prepaid" if cost else "promotional"
    bare = Grant(number, kind, amount, cost, JANUARY)  # type: ignore[arg-type]
    made = replace(bare, **terms)  # type: ignore[arg-type]
    return replace(made, left_minor=amount, owed_minor=cost)


def line_key(charge: str, month: int = 1, subscription: str = "S") -> LineKey:
    start = datetime(2013, month, 1, tzinfo=UTC)
    return LineKey(subscription, "i", charge, (), start, start + timedelta(days=28), start)


def used(ordinal: int, amount: int, charge: str = "c", month: int = 1) -> UsedLine:
    key = line_key(charge, month)
    return UsedLine(ordinal, key, amount, Use(key.piece_start, key.piece_end, charge, "p", "m"))


def test_credit_is_drawn_by_priority_expiry_promotional_first_age_and_number() -> None:
    ranked = [
        given_credit(9, priority=0),
        given_credit(8, expires_at=day(20)),
        given_credit(7, expires_at=day(30)),
        given_credit(6, cost=0, effective_at=day(3)),
        given_credit(5, effective_at=day(1)),
        given_credit(3, effective_at=day(2)),
        given_credit(4, effective_at=day(2)),
    ]
    for mixed in list(permutations(ranked))[::97]:
        assert in_order(mixed) == ranked


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        (Scope(), True),
        (Scope(charges=frozenset({"c"})), True),
        (Scope(charges=frozenset({"other"})), False),
        (Scope(charges=frozenset({"other"}), meters=frozenset({"m"})), True),
        (Scope(products=frozenset({"p"})), True),
        (Scope(products=frozenset({"c"})), False),
    ],
)
def test_a_scope_covers_what_any_of_its_lists_names(scope: Scope, *, covers: bool) -> None:
    draws = Draws({1: given_credit(1, scope=scope)})
    assert drawn_minor(draws.of([used(1, 60)], 60)) == (60 if covers else 0)


@pytest.mark.parametrize(
    ("since", "until", "pays"),
    [
        (None, day(0), False),
        (day(28), None, False),
        (day(27), None, True),
        (JANUARY - timedelta(days=9), day(0) + timedelta(seconds=1), True),
    ],
)
def test_credit_pays_for_use_within_its_time_alone(
    since: datetime | None, until: datetime | None, *, pays: bool
) -> None:
    effective_at = since or JANUARY - timedelta(days=30)
    grant = given_credit(1, effective_at=effective_at, expires_at=until)
    assert drawn_minor(Draws({1: grant}).of([used(1, 60)], 60)) == (60 if pays else 0)


def test_a_line_in_advance_is_used_when_it_starts() -> None:
    key = line_key("c")
    line = UsedLine(1, key, 60, Use(key.piece_start, None, "c"))
    later = Draws({1: given_credit(1, effective_at=day(1))})
    assert later.of([line], 60) == []
    assert drawn_minor(Draws({1: given_credit(1)}).of([line], 60)) == 60


def test_a_hold_takes_all_of_it_or_nothing() -> None:
    grants = [given_credit(1, 30), given_credit(2, 50)]
    use = Use(NOW)
    assert hold(grants, 60, use) == [
        Movement("hold", 1, held_minor=30), Movement("hold", 2, held_minor=30)
    ]  # fmt: skip
    with pytest.raises(NotEnoughError) as refused:
        hold(grants, 81, use)
    assert refused.value.available_minor == 80


def test_settling_sets_aside_what_was_used_and_frees_the_rest() -> None:
    parts = [Part(1, 30), Part(2, 30)]
    assert settle(parts, 40) == [
        Movement("settle", 1, 0, -30, 30), Movement("settle", 2, 0, -30, 10)
    ]  # fmt: skip
    with pytest.raises(NotEnoughError):
        settle(parts, 61)


def test_what_is_held_or_settled_neither_expires_nor_is_drawn_nor_voided() -> None:
    grant = replace(given_credit(1, expires_at=day(20)), held_minor=30, settled_minor=20)
    assert [m.left_minor for m in expire([grant], day(20))] == [-50]
    assert expire([grant], day(20) - timedelta(seconds=1)) == []
    assert [m.left_minor for m in void(grant)] == [-50]
    assert drawn_minor(Draws({1: grant}).of([used(1, 100)], 100)) == 50


def test_a_use_before_expiry_reopens_what_expired_up_to_the_amount() -> None:
    over = given_credit(1, 100, 90, expires_at=day(20))
    expired = apply_movements({1: over}, expire([over], day(20)))
    movements = Draws(dict(expired)).of([used(1, 40)], 40)
    assert [(m.kind, m.left_minor, m.owed_minor) for m in movements] == [
        ("reopen", 40, 36), ("draw", -40, -36)
    ]  # fmt: skip
    assert split_owed(movements) == {"promotional_credit": 4, "breakage": 36}


def test_a_correction_puts_credit_back_before_it_lessens_what_is_asked_for() -> None:
    draws = Draws({1: given_credit(1, 60, 0)})
    assert drawn_minor(draws.of([used(1, 100)], 100)) == 60
    note = draws.of([used(1, -50)], 0)
    assert drawn_minor(note) == -10  # 40 of the note was paid in money
    assert drawn_minor(draws.of([used(1, -50)], 0)) == -50


def test_the_last_drawn_is_put_back_first() -> None:
    draws = Draws({1: given_credit(1, 40, 0), 2: given_credit(2, 40)})
    draws.of([used(1, 70)], 70)
    assert [(m.number, m.left_minor) for m in draws.of([used(1, -50)], 0)] == [(2, 30), (1, 20)]


def test_what_a_correction_frees_pays_for_other_lines_of_its_invoice() -> None:
    draws = Draws({1: given_credit(1, 50, 0)})
    draws.of([used(1, 50)], 50)
    movements = draws.of([used(1, -20), used(2, 30, "d")], 10)
    assert [(m.kind, m.left_minor) for m in movements] == [("restore", 20), ("draw", -20)]
    # The invoice is of 10, and 10 is asked for.
    assert drawn_minor(movements) == 0


def test_what_lessens_other_charges_does_not_pay_out_what_was_given_for_them() -> None:
    draws = Draws({1: given_credit(1, 100, 0)})
    draws.of([used(1, 100)], 100)
    # A maximum, billed later, takes 20 off: nothing was paid, so nothing is paid out.
    assert drawn_minor(draws.of([used(1, -20, "cap")], 0)) == -20
    assert drawn_minor(draws.of([used(1, 20, "cap")], 20)) == 20


def test_each_line_puts_back_its_own_credit_before_any_puts_back_that_of_others() -> None:
    scopes = [Scope(charges=frozenset({charge})) for charge in "cd"]
    draws = Draws({1: given_credit(1, 20, 0, scope=scopes[0]),
                   2: given_credit(2, 40, 0, scope=scopes[1])})  # fmt: skip
    draws.of([used(1, 40), used(2, 40, "d")], 80)
    # 20 of the first were paid in money, so 20 of its 30 come back so.
    movements = draws.of([used(1, -30), used(2, -10, "d")], 0)
    assert [(m.line, m.number, m.left_minor) for m in movements] == [(1, 1, 10), (2, 2, 10)]


def test_what_is_put_back_is_asked_for_where_no_credit_pays_for_the_other_lines() -> None:
    draws = Draws({1: given_credit(1, 50, 0, scope=Scope(charges=frozenset({"c"})))})
    draws.of([used(1, 50)], 50)
    # 20 of c became d, which this credit does not pay for.
    movements = draws.of([used(1, -20), used(2, 20, "d")], 0)
    assert [(m.kind, m.left_minor) for m in movements] == [("restore", 20)]
    assert 0 - drawn_minor(movements) == 20


def test_no_more_is_drawn_than_a_document_asks_for() -> None:
    draws = Draws({1: given_credit(1, 500)})
    assert drawn_minor(draws.of([used(1, 100), used(2, -30, "d")], 70)) == 70


# Properties ---------------------------------------------------------------------------------------

_AMOUNTS = st.integers(1, 400)
_GRANTS = st.lists(
    st.tuples(_AMOUNTS, st.integers(0, 100), st.integers(0, 2), st.integers(-10, 80),
              st.integers(1, 90), st.sampled_from(["", "a", "b"])),
    max_size=5,
)  # fmt: skip
_TARGETS = st.lists(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(1, 2)), st.integers(-60, 300), max_size=6
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@dataclass
class Paid:
    """What a customer was asked for in money and got back in money, of all documents."""

    draws: Draws
    issued: dict[LineKey, int] = field(default_factory=lambda: defaultdict(int))
    asked: int = 0
    movements: list[Movement] = field(default_factory=list)

    def bill(self, targets: dict[tuple[str, int], int]) -> None:
        """Bring all lines to targets: an invoice of what is more, a note of the excess of less."""
        deltas = [
            (charge, month, target - self.issued[line_key(charge, month)])
            for (charge, month), target in sorted(targets.items())
        ]
        for charge, month, delta in deltas:
            self.issued[line_key(charge, month)] += delta
        room = sum(delta for _, _, delta in deltas if delta > 0)
        invoice, note = [], []
        for charge, month, delta in deltas:
            kept = max(delta, -room)
            room += min(kept, 0)
            invoice.append((charge, month, kept))
            note.append((charge, month, delta - kept))
        self._issue(invoice, is_note=False)
        self._issue(note, is_note=True)

    def _issue(self, deltas: list[tuple[str, int, int]], *, is_note: bool) -> None:
        lines = [used(n, d, c, m) for n, (c, m, d) in enumerate(deltas, 1) if d]
        total = sum(line.amount_minor for line in lines)
        movements = self.draws.of(lines, 0 if is_note else total)
        asked = total - drawn_minor(movements)
        if is_note:
            assert total <= drawn_minor(movements) <= 0, "a note puts back more than it gives"
        else:
            assert asked >= 0, "an invoice pays out"
        self.asked += asked
        self.movements += movements


def make_grants(terms: list[tuple[int, int, int, int, int, str]]) -> dict[int, Grant]:
    return {
        number: given_credit(
            number, amount, amount * percent // 100, priority=priority, effective_at=day(since),
            expires_at=day(since + length), scope=Scope(charges=frozenset({charge} - {""})),
        )
        for number, (amount, percent, priority, since, length, charge) in enumerate(terms, 1)
    }  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(_GRANTS, _TARGETS, st.integers(0, 120))
def test_granted_is_drawn_expired_voided_and_left_to_the_cent_whatever_is_corrected(
    terms: list[tuple[int, int, int, int, int, str]],
    history: list[dict[tuple[str, int], int]],
    expires_on: int,
) -> None:
    grants = make_grants(terms)
    paid = Paid(Draws(dict(grants)))
    for targets in history:
        paid.bill(targets)
        movements = expire(paid.draws.grants.values(), day(expires_on))
        paid.draws.grants = apply_movements(paid.draws.grants, movements)
        paid.movements += movements
    for number, grant in paid.draws.grants.items():
        own = [m for m in paid.movements if m.number == number]
        kinds: dict[str, int] = defaultdict(int)
        for movement in own:
            kinds[movement.kind] -= movement.left_minor
        drawn = kinds["draw"] + kinds["restore"]
        assert drawn == grant.drawn_minor >= 0
        expired = kinds["expire"] + kinds["reopen"]
        assert grant.granted_minor == drawn + expired + grant.left_minor
        assert grant.cost_minor + sum(m.owed_minor for m in own) == grant.owed_minor
    cost = sum(paid.issued.values())
    assert paid.asked + drawn_minor(paid.movements) == cost
    # A credit never pays out what was given: money goes back only as far as money came.
    assert paid.asked >= min(cost, 0)


@settings(max_examples=100, deadline=None)
@given(_GRANTS, st.integers(0, 300))
def test_draws_are_those_of_a_naive_walk_by_the_unit(
    terms: list[tuple[int, int, int, int, int, str]], amount: int
) -> None:
    """One minor unit at a time, from the first grant that may pay for it."""
    line = used(1, amount, "a")
    left = {n: terms[n - 1][0] for n in range(1, len(terms) + 1)}
    ranks = {
        n: (t[2], t[3] + t[4], t[0] * t[1] // 100 > 0, t[3], n) for n, t in enumerate(terms, 1)
    }
    may = [n for n, t in enumerate(terms, 1)
           if t[5] in ("", "a") and t[3] < 28 and t[3] + t[4] > 0]  # fmt: skip
    expected: dict[int, int] = defaultdict(int)
    for _ in range(amount):
        open_ = [n for n in may if left[n]]
        if open_:
            first = min(open_, key=lambda n: ranks[n])
            left[first] -= 1
            expected[first] += 1
    movements = Draws(make_grants(terms)).of([line] if amount else [], amount)
    assert {m.number: -m.left_minor for m in movements} == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 100), st.lists(st.integers(1, 200), max_size=12))
def test_what_is_owed_for_credit_telescopes(amount: int, percent: int, parts: list[int]) -> None:
    cost = max(amount * percent // 100, 1)
    grant = given_credit(1, amount, cost)
    for part in parts:
        movement = change_left(grant, "draw", -min(part, grant.left_minor))
        grant = apply_movements({1: grant}, [movement])[1]
        share = cost * grant.left_minor * 2 + amount
        assert grant.owed_minor == share // (2 * amount)
    grant = apply_movements({1: grant}, [change_left(grant, "void", -grant.left_minor)])[1]
    assert grant.owed_minor == 0


def test_holding_then_releasing_or_invoicing_leaves_all_as_it_was() -> None:
    grants = {1: given_credit(1, 30), 2: given_credit(2, 50)}
    held = apply_movements(grants, hold(list(grants.values()), 60, Use(NOW)))
    assert available(held.values(), Use(NOW)) == 20
    assert apply_movements(held, release([Part(1, 30), Part(2, 30)])) == grants
    settled = apply_movements(held, settle([Part(1, 30), Part(2, 30)], 40))
    assert available(settled.values(), Use(NOW)) == 40
    assert apply_movements(settled, invoice([Part(1, 30), Part(2, 10)])) == grants
