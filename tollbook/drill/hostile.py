"""What a drill sends to break naive parsers: each piece has its verdict, and the rest goes on."""

from collections.abc import Iterator

from tollbook.drill.truth import Fate, Planned, Truth, in_parcels
from tollbook.drill.workloads import Maker, Order, records_of

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
    maker = Maker(order)
    events: list[Planned] = []
    for _ in range(max(1, order.events // 2000)):
        for number in NUMBERS:
            data = f'{{"region":"n","units":{number},"who":1}}'
            events.append(maker.event(data=data))
        events += [maker.event(data=data) for data in _DATA]
        events += [_refused(maker, body) for body in _broken(maker)]
    events += [maker.event() for _ in range(order.events)]
    maker.rnd.shuffle(events)
    tenant = order.tenants[0]
    good = [maker.event(tenant=tenant) for _ in range(20)]
    records = records_of(good + [Planned(tenant, body, Fate.DEAD) for body in _dead(maker)])
    return maker.truth(in_parcels(events, order.request_events), [records])


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


def _refused(maker: Maker, body: bytes) -> Planned:
    return Planned(maker.rnd.choice(maker.order.tenants), body, Fate.REFUSED)


def _broken(maker: Maker) -> Iterator[bytes]:
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


def _dead(maker: Maker) -> Iterator[bytes]:
    """Yield records that are no events; each names the drill, to be known again."""
    name = maker.order.event_type.encode()
    good = maker.event().body
    yield b"{" + name
    yield good[:-1]
    yield good.replace(b'"drill"', b'"\xff\xfe"')
    yield b"\x00\x01\x02" + name
    yield b"[" + good + b"]"
    yield good.replace(b'"subject"', b'"object"')
