"""Whenever a meter is made, it counts all that there was and all that comes, as of every cut.

Random logs with copies, corrections, a new log and cuts that divide segments; meters, and versions
of them, are made in between, and seeded by a seeder that dies. A naive recount of the events that
count as of a cut, under the definition in force for each, says what each answer has to be.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from pipelines.identity import identity_of
from pipelines.question import UsageQuestion
from pipelines.usage import Cut
from tests.e2e.billing_databases import databases
from tests.e2e.meter_world import HOURS, START, TENANT, Event, World
from tests.embedded_stack import EmbeddedStack

TABLES = Path(__file__).parents[2] / "sql" / "clickhouse" / "001_usage.sql"
BOUNDARY = START + timedelta(hours=2)
"""Where second versions come into force: they count another member of data."""
END = START + timedelta(hours=HOURS + 1)
SHAPES: list[dict[str, Any]] = [
    {"key": "calls", "aggregation": "count", "window": "1m"},
    {"key": "units", "aggregation": "sum", "value": "$.units", "window": "15m"},
    {"key": "mean", "aggregation": "avg", "value": "$.units", "window": "1h"},
    {"key": "least", "aggregation": "min", "value": "$.units", "window": "1h"},
    {"key": "top", "aggregation": "max", "value": "$.units", "window": "15m"},
    {"key": "who", "aggregation": "unique_count", "value": "$.units", "window": "1h"},
    {"key": "p62", "aggregation": "percentile", "value": "$.units", "percentile": "62.5"},
    {"key": "last", "aggregation": "latest", "value": "$.units", "window": "1h"},
    {"key": "seconds", "aggregation": "weighted_sum", "value": "$.units", "per": "second"},
]  # fmt: skip
STEPS = 64
METERS = 4
INTERVALS = [
    (START, END),
    (START + timedelta(minutes=7, microseconds=5), BOUNDARY + timedelta(minutes=50, seconds=1)),
]

Group = tuple[str, str]
Sample = tuple[datetime, bytes, Decimal]


def second_version(shape: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(shape)
    if "value" in shape:
        changed["value"] = "$.other"
    else:
        changed["filter"] = "data.other > '25'"
    return changed


def rounded(value: Fraction) -> Decimal:
    units = abs(value) * 10**12 + Fraction(1, 2)
    return Decimal(math.floor(units) * (1 if value >= 0 else -1)).scaleb(-12)


RECOUNTS: dict[str, Callable[[list[Sample]], Decimal]] = {
    "calls": lambda found: Decimal(len(found)),
    "units": lambda found: sum((value for *_, value in found), Decimal(0)),
    "mean": lambda found: rounded(
        sum((Fraction(value) for *_, value in found), Fraction(0)) / len(found)
    ),
    "least": lambda found: min(value for *_, value in found),
    "top": lambda found: max(value for *_, value in found),
    "who": lambda found: Decimal(len({value for *_, value in found})),
    "p62": lambda found: sorted(value for *_, value in found)[
        math.ceil(Fraction(625 * len(found), 1000)) - 1
    ],
    "last": lambda found: max(found)[2],
}


def samples(events: list[Event], key: str, *, is_second: bool) -> dict[Group, list[Sample]]:
    """Return what one definition counts of events, by subject and region."""
    found: dict[Group, list[Sample]] = defaultdict(list)
    for event in events:
        data = json.loads(event["data"])
        value = data.get("other" if is_second else "units", "no")
        if key == "calls":
            value = "1" if not is_second or data["other"] > "25" else "no"
        if value != "no":
            identity = identity_of(TENANT, "s", event["id"], 0) if key == "last" else b""
            found[event["subject"], data["region"]].append(
                (event["time"], identity, Decimal(value))
            )
    return found


def recount(
    events: list[Event], key: str, versions: int, asked: tuple[datetime, datetime], until: datetime
) -> dict[Group, Decimal]:
    """Count, the naive way, what a meter with one version or two measures of events."""
    bounds = [(START, BOUNDARY), (BOUNDARY, END)] if versions == 2 else [(START, END)]
    counted: dict[Group, list[Sample]] = defaultdict(list)
    lasted: dict[Group, Fraction] = {}
    for number, (begins, ends) in enumerate(bounds):
        start, end = max(begins, asked[0]), min(ends, asked[1])
        for group, found in samples(events, key, is_second=number == 1).items():
            if key != "seconds":
                counted[group] += [each for each in found if start <= each[0] < end]
                continue
            found.sort()
            following = [at for at, *_ in found[1:]] + [until]
            for (at, _, value), after in zip(found, following, strict=True):
                lasts = min(end, after, until) - max(start, at)
                if lasts > timedelta():
                    amount = Fraction(value) * (lasts // timedelta(microseconds=1))
                    lasted[group] = lasted.get(group, Fraction(0)) + amount
    if key == "seconds":
        return {group: rounded(amount / 10**6) for group, amount in lasted.items()}
    return {group: RECOUNTS[key](found) for group, found in counted.items() if found}


def answer(world: World, key: str, asked: tuple[datetime, datetime], cut: Cut | None) -> Any:
    question = UsageQuestion(
        key,
        *asked,
        by_subject=True,
        group_by=("region",),
        cut=None if cut is None else cut.number,
    )
    rows = list(world.queries.ask(TENANT, question, END))
    return {(row.key.subject, row.key.dimensions[0]): row.value for row in rows}


@contextmanager
def worlds(stack: EmbeddedStack, seed: int) -> Iterator[World]:
    server, _, _ = stack.read().clickhouse_url.rpartition("/")
    owner = clickhouse_connect.get_client(dsn=f"{server}/default")
    owner.command(f"CREATE DATABASE later_{seed}")
    client = clickhouse_connect.get_client(
        dsn=f"{server}/later_{seed}", autogenerate_session_id=False
    )
    for statement in TABLES.read_text().split(";\n"):
        if statement.strip():
            client.command(statement)
    with databases(stack) as make:
        connection = make(f"later_{seed}")[1]
        connection.execute("UPDATE tenants SET virtual_clock = false")
        yield World(connection, client, seed)
    client.close()
    owner.command(f"DROP DATABASE later_{seed}")
    owner.close()


class Play:
    """Lets things happen in a world, and holds every answer against the recount, for ever."""

    def __init__(self, world: World) -> None:
        self.world, self.rnd = world, world.rnd
        self.unmade = [(shape, 1) for shape in self.rnd.sample(SHAPES, METERS)]
        self.known: dict[int, dict[str, int]] = {}
        """Per cut, the meters known at it with how many versions they have."""
        self.made: dict[str, int] = {}
        self.answered: dict[Any, str] = {}
        self.states: set[str] = set()
        self.last_cut_ms = world.now_ms

    def step(self) -> None:
        """Let one thing happen."""
        happenings = [
            (55, self.world.send_events),
            (20, self.world.correct),
            (11, self.make_something),
            (4, lambda: self.world.chain.activate_meters(TENANT)),
            (5, lambda: self.world.seed(0.3)),
            (2, self.cut_somewhere),
        ]
        weights = [weight for weight, _ in happenings]
        [(_, happen)] = self.rnd.choices(happenings, weights)
        if self.world.model.events or happen != self.world.correct:
            happen()

    def make_something(self) -> None:
        """Make a meter that there is not, or the second version of one."""
        if self.unmade:
            shape, version = self.unmade.pop(self.rnd.randrange(len(self.unmade)))
            shape = {"event_type": "use", "dimensions": {"region": "$.region"}, **shape}
            if version == 2:
                self.world.make(second_version(shape), BOUNDARY)
            else:
                self.world.make(shape)
                self.unmade.append((shape, 2))
            self.made[shape["key"]] = version

    def cut_somewhere(self) -> None:
        """Fix a cut, often behind what is counted, and ask as of any that there is."""
        self.last_cut_ms = self.rnd.randrange(self.last_cut_ms, self.world.now_ms + 1)
        self.cut(self.last_cut_ms)
        self.world.seed(0.3)
        self.check(self.rnd.sample(list(self.world.fixed()), 1))
        self.states.update(each.state for each in self.world.meters.listed(TENANT))

    def cut(self, at_ms: int) -> None:
        cut = self.world.fix_cut(at_ms)
        self.known[cut.number] = dict(self.made)

    def check(self, cuts: list[Cut]) -> None:
        """Compare answers with the recount, and with what was answered before."""
        for cut in cuts:
            live = self.world.model.live(cut.number)
            for key in self.made:
                versions = self.known[cut.number].get(key)
                if versions is None:
                    with pytest.raises(LookupError):
                        answer(self.world, key, INTERVALS[0], cut)
                    continue
                asked = self.rnd.choice(INTERVALS)
                found = answer(self.world, key, asked, cut)
                expected = recount(live, key, versions, asked, cut.at)
                assert found == expected, (key, cut.number, asked)
                before = self.answered.setdefault((key, cut.number, asked), repr(found))
                assert before == repr(found)

    def check_changes(self) -> int:
        """See that whatever differs between two cuts is named; return how much did."""
        differing = 0
        for before, after in pairwise(self.world.fixed()):
            changed = self.world.reader.changed(before, after)
            events = [self.world.model.live(cut.number) for cut in (before, after)]
            for key, versions in self.known[before.number].items():
                if self.known[after.number][key] != versions:
                    continue
                for hour in range(HOURS):
                    start = START + timedelta(hours=hour)
                    asked = (start, start + timedelta(hours=1))
                    then, now = (recount(live, key, versions, asked, END) for live in events)
                    for subject, _ in {group for group, _ in then.items() ^ now.items()}:
                        differing += 1
                        assert any(
                            (each.meter, each.subject) == (key, subject)
                            and each.start < asked[1]
                            and each.end > start
                            for each in changed
                        ), (key, subject, start, before.number, after.number)
        return differing


@pytest.mark.parametrize("seed", range(1))
def test_a_meter_made_at_any_moment_equals_a_recount_as_of_every_cut(
    stack: EmbeddedStack, seed: int
) -> None:
    with worlds(stack, seed) as world:
        play = Play(world)
        world.open_log(2)
        for number in range(STEPS):
            if number == STEPS // 3:
                world.open_log(2)
            if number == STEPS * 2 // 3 and seed % 2:
                world.close_log(world.logs[0])
            play.step()
            if number % 16 == 15:
                play.cut_somewhere()
        while play.unmade:
            play.make_something()
        world.chain.activate_meters(TENANT)
        play.cut(world.now_ms)
        play.check(list(world.fixed())[-1:])
        while world.meters.seedings():
            world.seed(0.2)
        world.correct()
        play.cut(world.now_ms)
        play.check(list(world.fixed()))
        assert play.check_changes() > 10
        assert {each.state for each in world.meters.listed(TENANT)} == {"live"}
        assert {"activating", "seeding", "live"} & play.states
        assert world.tables.crashes > 1
        assert len(play.known) > 2
