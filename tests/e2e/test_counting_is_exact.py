"""What is sent counts once, in whatever order, however often; and a fixed cut never changes."""

import random
from datetime import UTC, datetime, timedelta

from tests.embedded_stack import EmbeddedStack
from tests.feed import Truth, post, send_all, utc_now
from tests.metering import check_totals, create_meters, cut_now, quantities, reader_of
from tollbook.usage_wiring import open_clickhouse


def test_duplicates_are_counted_once(stack: EmbeddedStack) -> None:
    """Ten times over, in one request and across requests."""
    known = stack.read()
    truth = Truth.generate(1, 300, "once.duplicates", utc_now())
    create_meters(known, truth.definitions())
    for _ in range(5):
        post(known, truth.events + truth.events)
    check_totals(known, truth)


def test_resent_requests_are_counted_once(stack: EmbeddedStack) -> None:
    known = stack.read()
    truth = Truth.generate(2, 3000, "once.resent", utc_now())
    create_meters(known, truth.definitions())
    send_all(truth, known.ingest_url, known.api_key, seed=1, size=50)
    send_all(truth, known.ingest_url, known.api_key, seed=2, size=70)
    check_totals(known, truth)


def test_order_does_not_matter(stack: EmbeddedStack) -> None:
    known = stack.read()
    for name in ("forwards", "backwards", "shuffled"):
        truth = Truth.generate(3, 2000, f"order.{name}", utc_now())
        create_meters(known, truth.definitions())
        events = sorted(
            truth.events, key=lambda event: str(event["time"]), reverse=name == "backwards"
        )
        if name == "shuffled":
            random.Random(9).shuffle(events)
        for start in range(0, len(events), 100):
            post(known, events[start : start + 100])
        check_totals(known, truth)


def test_an_answer_as_of_a_cut_stays_the_same_however_much_arrives_later(
    stack: EmbeddedStack,
) -> None:
    known = stack.read()
    truth = Truth.generate(4, 1500, "cut.stays", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events[:500])
    first = cut_now(known)
    keys = [definition["key"] for definition in truth.definitions()]
    then = [quantities(known, first, key, truth) for key in keys]
    early = Truth(truth.event_type, truth.start, truth.end, truth.events[:500])
    assert then == [early.expected()[key.rsplit("_", 1)[1]] for key in keys]
    post(known, truth.events[500:])
    second = cut_now(known)
    assert [quantities(known, first, key, truth) for key in keys] == then
    expected = truth.expected()
    now = [quantities(known, second, key, truth) for key in keys]
    assert now == [expected[key.rsplit("_", 1)[1]] for key in keys]


def test_a_cut_in_the_past_lies_between_what_came_before_and_after(stack: EmbeddedStack) -> None:
    """Such a cut divides a segment: its piece is folded from raw events."""
    known = stack.read()
    truth = Truth.generate(5, 900, "cut.past", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events[:400])
    between = datetime.now(UTC)
    post(known, truth.events[400:])
    cut = reader_of(known).fix_cut(known.tenant, between)
    early = Truth(truth.event_type, truth.start, truth.end, truth.events[:400])
    for definition in truth.definitions():
        name = definition["key"].rsplit("_", 1)[1]
        assert quantities(known, cut, definition["key"], truth) == early.expected()[name], name


def test_an_interval_that_is_not_made_of_whole_windows_is_exact(stack: EmbeddedStack) -> None:
    known = stack.read()
    now = utc_now()
    truth = Truth.generate(6, 1000, "edges", now)
    create_meters(known, truth.definitions())
    post(known, truth.events)
    start, end = now - timedelta(seconds=5555), now - timedelta(seconds=1234)
    inside = [
        event for event in truth.events if start <= datetime.fromisoformat(str(event["time"])) < end
    ]
    asked = Truth(truth.event_type, start, end, inside)
    cut = cut_now(known)
    for definition in truth.definitions():
        name = definition["key"].rsplit("_", 1)[1]
        assert quantities(known, cut, definition["key"], asked) == asked.expected()[name], name


def test_events_from_before_a_meter_was_made_count_in_windows_and_at_edges(
    stack: EmbeddedStack,
) -> None:
    """From the first moment: its history is folded from raw events until it is seeded."""
    known = stack.read()
    now = utc_now()
    truth = Truth.generate(9, 600, "activation", now)
    post(known, truth.events[:300])
    create_meters(known, truth.definitions())
    post(known, truth.events[300:])
    start, end = now - timedelta(seconds=5555), now - timedelta(seconds=1234)
    inside = [
        event for event in truth.events if start <= datetime.fromisoformat(str(event["time"])) < end
    ]
    asked = Truth(truth.event_type, start, end, inside)
    cut = cut_now(known)
    assert quantities(known, cut, "activation_calls", asked) == asked.expected()["calls"]
    check_totals(known, truth)


def test_changes_between_two_cuts_name_every_window_touched(stack: EmbeddedStack) -> None:
    known = stack.read()
    truth = Truth.generate(7, 200, "changes", utc_now())
    create_meters(known, truth.definitions())
    before = cut_now(known)
    post(known, truth.events)
    changed = reader_of(known).changed(before, cut_now(known))
    for event in truth.events:
        time = datetime.fromisoformat(str(event["time"]))
        assert any(
            row.meter == "changes_calls"
            and row.subject == event["subject"]
            and row.start <= time < row.end
            for row in changed
        ), event


def test_the_views_answer_what_a_recount_does(stack: EmbeddedStack) -> None:
    """Over a day, since the events may lie on both sides of midnight: per subject and day."""
    known = stack.read()
    truth = Truth.generate(8, 1500, "views", utc_now())
    create_meters(known, truth.definitions())
    post(known, truth.events)
    cut_now(known)
    days: dict[str, Truth] = {}
    for event in truth.events:
        day = str(datetime.fromisoformat(str(event["time"])).date())
        of_day = days.setdefault(day, Truth(truth.event_type, truth.start, truth.end))
        of_day.events.append(event)
    rows = (
        open_clickhouse(known.clickhouse_url)
        .query(
            "SELECT toString(toDate(window_start)), meter, subject, sum(value) FROM usage_daily"
            " WHERE meter LIKE 'views_%' GROUP BY ALL"
        )
        .result_rows
    )
    found = {
        (day, meter.removeprefix("views_"), subject): value for day, meter, subject, value in rows
    }
    assert found == {
        (day, name, subject): value
        for day, of_day in days.items()
        for name, by_subject in of_day.expected().items()
        for subject, value in by_subject.items()
    }
