"""Invoice plus corrections equals a from-scratch invoice, to the cent, over random histories."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.due import Scope
from tests.unit.billing.fake_store import FakeStore, KilledError
from tests.unit.billing.fake_usage import Event, FakeUsage
from tests.unit.billing.world import METERS, declare, facts_of, run

ZONE = ZoneInfo("America/New_York")
CHANGE = date(2013, 2, 15)
TIERS = {1: [(5, "0.3333"), (9, "0.25"), (None, "0.10")], 2: [(4, "0.4444"), (None, "0.2")]}
SEAT = {1: "0.0435", 2: "0.0462"}
AIRCRAFT = {1: "1.005", 2: "2"}
MONTHS = (1, 2, 3)
ORIGINS = ("EWR", "JFK")
SUBJECTS = ("a", "b", "c")


def _version(number: int) -> str:
    tiers = ", ".join(
        f"{{up_to: {'null' if bound is None else repr(str(bound))}, unit_price: '{price}'}}"
        for bound, price in TIERS[number]
    )
    since = date(2013, 1, 1) if number == 1 else CHANGE
    return (
        f"{{version: {number}, effective_from: {since}, currency: USD, charges: ["
        f"{{key: dep, model: graduated, meter: departures, group_by: [origin], tiers: [{tiers}]}},"
        f"{{key: seats, model: per_unit, meter: seats, unit_price: '{SEAT[number]}'}},"
        f"{{key: aircraft, model: per_unit, meter: aircraft, unit_price: '{AIRCRAFT[number]}'}}]}}"
    )


def customers_yaml(owners: dict[str, tuple[str, int, str]]) -> str:
    """A subject belongs to the first customer until a day of January, then to the second."""
    parts: dict[str, list[str]] = {"P": [], "Q": []}
    for subject, (first, day, second) in owners.items():
        parts[first].append(f"{{key: {subject}, to: 2013-01-{day:02}}}")
        parts[second].append(f"{{key: {subject}, from: 2013-01-{day:02}}}")
    return "customers:\n" + "\n".join(
        f"- {{key: {key}, name: {key}, currency: USD, time_zone: America/New_York,"
        f" subjects: [{', '.join(subjects)}]}}"
        for key, subjects in parts.items()
    )


BOOK = f"price_books: [{{key: book, versions: [{_version(1)}, {_version(2)}]}}]"
SUBSCRIPTIONS = "subscriptions:\n" + "\n".join(
    f"- {{key: S{key}, customer: {key}, start: 2013-01-01, end: 2013-04-01,"
    " items: [{key: i, price_book: book}]}"
    for key in "PQ"
)

owners = st.fixed_dictionaries(
    {
        subject: st.tuples(st.sampled_from("PQ"), st.integers(1, 28), st.sampled_from("PQ"))
        for subject in SUBJECTS
    }
)
events = st.builds(
    lambda subject, hours, origin, seats, tail: Event(
        "flight",
        subject,
        datetime(2013, 1, 1, 5, tzinfo=UTC) + timedelta(hours=hours),
        {"origin": origin, "seats": seats, "tailnum": tail},
    ),
    st.sampled_from(SUBJECTS),
    st.integers(0, 24 * 90 - 2),
    st.sampled_from(ORIGINS),
    st.sampled_from(["1", "0.5", "149", "-3", "0.001"]),
    st.sampled_from(["N1", "N2", "N3"]),
)


def _cents(amount: Decimal) -> int:
    return int((amount * 100).quantize(Decimal(1), ROUND_HALF_UP))


def _owner(subject: str, on: date, owned: dict[str, tuple[str, int, str]]) -> str:
    first, day, second = owned[subject]
    return first if on < date(2013, 1, day) else second


def from_scratch(
    history: Iterable[Event], owned: dict[str, tuple[str, int, str]]
) -> dict[tuple[str, ...], int]:
    """Bill everything at once, unit by unit, as one would by hand."""
    units: dict[tuple[str, ...], list[tuple[int, str, Decimal, str]]] = defaultdict(list)
    for event in history:
        on = event.time.astimezone(ZONE).date()
        version = 1 if on < CHANGE else 2
        who, month = _owner(event.subject, on, owned), str(on.month)
        data = event.data
        units[who, month].append((version, data["origin"], Decimal(data["seats"]), data["tailnum"]))
    bill: dict[tuple[str, ...], int] = {}
    for (who, month), used in units.items():
        for origin in ORIGINS:
            count = 0
            for version in (1, 2):
                amount = Decimal(0)
                for at, where, *_ in used:
                    if at == version and where == origin:
                        count += 1
                        price = next(p for to, p in TIERS[version] if to is None or count <= to)
                        amount += Decimal(price)
                bill[who, month, "dep", origin, str(version)] = _cents(amount)
        for version in (1, 2):
            seats = sum((s for at, _, s, _ in used if at == version), Decimal(0))
            bill[who, month, "seats", "", str(version)] = _cents(seats * Decimal(SEAT[version]))
        begins = 1 if int(month) <= CHANGE.month else 2
        tails = len({tail for *_, tail in used})
        bill[who, month, "aircraft", "", str(begins)] = _cents(tails * Decimal(AIRCRAFT[begins]))
    return {key: cents for key, cents in bill.items() if cents}


def _as_billed(store: FakeStore) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = defaultdict(int)
    for document in store.documents:
        for line in document.lines:
            target = line.target
            origin = dict(target.key.dimensions).get("origin", "")
            month = str(target.service_from.month)
            key = (document.customer, month, target.key.charge, origin, str(target.book_version))
            found[key] += line.amount_minor
    return {key: cents for key, cents in found.items() if cents}


@settings(max_examples=60, deadline=None)
@given(
    history=st.lists(st.lists(events, max_size=14), min_size=5, max_size=5),
    owned=st.lists(owners, min_size=5, max_size=5),
    lives=st.integers(0, 4),
)
def test_invoices_and_corrections_equal_a_from_scratch_invoice(
    history: list[list[Event]], owned: list[dict[str, tuple[str, int, str]]], lives: int
) -> None:
    meters = {key: meter.definition for key, meter in declare(METERS).meters.items()}
    facts = facts_of(METERS, BOOK, customers_yaml(owned[0]), SUBSCRIPTIONS)
    store = FakeStore([facts])
    usage = FakeUsage(meters, revision=lambda: store.history[-1].revision)
    for step, (arrived, now_owned) in enumerate(zip(history, owned, strict=True)):
        usage.add(*arrived)
        if step:
            store.history.append(facts_of(customers_yaml(now_owned), before=store.history[-1]))
        scope = Scope("close", date(2013, 2 + step, 1))
        store.lives = lives
        try:
            run(store, usage, scope)
        except KilledError:
            store.lives = None
            run(store, usage, scope)
        store.lives = None
        before = list(store.documents)
        run(store, usage, scope)
        assert store.documents == before
    everything = [event for arrived in history for event in arrived]
    assert _as_billed(store) == from_scratch(everything, owned[-1])
    assert all(document.total_minor >= 0 for document in store.documents)
    identities = [
        (line.target.key, line.kind, line.cause) for d in store.documents for line in d.lines
    ]
    assert len(set(identities)) == len(identities)
    numbers = [document.number for document in store.documents]
    for letters in ("INV", "CN"):
        own = [number for number in numbers if f"-{letters}-" in number]
        assert own == [f"MAIN-{letters}-2013-{n:06}" for n in range(1, len(own) + 1)]
