"""What a drill sends: seeded events of every kind that producers have sent anywhere."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ingest.topic import CLOUDEVENT_CONTENT_TYPE, CONTENT_TYPE_HEADER, TENANT_HEADER
from tollbook.drill.truth import Fate, Parcel, Planned, Truth, event_body, in_parcels

REQUEST_EVENTS = 100
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


Workload = Callable[[Order], Truth]


class _Maker:
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
    maker = _Maker(order)
    made: list[Planned] = []
    sent: list[Planned] = []
    for _ in range(order.events):
        made.append(maker.event())
        sent.append(made[-1])
        if maker.rnd.random() < 0.1:
            again = maker.rnd.choice(made)
            sent.append(Planned(again.tenant, again.body, Fate.COPY))
    return maker.truth(in_parcels(sent, REQUEST_EVENTS))


def copies(order: Order) -> Truth:
    """Copies x1 to x1000, at once, across requests and behind the horizon; ids that look alike."""
    maker = _Maker(order)
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
        in_parcels(between, REQUEST_EVENTS),
        in_parcels(later + conflicts, REQUEST_EVENTS),
        in_parcels([maker.event() for _ in range(order.events // 4)], REQUEST_EVENTS),
        in_parcels([_copy(event) for event in first + between], REQUEST_EVENTS),
    )


def _copy(event: Planned) -> Planned:
    return Planned(event.tenant, event.body, Fate.COPY)


def _other_body(maker: _Maker, event: Planned) -> Planned:
    """Return an event of the same identity and subject that says something else."""
    head, found, data = event.body.partition(b'"data":{')
    if not found:
        raise AssertionError("a drill's event has data")
    note = b'"note":%d,' % maker.rnd.randrange(10**6)
    return Planned(event.tenant, head + found + note + data, Fate.CONFLICT)


def _alike(maker: _Maker) -> Iterator[Planned]:
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
    maker = _Maker(order)
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
    return maker.truth([*in_parcels(events, REQUEST_EVENTS), _records(leap)])


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
    """One subject with nine of ten events; the others as frequent as their rank is low."""
    maker = _Maker(order)
    subjects = [f"z{rank}" for rank in range(1, 1001)]
    weights = [1 / rank for rank in range(1, 1001)]
    rare = iter(maker.rnd.choices(subjects, weights, k=order.events))
    events = [
        maker.event(subject="hot" if maker.rnd.random() < 0.9 else next(rare))
        for _ in range(order.events)
    ]
    return maker.truth(in_parcels(events, 500))


NUMBERS = (
    "0", "-0", "-0.0", "0e5", "1e0", "1E-12", "12e-13", "1e17",
    "999999999999999999.999999999999", "-999999999999999999.999999999999", "1e18", "1e400",
    "-1e400", "1e-400", "100000000000000000000000000000000000000",
    "0.123456789012345678901234567890", "1.0000000000000", '"1.50"', '"abc"', '"NaN"',
    '"Infinity"', '"-Infinity"', '""', '" 7"', '"7 "', '"1e400"', '"+5"', '"0x10"', '"1_000"',
    '"\\u0660"', '"1,5"', "null", "true", "[1]", "{}",
)  # fmt: skip
"""Values as producers write them; the recount says which of them are numbers."""


def hostile(order: Order) -> Truth:
    """Values, names and bytes that break naive parsers: each has its verdict, the rest goes on."""
    maker = _Maker(order)
    events: list[Planned] = []
    for _ in range(max(1, order.events // 200)):
        for number in NUMBERS:
            data = f'{{"region":"n","units":{number},"who":1}}'
            events.append(maker.event(data=data))
        events += [maker.event(data=data) for data in _DATA]
        events += [_refused(maker, body) for body in _broken(maker)]
    events += [maker.event() for _ in range(order.events)]
    maker.rnd.shuffle(events)
    tenant = order.tenants[0]
    good = [maker.event(tenant=tenant) for _ in range(20)]
    records = _records(good + [Planned(tenant, body, Fate.DEAD) for body in _dead(maker)])
    return maker.truth(in_parcels(events, REQUEST_EVENTS), [records])


_DATA = (
    "{}",
    '{"who":"only"}',
    '{"region":"dup","units":1,"units":2,"who":"x","who":"y"}',
    '{"region":"\\u0000","units":1,"who":"nul"}',
    '{"region":"\\ud83d\\ude00","units":1,"who":"\\u00e9"}',
    '{"region":7,"units":1,"who":7}',
    '{"region":"7","units":1,"who":"7"}',
    '{"region":true,"units":1,"who":false}',
    '{"region":"' + "x" * 256 + '","units":1,"who":1}',
    '{"deep":' + "[" * 30 + "]" * 30 + ',"region":"d","units":3,"who":1}',
    '{"units":4,"region":"w" , "who" : 1 }',
)
"""Data that is strange and still good."""


def _refused(maker: _Maker, body: bytes) -> Planned:
    return Planned(maker.rnd.choice(maker.order.tenants), body, Fate.REFUSED)


def _broken(maker: _Maker) -> Iterator[bytes]:
    """Yield events that ingest must refuse one by one."""
    good = maker.event(data='{"region":"r","units":1,"who":1}').body
    deep = b"[" * 40 + b"]" * 40
    for old, new in (
        (b'"units":1', b'"units":NaN'),
        (b'"units":1', b'"units":Infinity'),
        (b'"units":1', b'"units":01'),
        (b'"units":1', b'"units":"\xff\xfe"'),
        (b'"units":1', b'"units":' + deep),
        (b'"subject":"', b'"subject":"\\u0000'),
        (b'"subject":"', b'"subject":"' + b"x" * 300),
        (b'"specversion": "1.0"', b'"specversion": "0.3"'),
        (b'"type":', b'"kind":'),
        (b'"id":', b'"Id":'),
        (b'"time": "', b'"time": "yesterday '),
        (b"}", b""),
    ):
        spoiled = good.replace(b'": "', b'":"').replace(b'", "', b'","')
        plain_old = old.replace(b'": "', b'":"')
        if plain_old not in spoiled:
            raise AssertionError(f"{old!r} is not in a drill's event")
        yield spoiled.replace(plain_old, new, 1)
    yield b"[]"
    yield b'"text"'
    yield b"null"


def _dead(maker: _Maker) -> Iterator[bytes]:
    """Yield records that are no events; each names the drill, to be known again."""
    name = maker.order.event_type.encode()
    good = maker.event().body
    yield b"{" + name
    yield good[:-1]
    yield good.replace(b'"drill"', b'"\xff\xfe"')
    yield b"\x00\x01\x02" + name
    yield b"[" + good + b"]"
    yield good.replace(b'"subject"', b'"object"')


def _records(events: list[Planned]) -> Parcel:
    """Return events as structured CloudEvents in records, written past ingest."""
    tenant = events[0].tenant
    headers = (
        (CONTENT_TYPE_HEADER, CLOUDEVENT_CONTENT_TYPE),
        (TENANT_HEADER, tenant.encode()),
    )
    return Parcel(tenant, tuple(events), headers)
