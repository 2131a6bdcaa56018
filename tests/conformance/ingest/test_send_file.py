"""`tollbook send`: every line of a file is in the log or in the file of refused ones."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.ingest.conftest import TENANT
from tests.conformance.ingest.ingest_process import IngestProcess, TopicReader
from tests.conformance.ingest.raw_http import event
from tests.embedded_stack import run_tollbook
from tests.forks import REPOSITORY
from tollbook.sender import Batch, open_sender, send_events


def send(ingest: IngestProcess, file: Path, *more: str) -> tuple[int, dict[str, Any]]:
    done = run_tollbook(
        "send", str(file), "--url", ingest.url, "--key", ingest.key, "--json", *more
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def refused_lines(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(summary["refused_file"]).read_text().splitlines()]


def test_every_line_is_accepted_or_refused_with_its_reason(
    ingest: IngestProcess, topic: TopicReader, tmp_path: Path
) -> None:
    file = tmp_path / "some events.ndjson"
    lines = [event(f"{number:05}") for number in range(3000)]
    lines[7] = b"not json"
    lines[1500] = event("01500", subject="")
    file.write_bytes(b"\n".join(lines))
    status, summary = send(ingest, file)
    assert (status, summary["accepted"], summary["refused"]) == (1, 2998, 2)
    refused = refused_lines(summary)
    assert [one["line"] for one in refused] == [8, 1501]
    assert refused[1]["reasons"] == ["subject: must not be empty"]
    assert refused[0]["event"] == "not json"
    stored = sorted(row["id"] for row in topic.events(TENANT))
    assert stored == [f"{number:05}" for number in range(3000) if number not in {7, 1500}]


def test_a_csv_file_is_sent_by_its_mapping(
    ingest: IngestProcess, topic: TopicReader, tmp_path: Path
) -> None:
    file = tmp_path / "flights.csv"
    now = datetime.now(UTC).replace(microsecond=0)
    file.write_text(f"flight,carrier,tail,when,seats\nF1,UA,N1,{now:%Y-%m-%d %H:%M:%S},150.10\n")
    options = ["--id", "flight", "--subject", "{carrier}:{tail}", "--time", "when"]
    status, summary = send(ingest, file, *options, "--type", "flight.departed")
    assert (status, summary["accepted"]) == (0, 1)
    (row,) = topic.events(TENANT)
    assert (row["subject"], row["type"], row["source"]) == (
        "UA:N1",
        "flight.departed",
        "file:flights.csv",
    )
    assert (row["time"], row["data"]) == (now, b'{"seats":"150.10"}')


def test_a_stopped_send_goes_on_where_it_was_acknowledged(
    ingest: IngestProcess, topic: TopicReader, tmp_path: Path
) -> None:
    file = tmp_path / "long.ndjson"
    count = 40_000
    file.write_bytes(b"\n".join(event(f"{n}" if n % 1000 else "") for n in range(count)))
    state = tmp_path / "long.ndjson.send-state.json"
    command = [sys.executable, "-P", "-m", "tollbook.cli", "send", str(file), "--in-flight", "2"]
    running = subprocess.Popen(
        [*command, "--url", ingest.url, "--key", ingest.key],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not state.exists() and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait(10)
    assert json.loads(state.read_text())["accepted"] < count * 0.9
    _, summary = send(ingest, file)
    assert summary["resumed_at_byte"] > 0
    assert (summary["accepted"], summary["refused"]) == (count * 999 // 1000, count // 1000)
    assert [one["line"] for one in refused_lines(summary)] == [
        number + 1 for number in range(0, count, 1000)
    ]
    stored = {row["id"] for row in topic.events(TENANT)}
    assert stored == {f"{number}" for number in range(count) if number % 1000}
    assert not state.exists()


def test_another_file_under_the_same_name_is_not_taken_for_the_rest(
    ingest: IngestProcess, tmp_path: Path
) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(event("1"))
    state = tmp_path / "a.ndjson.send-state.json"
    state.write_text(json.dumps({"fingerprint": "other", "offset": 5}))
    done = run_tollbook("send", str(file), "--url", ingest.url, "--key", ingest.key)
    assert done.returncode == 2
    assert "--restart" in done.stderr
    assert send(ingest, file, "--restart")[1]["accepted"] == 1


def test_a_wrong_key_ends_with_one_line_that_says_so(ingest: IngestProcess, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(event("1"))
    done = run_tollbook("send", str(file), "--url", ingest.url, "--key", "tb_wrong", "--json")
    assert done.returncode == 1
    assert "the key is not known" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("times", [1, 3])
def test_a_request_whose_answer_is_lost_is_sent_again_as_it_was(
    ingest: IngestProcess, topic: TopicReader, times: int
) -> None:
    async def resend() -> int:
        async with open_sender(ingest.url, ingest.key) as sender:
            retries = 0
            for number in range(times):
                batch = Batch([event(f"lost {number}")])
                retries += (await sender.send(batch, lose_first_answer=True)).retries
            return retries

    assert asyncio.run(resend()) == times
    stored = [row["id"] for row in topic.events(TENANT)]
    assert set(stored) == {f"lost {number}" for number in range(times)}
    # The first try arrived although nobody waited for its answer.
    assert len(stored) == 2 * times


def test_events_are_sent_from_a_program_too(ingest: IngestProcess, topic: TopicReader) -> None:
    seen: list[int] = []
    events: list[dict[str, Any]] = [
        {"id": f"{number}", "source": "s", "type": "t", "subject": "x"} for number in range(2500)
    ]
    totals, refused = asyncio.run(
        send_events(ingest.url, ingest.key, [*events, {}], lambda done: seen.append(done.accepted))
    )
    assert (totals.accepted, totals.refused, totals.requests) == (2500, 1, 3)
    assert [line for line, _ in refused] == [b"{}"]
    assert seen == [1000, 2000, 2500]
    assert len(topic.events(TENANT)) == 2500
