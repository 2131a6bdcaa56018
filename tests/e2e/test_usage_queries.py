"""Questions of usage are answered exactly: any window, zone, edge, group; compared by hand."""

import csv
import io
import json
import os
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pyarrow as pa
import pytest

from tests.embedded_stack import EmbeddedStack, run_tollbook
from tests.metering import create_meters, cut_now

PARIS = ZoneInfo("Europe/Paris")
START = datetime(2026, 10, 24, 9, 7, 31, 250_000, tzinfo=UTC)
SECONDS = 60 * 3600
"""Over the 25 hours of 25 October 2026 in Paris."""

METERS: list[dict[str, Any]] = [
    {"key": "asked_calls", "aggregation": "count", "dimensions": {"region": "$.region"}},
    {"key": "asked_units", "aggregation": "sum", "value": "$.units", "window": "1m",
     "dimensions": {"region": "$.region", "model": "$.model"}},
    {"key": "asked_who", "aggregation": "unique_count", "value": "$.who", "window": "1h"},
    {"key": "asked_top", "aggregation": "max", "value": "$.units", "window": "15m"},
]  # fmt: skip


def generate(count: int) -> list[dict[str, Any]]:
    rnd = random.Random(20)
    return [
        {
            "id": str(number),
            "source": "tests",
            "type": "asked",
            "subject": f"s{rnd.randrange(4)}",
            "time": (START + timedelta(microseconds=rnd.randrange(SECONDS * 10**6))).isoformat(),
            "data": {
                "region": rnd.choice("ab"),
                "model": rnd.choice(["x", 'say "y"', "é,\t"]),
                "units": str(Decimal(rnd.randrange(-(10**6), 10**9)) / 10**6),
                "who": rnd.choice("abcdefgh"),
            },
        }
        for number in range(count)
    ]


EVENTS = generate(1200)
MICROSECOND = timedelta(microseconds=1)


def rounded(value: Decimal) -> Decimal:
    """Return a number with twelve decimals."""
    return value.quantize(Decimal("1e-12"), ROUND_HALF_UP)


class Asker:
    """Asks over HTTP, and recounts the events with nothing of ours."""

    def __init__(self, embedded: EmbeddedStack) -> None:
        self.embedded = embedded
        self.stack = stack = embedded.read()
        self.headers = {"Authorization": f"Bearer {stack.api_key}"}
        self.http = httpx.Client(base_url=stack.api_url, headers=self.headers, timeout=30)

    def restart_worker(self) -> None:
        """Kill a worker, and wait until everything runs again."""
        os.kill(self.embedded.read().pids["worker-0"], signal.SIGKILL)
        self.embedded.wait_until_all_ready()

    def get(self, path: str, asked: list[tuple[str, str]], **headers: str) -> httpx.Response:
        return self.http.get(path, params=httpx.QueryParams([*asked]), headers=headers)

    def rows(self, meter: str, *asked: tuple[str, str]) -> list[dict[str, Any]]:
        answer = self.get(f"/v1/meters/{meter}/query", list(asked))
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows


@pytest.fixture(scope="module")
def asker(stack: EmbeddedStack) -> Iterator[Asker]:
    known = stack.read()
    create_meters(known, [meter | {"event_type": "asked"} for meter in METERS])
    asker = Asker(stack)
    answer = asker.http.post("/api/v1/events", json=EVENTS)
    assert answer.status_code == 204, answer.text
    cut_now(known)
    with psycopg.connect(known.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO tenants (tenant, name) VALUES ('stranger', 'S') ON CONFLICT DO NOTHING"
        )
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role)"
            " VALUES (sha256('tb_stranger'), 'stranger', 'k', 'owner')"
        )
        for subject, begins in (("s0", None), ("s1", "2026-10-25T10:20:30.5Z")):
            connection.execute(
                "INSERT INTO subject_assignments (tenant, subject, customer, during,"
                " known_revision) VALUES (%s, %s, 'asked', tstzrange(%s, NULL), 1)",
                (known.tenant, subject, begins),
            )
    yield asker
    asker.http.close()


def window_of(moment: datetime, window: str, zone: ZoneInfo) -> str:
    """Return where a local window starts, by the wall clock."""
    if window in ("1m", "1h"):
        size = {"1m": 60, "1h": 3600}[window]
        offset = moment.astimezone(zone).utcoffset()
        assert offset is not None
        ahead = int(offset.total_seconds())
        seconds = (int(moment.timestamp()) + ahead) // size * size - ahead
        start = datetime.fromtimestamp(seconds, UTC)
    else:
        wall = moment.astimezone(zone).date()
        day = wall if window == "1d" else wall.replace(day=1)
        start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    return start.isoformat().replace("+00:00", "Z")


