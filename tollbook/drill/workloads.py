"""What a drill sends: seeded events of every kind that producers have sent anywhere."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CLOUDEVENT_CONTENT_TYPE,
    CONTENT_TYPE_HEADER,
    TENANT_HEADER,
)
from tollbook.drill.truth import Fate, Parcel, Planned, Truth, event_body, in_parcels

_REQUESTS = 60
_REQUEST_EVENTS_MAX = 100
_SUBJECTS = 40
_FOLDED_ID = ("caf\u00e9", "cafe\u0301", "CAF\u00c9", "Cafe\u0301")
"""One word in ways that are all different ids: composed, decomposed, other case."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of a workload."""

    seed: int
    event_type: str
    now: datetime
    tenants: tuple[str, ...]
    events: int

    @property
    def request_events(self) -> int:
        """Events of one request: few where few are sent, so that a fault meets some of them."""
        return min(_REQUEST_EVENTS_MAX, max(1, self.events // _REQUESTS))


Workload = Callable[[Order], Truth]


class Maker:
    """Makes events of one order."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.rnd = random.Random(order.seed)  # noqa: S311 - the same drill again for a seed
        self.number = 0

    def event(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        time: datetime | None = None,
        data: str | None = None,
        fate: Fate = Fate.COUNTED,
        late: str = "in time",
    ) -> Planned:
        """Return a new event; whatever is not given is drawn."""
        self.number += 1
        drawn = self.order.now - timedelta(microseconds=self.rnd.randrange(7200 * 10**6))
        body = event_body(
            event_id=f"{self.order.event_type}-{self.number}",
            event_type=self.order.event_type,
            subject=subject or f"s{self.rnd.randrange(_SUBJECTS)}",
            time=time or drawn,
            data=data or self.data(),
        )
        return Planned(tenant or self.rnd.choice(self.order.tenants), body, fate, late)

    def data(self) -> str:
        """Return data with a number, as text or as a number, and two names."""
        units = Decimal(self.rnd.randrange(-(10**6), 10**8)) / 10 ** self.rnd.randrange(13)
        shown = f"{units:f}" if self.rnd.random() < 0.5 else f'"{units:f}"'
        region, who = self.rnd.choice("ab"), self.rnd.randrange(100)
        return f'{{"region":"{region}","units":{shown},"who":{who}}}'

    def truth(self, *phases: list[Parcel]) -> Truth:
        """Return the truth of some phases."""
        return Truth(self.order.seed, self.order.event_type, self.order.now, list(phases))


def plain(order: Order) -> Truth:
    """Honest events of the last two hours, in no order, a tenth of them again in some request."""
    maker = Maker(order)
    made: list[Planned] = []
    sent: list[Planned] = []
    for _ in range(order.events):
        made.append(maker.event())
        sent.append(made[-1])
        if maker.rnd.random() < 0.1:
            again = maker.rnd.choice(made)
            sent.append(Planned(again.tenant, again.body, Fate.COPY))
    return maker.truth(in_parcels(sent, order.request_events))


def copies(order: Order) -> Truth:
    """Copies x1 to x1000, at once, across requests and behind the horizon; ids that look alike."""
    maker = Maker(order)
    first: list[Planned] = [maker.event() for _ in range(order.events // 4)]
    together = list(_alike(maker))
    for times in (1, 2, 10, 100, 1000):
        event = maker.event()
        together += [event, *[_copy(event)] * times]
    scattered = [_copy(event) for event in first for _ in range(maker.rnd.randrange(3))]
    maker.rnd.shuffle(scattered)
    sent = in_parcels([*first, *together], 400) + in_parcels(scattered, 70)
    between = [maker.event() for _ in range(order.events // 2)]
    later = [_copy(event) for event in first[::2]]
    conflicts = [_other_body(maker, event) for event in first[1::2]]
    maker.rnd.shuffle(later)
    return maker.truth(
        sent,
        in_parcels(between, order.request_events),
        in_parcels(later + conflicts, order.request_events),
        in_parcels([maker.event() for _ in range(order.events // 4)], order.request_events),
        in_parcels([_copy(event) for event in first + between], order.request_events),
    )


def _copy(event: Planned) -> Planned:
    return Planned(event.tenant, event.body, Fate.COPY)


def _other_body(maker: Maker, event: Planned) -> Planned:
    """Return an event of the same identity and subject that says something else."""
    head, found, data = event.body.partition(b'"data":{')
    if not found:
        raise AssertionError("a drill's event has data")
    note = b'"note":%d,' % maker.rnd.randrange(10**6)
    return Planned(event.tenant, head + found + note + data, Fate.CONFLICT)


def _alike(maker: Maker) -> Iterator[Planned]:
    """Yield events that only look like copies: each counts."""
    order = maker.order
    for tenant in order.tenants:
        for source in ("drill", "Drill", "drill/"):
            for name in (*_FOLDED_ID, "a", "A", " a", "a "):
                body = event_body(
                    event_id=f"{order.event_type}-{name}",
                    event_type=order.event_type,
                    subject="alike",
                    time=order.now,
                    data=maker.data(),
                    source=source,
                )
                yield Planned(tenant, body, Fate.COUNTED)


def disorder(order: Order) -> Truth:
    """Events late by 1 second to 35 days and early, and at every edge that calendars have."""
    maker = Maker(order)
    now = order.now
    spans = {
        "late 1 s": timedelta(seconds=1),
        "late 1 min": timedelta(minutes=1),
        "late 1 h": timedelta(hours=1),
        "late 1 day": timedelta(days=1),
        "late 35 days": timedelta(days=35),
        "early 4 min": -timedelta(minutes=4),
    }
    names = list(spans)
    events = []
    for _ in range(order.events):
        late = maker.rnd.choice(names)
        jitter = timedelta(seconds=maker.rnd.randrange(60))
        events.append(maker.event(time=now - spans[late] - jitter, late=late))
    for edge in _edges(now):
        for step in (-1, 0, 1):
            moment = edge + step * timedelta(microseconds=1)
            events += [maker.event(time=moment, late="edge") for _ in range(2)]
    too_early = now + timedelta(minutes=7)
    events += [
        maker.event(time=too_early, fate=Fate.REFUSED, late="early 7 min") for _ in range(20)
    ]
    too_late = now - timedelta(days=402)
    events += [maker.event(time=too_late, fate=Fate.REFUSED, late="late 402 days")] * 2
    maker.rnd.shuffle(events)
    leap = [
        maker.event(tenant=order.tenants[0], time=moment, late="edge")
        for moment in (
            datetime(2024, 2, 28, 23, 59, 59, 999999, UTC),
            datetime(2024, 2, 29, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
            datetime(2024, 3, 1, tzinfo=UTC),
        )
        for _ in range(3)
    ]
    # Old events come past ingest, as a producer with a backlog writes them.
    return maker.truth([*in_parcels(events, order.request_events), records_of(leap)])


def _edges(now: datetime) -> Iterator[datetime]:
    """Yield the edges of the last year: hours, days, months, the year, changes of the clock."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    yield hour
    yield hour.replace(hour=0)
    for days in range(1, 390):
        day = hour.replace(hour=0) - timedelta(days=days)
        is_last_sunday = day.weekday() == 6 and (day + timedelta(days=7)).month != day.month
        if day.day == 1:
            yield day
        elif is_last_sunday and day.month in {3, 10}:
            # Clocks of Europe change at 01:00 UTC; local midnight is 22:00 or 23:00 before.
            yield day - timedelta(hours=2)
            yield day - timedelta(hours=1)
            yield day + timedelta(hours=1)
            yield day + timedelta(hours=22)
            yield day + timedelta(hours=23)


def skew(order: Order) -> Truth:
    """One subject with nine of ten events; half of the others follow a power law, half are new."""
    maker = Maker(order)
    subjects = [f"z{rank}" for rank in range(1, 1001)]
    weights = [1 / rank for rank in range(1, 1001)]
    ranked = iter(maker.rnd.choices(subjects, weights, k=order.events))
    events = []
    for number in range(order.events):
        drawn = maker.rnd.random()
        rare = next(ranked) if drawn > 0.95 else f"new {number}"
        events.append(maker.event(subject="hot" if drawn < 0.9 else rare))
    return maker.truth(in_parcels(events, 5 * order.request_events))


_STEPS = (0, 5 * 60, -5 * 60, 3600, -3600, 0)
"""By how many seconds the broker's clock is wrong, one after the other."""


def clocks(order: Order) -> Truth:
    """Events in records as ingest writes them, while the broker's clock steps; copies after each.

    The last of them are stamped at the ends of a month and of a year and on a leap day.
    """
    maker = Maker(order)
    tenant = order.tenants[0]
    moments = [order.now + timedelta(seconds=step) for step in _STEPS]
    moments += [edge + timedelta(microseconds=step) for edge in _ENDS for step in (-1000, 0)]
    made: list[Planned] = []
    phases: list[list[Parcel]] = []
    for moment in moments:
        # Ingest has a clock of its own, which may be ahead of the broker's; of clocks that are
        # further apart, only the audit of a cut finds the copies that lie behind the horizon.
        ahead = timedelta(minutes=maker.rnd.choice((0, 2, 4)))
        fresh = [
            maker.event(
                tenant=tenant,
                time=moment + ahead - timedelta(seconds=maker.rnd.randrange(7200)),
            )
            for _ in range(order.events // len(moments))
        ]
        again = [_copy(event) for event in maker.rnd.sample(made, min(len(made), len(fresh)))]
        made += fresh
        headers = ((CONTENT_TYPE_HEADER, ARROW_CONTENT_TYPE),)
        at_ms = int(moment.timestamp() * 1000)
        events = maker.rnd.sample(fresh, len(fresh)) + again
        phases.append([Parcel(tenant, tuple(events), headers, append_ms=at_ms)])
    honest = [maker.event() for _ in range(order.events // 4)]
    return maker.truth(*phases, in_parcels(honest, order.request_events))


_ENDS = (
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2024, 3, 31, 1, tzinfo=UTC),
    datetime(2025, 1, 1, tzinfo=UTC),
)
"""Where days, months and years end, and where clocks of Europe change."""


def records_of(events: list[Planned]) -> Parcel:
    """Return events as structured CloudEvents in records, written past ingest."""
    tenant = events[0].tenant
    headers = (
        (CONTENT_TYPE_HEADER, CLOUDEVENT_CONTENT_TYPE),
        (TENANT_HEADER, tenant.encode()),
    )
    return Parcel(tenant, tuple(events), headers)
