"""Topics grow, are made anew and lose records: an alarm says so, and no total is wrong."""

import os
import signal
from collections.abc import Sequence
from typing import Any

from tests.e2e.log_world import (
    delete_records,
    make_anew,
    newest,
    put,
    raise_partitions,
    refused,
    tollbook,
    wait_for_alarm,
    wait_for_silence,
)
from tests.embedded_stack import EmbeddedStack, wait_until
from tests.feed import Truth, send_all, utc_now
from tests.metering import check_totals, create_meters, cut_now, quantities


def part_of(truth: Truth, events: Sequence[dict[str, Any]]) -> Truth:
    return Truth(truth.event_type, truth.start, truth.end, list(events))


def send_until_taken(stack: EmbeddedStack, truth: Truth) -> None:
    """Send as a client does that tries again: ingest may still look for the new log."""
    known = stack.read()
    send_all(truth, known.ingest_url, known.api_key, seed=1, size=100)


def test_a_new_log_takes_events_and_the_old_one_is_counted_to_its_end(own: EmbeddedStack) -> None:
    """Copies of what the old log holds come again in the new one: the audit's matter, not here."""
    known = own.read()
    truth = Truth.generate(1, 600, "logs.grow", utc_now())
    create_meters(known, truth.definitions())
    before = newest(own)
    send_until_taken(own, part_of(truth, truth.events[:300]))
    cut = cut_now(known)
    then = quantities(known, cut, "logs_grow_units", truth)
    opened = tollbook(own, "log", "open", "--partitions", "3")
    assert (opened["log"], opened["partitions"]) == (before["log"] + 1, 3)
    wait_until(lambda: f"events go into log {opened['log']}" in own.log("ingest"), 30)
    stale = put(known, before["topic"], 0, truth.events[300])()
    assert stale[0] is None
    send_until_taken(own, part_of(truth, truth.events[301:]))
    check_totals(known, truth)
    assert quantities(known, cut, "logs_grow_units", truth) == then
    assert f"events go into log {opened['log']}" in refused(own, "log", "close", str(opened["log"]))
    ends = tollbook(own, "log", "close", str(before["log"]))["ends"]
    assert ends[0]["next_offset"] > stale[1]
    late, _ = put(known, before["topic"], 0, truth.events[300])()
    assert late is not None, "a closed log took a record"
    check_totals(known, truth)
    shown = tollbook(own, "cut", "show", str(cut_now(known).number))
    held = [p for p in shown["offsets"] if p["log"] == before["log"]]
    assert [p["next_offset"] for p in held] == [end["next_offset"] for end in ends]


def test_partitions_raised_behind_our_back_are_an_alarm_and_are_counted_once_told(
    own: EmbeddedStack,
) -> None:
    known = own.read()
    truth = Truth.generate(2, 200, "logs.raised", utc_now())
    create_meters(known, truth.definitions())
    log = newest(own)
    raise_partitions(known, log["topic"], log["partitions"] + 1)
    put(known, log["topic"], log["partitions"], truth.events[0])
    wait_for_alarm(own, "nobody reads the others", f"tollbook log open --topic {log['topic']}")
    send_until_taken(own, part_of(truth, truth.events[1:100]))
    check_totals(known, part_of(truth, truth.events[1:100]))
    opened = tollbook(own, "log", "open", "--topic", log["topic"])
    assert (opened["log"], opened["partitions"]) == (log["log"], log["partitions"] + 1)
    wait_for_silence(own)
    create_meters(known, [])
    send_until_taken(own, part_of(truth, truth.events[100:]))
    check_totals(known, truth)


def test_a_topic_made_anew_is_an_alarm_and_ingest_takes_nothing_until_told(
    own: EmbeddedStack,
) -> None:
    known = own.read()
    truth = Truth.generate(3, 300, "logs.anew", utc_now())
    create_meters(known, truth.definitions())
    log = newest(own)
    send_until_taken(own, part_of(truth, truth.events[:100]))
    check_totals(known, part_of(truth, truth.events[:100]))
    make_anew(known, log["topic"], 2)
    wait_for_alarm(own, "was made anew", f"tollbook log open --topic {log['topic']}")
    wait_until(lambda: "alarm: " in own.log("ingest"), 30)
    before_told = truth.events[100]
    put(known, log["topic"], 1, before_told)
    opened = tollbook(own, "log", "open", "--topic", log["topic"])
    assert (opened["log"], opened["lost"]) == (log["log"] + 1, log["log"])
    wait_for_silence(own)
    send_until_taken(own, part_of(truth, truth.events[101:]))
    check_totals(known, truth)


def test_records_that_are_gone_are_an_alarm_and_the_rest_counts(own: EmbeddedStack) -> None:
    known = own.read()
    truth = Truth.generate(4, 300, "logs.gone", utc_now())
    create_meters(known, truth.definitions())
    log = newest(own)
    send_until_taken(own, part_of(truth, truth.events[:100]))
    cut = cut_now(known)
    then = quantities(known, cut, "logs_gone_units", truth)
    workers = [name for name in known.pids if name.startswith("worker-")]
    for name in workers:
        os.kill(own.read().pids[name], signal.SIGSTOP)
    lost = [put(known, log["topic"], 0, event)()[1] for event in truth.events[100:110]]
    delete_records(known, log["topic"], {0: lost[-1] + 1})
    for name in workers:
        os.kill(own.read().pids[name], signal.SIGKILL)
    wait_for_alarm(own, f"partition {log['log']}/0", "records are gone", "--lost")
    assert "cannot be read to its end" not in refused(own, "log", "close", str(log["log"]))
    opened = tollbook(own, "log", "open", "--partitions", "2")
    assert "--lost" in refused(own, "log", "close", str(log["log"]))
    tollbook(own, "log", "close", str(log["log"]), "--lost")
    wait_for_silence(own)
    assert newest(own)["log"] == opened["log"]
    send_until_taken(own, part_of(truth, truth.events[110:]))
    check_totals(known, part_of(truth, truth.events[:100] + truth.events[110:]))
    assert quantities(known, cut, "logs_gone_units", truth) == then