def value_of(meter: str, events: list[dict[str, Any]]) -> Decimal:
    units = [Decimal(event["data"]["units"]) for event in events]
    return {
        "asked_calls": Decimal(len(events)),
        "asked_units": sum(units, Decimal(0)),
        "asked_who": Decimal(len({event["data"]["who"] for event in events})),
        "asked_top": max(units),
    }[meter]


def recount(
    meter: str,
    window: str,
    zone: ZoneInfo,
    interval: tuple[datetime, datetime],
    *groups: str,
) -> dict[tuple[str, ...], Decimal]:
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for event in EVENTS:
        moment = datetime.fromisoformat(event["time"])
        if interval[0] <= moment < interval[1]:
            names = [event["subject"] if g == "subject" else event["data"][g] for g in groups]
            found.setdefault((window_of(moment, window, zone), *names), []).append(event)
    return {key: value_of(meter, events) for key, events in found.items()}


def counted(rows: list[dict[str, Any]], *groups: str) -> dict[tuple[str, ...], Decimal]:
    found = {}
    for row in rows:
        names = [row["subject"] if g == "subject" else row["dimensions"][g] for g in groups]
        assert isinstance(row["value"], str)
        assert "E" not in row["value"]
        found[row["window_start"], *names] = Decimal(row["value"])
    assert len(found) == len(rows)
    return found


