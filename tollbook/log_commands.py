"""`tollbook log open`, `list` and `close`: the incarnations of the usage topic."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import Column, amounts, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

if TYPE_CHECKING:
    from tollbook.usage_logs import UsageLogs

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    logs = group(app, "log", "Logs: the topics that events go through.")
    logs.command("open")(open_log)
    logs.command("list")(list_logs)
    logs.command("close")(close_log)


def open_log(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Partitions of a new topic.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(help="Take a topic as Kafka has it now: made anew, or with more partitions."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open a log: events go into it within seconds, and what older logs hold is counted on.

    More partitions are a new log. Nothing is lost and no total moves, also while events flow.
    """
    if (partitions is None) == (topic is None):
        raise StackError("say which log to open", "Give either --partitions N, or --topic NAME.")
    logs = _logs(data_dir)
    lost = None
    if topic is not None:
        log, lost = logs.open_topic(topic)
    else:
        log = logs.open_new(partitions or 1)
    if as_json:
        found = {"log": log.log, "topic": log.topic, "partitions": log.partitions}
        print(json.dumps(found | {"lost": None if lost is None else lost.log}))
        return
    if lost is not None:
        show(f"Log {lost.log} ends where counting stopped: its records are gone from Kafka.")
    show(f"Events go into log {log.log} now: topic {log.topic}, {log.partitions} partitions.")


def list_logs(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """List all logs, the oldest first."""
    found = _logs(data_dir).listed()
    if as_json:
        print(json.dumps(found))
        return
    names = [Column("topic"), Column("state"), Column("opened"), Column("closed")]
    rows = [
        [
            str(each["log"]),
            str(each["partitions"]),
            each["topic"],
            each["state"],
            each["opened_at"],
            each["closed_at"] or "",
        ]
        for each in found
    ]
    show(table_of([*amounts("log", "partitions"), *names], rows))


def close_log(
    number: Annotated[int, typer.Argument(help="Number of the log, as `log list` shows it.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    lost: Annotated[
        bool, typer.Option("--lost", help="End it where counting stopped: its records are gone.")
    ] = False,
    delete_topic: Annotated[
        bool, typer.Option("--delete-topic", help="Delete its topic afterwards.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Close a log that events no longer go into: refuse writes, count to its end, read no more."""
    ends = _logs(data_dir).close(number, lost=lost, delete=delete_topic)
    if as_json:
        places = [{"partition": at.partition, "next_offset": end} for at, end in ends.items()]
        print(json.dumps({"log": number, "ends": sorted(places, key=lambda p: p["partition"])}))
        return
    show(f"Log {number} is closed; all {sum(ends.values()):,} records of it stay counted.")


def _logs(data_dir: Path) -> "UsageLogs":
    from tollbook.usage_logs import UsageLogs  # noqa: PLC0415

    return UsageLogs.connect(read_stack(data_dir.resolve()))
