"""`tollbook dead-letters` and `progress`: what could not be taken, and how far counting is."""

import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.outages import outages_told
from tollbook.quarantine_commands import UNREADABLE
from tollbook.screen import Column, amounts, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, Stack, read_stack

if TYPE_CHECKING:
    from pipelines.clickhouse_dead_letters import ClickHouseDeadLetters
    from pipelines.dead_letter import KeptLetter

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to read.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PositionText = Annotated[
    str, typer.Argument(metavar="POSITION", help="As listed, such as 0-3-1742-0.")
]


_SHOWN_MAX = 10


class Kind(StrEnum):
    """Why something was not taken."""

    MALFORMED = "malformed"
    REFUSED = "refused"
    CONFLICT = "conflict"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    letters = group(app, "dead-letters", "Events and records that could not be taken.")
    letters.command("list")(list_letters)
    letters.command("show")(show_letter)
    letters.command("replay")(replay)
    app.command("progress")(progress)


def list_letters(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    kind: Annotated[Kind | None, typer.Option(help="Only these.")] = None,
    after: Annotated[str | None, typer.Option(help="Only behind this position.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters by position."""
    stack = read_stack(data_dir.resolve())
    start = None if after is None else _position(after)
    with outages_told():
        found = _letters(stack).listed(stack.tenant, kind=kind, after=start, limit=limit)
    if as_json:
        print(json.dumps([letter.to_content() for letter in found]))
        return
    if not found:
        show("No dead letters.")
        return
    columns = [Column("position"), Column("when"), Column("kind"), *amounts("bytes")]
    rows = [
        [str(each.position), each.ingested_at, each.kind, f"{each.body_bytes:,}", each.reason]
        for each in found
    ]
    show(table_of([*columns, Column("reason", folds=True)], rows))
    if len(found) == limit:
        show(f"There may be more: --after {found[-1].position}")


def show_letter(
    position: PositionText, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False
) -> None:
    """Show one dead letter, or what was set aside, with all that was received."""
    stack = read_stack(data_dir.resolve())
    content = _letter(stack, position).to_content()
    if as_json:
        print(json.dumps(content))
        return
    for name in ("position", "kind", "reason", "ingested_at", "body_bytes"):
        show(f"{name:<12} {content[name]}")
    if "body" in content:
        show("", content["body"])
    else:
        show("", f"not text; as base64: {content['body_base64']}")


def replay(
    position: PositionText,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    edit: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Corrected JSON to send.")
    ] = None,
    force_new_id: Annotated[
        bool, typer.Option("--force-new-id", help="Send under a new id, as a further event.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send again a dead letter, or what was set aside, as it is or corrected; twice is as once."""
    from pipelines.dead_letter import NotReplayableError, names_of, replayed  # noqa: PLC0415
    from tollbook.sender import SendError, send_events  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    letter = _letter(stack, position)
    edited = None if edit is None else edit.read_bytes()
    try:
        events = replayed(letter, edited, force_new_id=force_new_id)
        totals, refused = asyncio.run(send_events(stack.ingest_url, stack.api_key, events))
    except NotReplayableError as error:
        raise StackError(str(error), "Nothing was sent.") from error
    except SendError as error:
        raise StackError(str(error), "Replay it again: no event counts twice.") from error
    reasons = [reason for _, one in refused for reason in one.reasons]
    names = [name for name in names_of(events) if name is not None]
    if as_json:
        sent = [{"source": source, "id": event_id} for source, event_id in names]
        print(json.dumps({"accepted": totals.accepted, "reasons": reasons, "events": sent}))
    else:
        show(f"{position}: {totals.accepted} accepted, {totals.refused} refused")
        show(*(f"refused: {reason}" for reason in reasons))
        if totals.accepted:
            show("What became of it:", *(f"  {command_of(*name)}" for name in names[:_SHOWN_MAX]))
    sys.exit(1 if refused else 0)


def progress(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Show how far each partition is counted, and since when all is."""
    import psycopg  # noqa: PLC0415

    from pipelines.postgres_quarantine import PostgresQuarantine  # noqa: PLC0415
    from pipelines.progress import total_content  # noqa: PLC0415
    from tollbook.trace_wiring import open_progress  # noqa: PLC0415
    from tollbook.usage_wiring import open_clickhouse  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with outages_told(), psycopg.connect(stack.postgres_dsn, autocommit=True) as connection:
        clickhouse = open_clickhouse(stack.clickhouse_url)
        read = open_progress(connection, clickhouse, stack.kafka_bootstrap).read()
        in_force = PostgresQuarantine(connection).in_force(stack.tenant)
    content = total_content(read, in_force)
    if as_json:
        print(json.dumps(content))
        return
    numbers = amounts("next offset", "end offset", "lag")
    columns = [Column("partition"), *numbers, Column("watermark"), Column("complete before")]
    show(table_of(columns, [_progress_row(each) for each in content["partitions"]]))
    show(f"All that was accepted before {content['complete_before']} is counted.")
    for each in content["quarantined"]:
        where = ", ".join(each["partitions"])
        show(
            f"ALARM: but not what source {each['source'] or UNREADABLE} sends into {where}:"
            " it is quarantined, see `tollbook quarantine list`"
        )


def _progress_row(content: dict[str, Any]) -> Sequence[str]:
    return [
        f"{content['log']}/{content['partition']}",
        *(f"{content[name]:,}" for name in ("next_offset", "end_offset", "lag")),
        content["watermark"] or "none",
        content["complete_before"],
    ]


def _letters(stack: Stack) -> "ClickHouseDeadLetters":
    from pipelines.clickhouse_dead_letters import ClickHouseDeadLetters  # noqa: PLC0415
    from tollbook.usage_wiring import open_clickhouse  # noqa: PLC0415

    return ClickHouseDeadLetters(open_clickhouse(stack.clickhouse_url))


def _letter(stack: Stack, position: str) -> "KeptLetter":
    place = _position(position)
    from pipelines.clickhouse_quarantine import ClickHouseQuarantine  # noqa: PLC0415

    with outages_told():
        letters = _letters(stack)
        aside = ClickHouseQuarantine(letters.client)
        found = letters.one(stack.tenant, place) or aside.one(stack.tenant, place)
    if found is None:
        raise StackError(
            f"there is no dead letter at {position}", "See `tollbook dead-letters list`."
        )
    return found


def command_of(source: str, event_id: str) -> str:
    """Return the command that shows where an event is, to be pasted into a shell."""
    return f"tollbook event show {shlex.quote(source)} {shlex.quote(event_id)}"


def _position(text: str) -> Any:
    from pipelines.position import Position  # noqa: PLC0415

    try:
        return Position.from_text(text)
    except ValueError as error:
        raise StackError(str(error), "See `tollbook dead-letters list`.") from error