INTERVALS = [
    (datetime(2026, 10, 24, tzinfo=PARIS), datetime(2026, 10, 28, tzinfo=PARIS)),
    (datetime(2026, 10, 25, tzinfo=PARIS), datetime(2026, 10, 26, tzinfo=PARIS)),
    (
        datetime(2026, 10, 25, 0, 22, 33, 456_789, tzinfo=UTC),
        datetime(2026, 10, 25, 7, 3, 4, 5, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize("meter", [meter["key"] for meter in METERS])
@pytest.mark.parametrize("window", ["1m", "1h", "1d", "1 month"])
@pytest.mark.parametrize("zone", ["Europe/Paris", "UTC", "Asia/Kathmandu"])
def test_every_window_is_exact_by_any_clock(
    asker: Asker, meter: str, window: str, zone: str
) -> None:
    groups = ("subject", "region") if meter in ("asked_calls", "asked_units") else ("subject",)
    for start, end in INTERVALS:
        rows = asker.rows(
            meter,
            ("from", start.isoformat()),
            ("to", end.isoformat()),
            ("window", window),
            ("window_time_zone", zone),
            *(("group_by", group) for group in groups),
        )
        expected = recount(meter, window, ZoneInfo(zone), (start, end), *groups)
        assert counted(rows, *groups) == expected


def test_the_day_of_the_change_has_25_hours(asker: Asker) -> None:
    asked = [("from", "2026-10-25"), ("to", "2026-10-26"), ("window_time_zone", "Europe/Paris")]
    [day] = asker.rows("asked_calls", *asked, ("window", "1d"))
    assert (day["window_start"], day["window_end"]) == (
        "2026-10-24T22:00:00Z",
        "2026-10-25T23:00:00Z",
    )
    hours = asker.rows("asked_calls", *asked, ("window", "1h"))
    assert len(hours) == 25
    ends = [hour["window_end"] for hour in hours]
    assert [hour["window_start"] for hour in hours[1:]] == ends[:-1]
    assert ends[-1] == day["window_end"]
    assert sum(int(hour["value"]) for hour in hours) == int(day["value"])


def test_subjects_customers_and_dimensions_filter(asker: Asker) -> None:
    begins = datetime.fromisoformat("2026-10-25T10:20:30.5Z")
    theirs = [
        event
        for event in EVENTS
        if event["subject"] == "s0"
        or (event["subject"] == "s1" and datetime.fromisoformat(event["time"]) >= begins)
    ]
    [row] = asker.rows("asked_units", ("customer", "asked"), ("group_by", "customer"))
    assert (row["customer"], row["subject"]) == ("asked", None)
    assert Decimal(row["value"]) == value_of("asked_units", theirs)
    chosen = [
        event
        for event in EVENTS
        if event["subject"] in ("s1", "s2") and event["data"]["model"] == 'say "y"'
    ]
    asked = [("subject", "s1"), ("subject", "s2"), ("filter[model]", 'say "y"')]
    [row] = asker.rows("asked_units", *asked)
    assert Decimal(row["value"]) == value_of("asked_units", chosen)
    assert asker.rows("asked_units", ("subject", "nobody")) == []
    assert asker.rows("asked_units", ("customer", "nobody")) == []


def test_pages_join_to_the_whole(asker: Asker) -> None:
    asked = [("window", "1h"), ("group_by", "subject"), ("from", "2026-10-24T12:34:56Z")]
    whole = asker.rows("asked_top", *asked)
    path, joined = "/v1/meters/asked_top/query", []
    answer = asker.get(path, [*asked, ("limit", "57")])
    while True:
        joined += answer.json()["rows"]
        if answer.json()["next"] is None:
            break
        assert len(answer.json()["rows"]) == 57
        answer = asker.http.get(answer.links["next"]["url"])
    assert joined == whole


FORMATS = ["application/json", "text/csv", "application/vnd.apache.arrow.stream"]
AS_OF = [
    [("window", "1d"), ("group_by", "subject")],
    [("window", "1h"), ("group_by", "region"), ("window_time_zone", "Asia/Kathmandu")],
    [("group_by", "customer"), ("customer", "asked"), ("customer", "late")],
    [],
]


def test_a_cut_answers_the_same_bytes_however_much_arrives_later(asker: Asker) -> None:
    """Events, earlier and later than all others; owners; and a worker that starts again."""
    stack = asker.stack
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO fact_revisions (tenant, revision) VALUES (%s, 1) ON CONFLICT (tenant)"
            " DO UPDATE SET revision = greatest(fact_revisions.revision, 1)",
            (stack.tenant,),
        )
    number = str(cut_now(stack).number)

    def answers() -> list[bytes]:
        return [
            asker.get(f"/v1/meters/{meter}/query", [*asked, ("cut", number)], Accept=form).content
            for meter in ("asked_calls", "asked_units")
            for asked in AS_OF
            for form in FORMATS
        ]

    before = answers()
    ever = (START, START + timedelta(seconds=SECONDS))
    expected = recount("asked_calls", "1d", ZoneInfo("UTC"), ever, "subject")
    assert counted(json.loads(before[0])["rows"], "subject") == expected
    times = ("2026-10-20T12:00:00Z", "2026-10-26T12:00:00Z", "2026-10-29T12:00:00Z")
    late = [{**EVENTS[0], "id": f"late-{time}", "time": time} for time in times]
    try:
        assert asker.http.post("/api/v1/events", json=late).status_code == 204
        with psycopg.connect(stack.postgres_dsn) as connection:
            connection.execute(
                "INSERT INTO subject_assignments (tenant, subject, customer, during,"
                " known_revision) VALUES (%s, 's2', 'late', tstzrange(NULL, NULL), 1000000)",
                (stack.tenant,),
            )
        cut_now(stack)
        assert answers() == before
        asker.restart_worker()
        cut_now(stack)
        assert answers() == before
        [row] = asker.rows("asked_calls")
        assert int(row["value"]) == len(EVENTS) + len(late)
    finally:
        EVENTS.extend(late)


def test_pages_without_windows_join_to_the_whole(asker: Asker) -> None:
    asked = [("group_by", "subject"), ("group_by", "region")]
    whole = asker.rows("asked_calls", *asked)
    path, joined = "/v1/meters/asked_calls/query", []
    answer = asker.get(path, [*asked, ("limit", "3")])
    while True:
        joined += answer.json()["rows"]
        if answer.json()["next"] is None:
            break
        answer = asker.http.get(answer.links["next"]["url"])
    assert joined == whole
    assert len(whole) > 6


def test_csv_and_arrow_say_what_json_says(asker: Asker) -> None:
    path = "/v1/meters/asked_units/query"
    asked = [("window", "1d"), ("group_by", "subject"), ("group_by", "model")]
    rows = asker.rows("asked_units", *asked)
    plain = [
        (row["window_start"], row["subject"], row["dimensions"]["model"], row["value"])
        for row in rows
    ]
    text = asker.get(path, asked, Accept="text/csv")
    assert text.headers["content-type"].startswith("text/csv")
    read = list(csv.DictReader(io.StringIO(text.content.decode(), newline="")))
    assert [(r["window_start"], r["subject"], r["model"], r["value"]) for r in read] == plain
    stream = asker.get(path, asked, Accept="application/vnd.apache.arrow.stream")
    table = pa.ipc.open_stream(stream.content).read_all()
    assert table.column("value").to_pylist() == [Decimal(row["value"]) for row in rows]
    assert table.column("model").to_pylist() == [row["dimensions"]["model"] for row in rows]
    assert asker.get(path, asked, Accept="image/png").status_code == 406


def test_a_gauge_counts_until_the_next_sample_over_days_and_owners(asker: Asker) -> None:
    """Ten gigabytes, then four from 22:30 on the day that has 25 hours, in Paris."""
    definition = {"key": "stored", "event_type": "stored", "aggregation": "weighted_sum",
                  "value": "$.gigabytes", "per": "hour", "window": "1h"}  # fmt: skip
    create_meters(asker.stack, [definition])
    samples = [("2026-10-23T10:15:00Z", "10"), ("2026-10-25T21:30:00Z", "4")]
    events = [
        {"id": time, "source": "tests", "type": "stored", "subject": "s1", "time": time,
         "data": {"gigabytes": value}}
        for time, value in samples
    ]  # fmt: skip
    assert asker.http.post("/api/v1/events", json=events).status_code == 204
    cut = cut_now(asker.stack)
    asked = [("from", "2026-10-24"), ("to", "2026-10-27"), ("window_time_zone", "Europe/Paris"),
             ("window", "1d")]  # fmt: skip
    days = asker.rows("stored", *asked, ("cut", str(cut.number)))
    assert [row["value"] for row in days] == ["240", "241", "96"]
    # s1 is the customer's from 10:20:30.5 UTC on the 25th; the sample before it still counts.
    asked = [("customer", "asked"), ("from", "2026-10-25"), ("to", "2026-10-25T21:00:00Z")]
    [theirs] = asker.rows("stored", *asked)
    begins = datetime.fromisoformat("2026-10-25T10:20:30.5Z")
    held = (datetime(2026, 10, 25, 21, tzinfo=UTC) - begins) // MICROSECOND
    assert Decimal(theirs["value"]) == rounded(Decimal(10) * held / (3600 * 10**6))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "yesterday"),
        ("from", "2026-10-25T10:00:00"),
        ("to", "1066-10-14"),
        ("to", "2026-10-24T00:00:00Z"),
        ("window", "7m"),
        ("window_time_zone", "Mars/Base"),
        ("window_time_zone", "../../etc/passwd"),
        ("group_by", "nothing"),
        ("filter[nothing]", "x"),
        ("limit", "0"),
        ("cursor", "%%%"),
        ("cut", "999999"),
        ("colour", "red"),
    ],
)
def test_a_fault_names_its_parameter(asker: Asker, name: str, value: str) -> None:
    asked = [(name, value)] if name == "from" else [("from", "2026-10-25"), (name, value)]
    answer = asker.get("/v1/meters/asked_units/query", asked)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    field = answer.json()["errors"][0]["field"]
    assert field == f"query.{'filter' if name == 'filter[nothing]' else name}"


def test_a_tenant_asks_only_its_own_meters(asker: Asker) -> None:
    stranger = {"Authorization": "Bearer tb_stranger"}
    for path in ("/v1/meters/asked_units", "/api/v1/meters/asked_units"):
        assert asker.get(path, []).status_code == 200
        for asked in (path, f"{path}/query"):
            assert asker.get(asked, [], **stranger).status_code == 404
    assert asker.get("/api/v1/meters", [], **stranger).json() == []
    assert asker.http.get("/v1/meters/asked_units/query", headers={"Authorization": ""}).is_error


def test_the_command_says_what_the_api_says(stack: EmbeddedStack, asker: Asker) -> None:
    where = ("--data-dir", str(stack.data_dir))
    words = ("usage", "query", "asked_units", "--window", "1d", "--group-by", "subject", *where)
    done = run_tollbook(*words, "--json")
    assert done.returncode == 0, done.stderr
    asked = [("window", "1d"), ("group_by", "subject")]
    assert json.loads(done.stdout)["rows"] == asker.rows("asked_units", *asked)
    lines = run_tollbook(*words).stdout.splitlines()
    assert lines[0].split() == ["start", "end", "subject", "value"]
    assert len({len(line.rstrip()) for line in lines}) == 1, "aligned"
    failed = run_tollbook("usage", "query", "nothing", *where)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
