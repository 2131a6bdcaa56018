"""`tollbook event`: where an event is, and second thoughts: void, amend, restore."""

import getpass
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.outages import servers
from tollbook.screen import Column, amounts, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from pipelines.second_thoughts import Wish

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack that counts it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Source = Annotated[str, typer.Argument(help="The event's source.")]
EventId = Annotated[str, typer.Argument(metavar="ID", help="The event's id.")]


def given_reason(text: str) -> str:
    """Return why something is done, as the API takes it."""
    from pipelines.correction import REASON_CHARS_MAX  # noqa: PLC0415

    if not text.strip() or len(text) > REASON_CHARS_MAX:
        raise typer.BadParameter(f"say why, in 1 to {REASON_CHARS_MAX:,} characters")
    return text


Reason = Annotated[
    str,
    typer.Option("--reason", help="Why; kept with the correction.", callback=given_reason),
]
At = Annotated[
    str | None, typer.Option("--position", help="Which, where several are stored under one id.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    events = group(app, "event", "Single events: where they are, and second thoughts.")
    events.command("show")(show_event)
    events.command("void")(void)
    events.command("amend")(amend)
    events.command("restore")(restore)
    events.command("corrections")(list_corrections)


def show_event(
    source: Source, event_id: EventId, data_dir: DataDir = DEFAULT_DATA_DIR, *,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show where an event is: counted for what, a copy of what, refused or voided why.

    The exit status is 1 where nobody ever sent it.
    """
    import msgspec  # noqa: PLC0415

    from tollbook.trace_wiring import open_tracer  # noqa: PLC0415

    with servers(data_dir) as (stack, connection, clickhouse):
        tracer = open_tracer(connection, clickhouse, stack.kafka_bootstrap)
        traced = tracer.trace(stack.tenant, source, event_id)
        content = json.loads(msgspec.json.encode(tracer.to_content(stack.tenant, traced)))
    status = 1 if content["state"] == "unknown" else 0
    if as_json:
        print(json.dumps(content))
        sys.exit(status)
    show(f"{source}/{event_id}: {content['state']}")
    if status:
        show("No such event was accepted: all that was sent before is counted.")
        sys.exit(status)
    if content["state"] == "held":
        names = sorted({each["event"].get("replacement", "") for each in content["events"]})
        show(f"It counts from when replacement {', '.join(names)} is closed.")
    for each in content["events"]:
        _show_counted(each)
    for what in ("conflicts", "refusals", "quarantined"):
        for letter in content[what]:
            show(f"{letter['kind']} at {letter['position']}: {letter['reason']}")


def _show_counted(content: dict[str, Any]) -> None:
    event = content["event"]
    show("", f"at {content['position']}, accepted {content['ingested_at']}")
    show(f"  type {event['type']}, subject {event['subject']}, time {event['time']}")
    show(f"  data {json.dumps(event.get('data'))}")
    counts = [each for each in content["counts"] if each["in_force"]]
    if counts:
        rows = [
            [each["meter"], str(each["version"]), each["window_start"], each["value"]]
            for each in counts
        ]
        columns = [Column("  counts for"), Column("version"), Column("window")]
        show(table_of([*columns, *amounts("value")], [[f"  {row[0]}", *row[1:]] for row in rows]))
    for each in content["rejections"]:
        if each["in_force"]:
            show(f"  not for {each['meter']}: {each['reason']}")
    if content["duplicate_count"]:
        show(f"  copies left out: {content['duplicate_count']}")
    for each in content["corrections"]:
        show(f"  {_told(each)}")


def _told(correction: dict[str, Any]) -> str:
    return (
        f"revision {correction['revision']}: {correction['kind']} by {correction['author']},"
        f" {correction['corrected_at']}, at {correction['position']}: {correction['reason']}"
    )


def void(
    source: Source, event_id: EventId, reason: Reason, data_dir: DataDir = DEFAULT_DATA_DIR, *,
    position: At = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Take an event back: it counts no longer; the event as sent is kept."""
    _correct(data_dir, _wish("void", source, event_id, position), reason, as_json=as_json)


def amend(
    source: Source, event_id: EventId, reason: Reason, data_dir: DataDir = DEFAULT_DATA_DIR, *,
    data: Annotated[
        str | None, typer.Option(help="New data, as JSON; @FILE reads it from a file.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="New event time, RFC 3339.")] = None,
    position: At = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Change an event's data or time: from now on it counts so."""
    if data is None and time is None:
        raise StackError("nothing to change", "Give --data, --time or both.")
    body = None if data is None else _json_of(data)
    wish = _wish("amend", source, event_id, position, data=body, time=time)
    _correct(data_dir, wish, reason, as_json=as_json)


def restore(
    source: Source, event_id: EventId, reason: Reason, data_dir: DataDir = DEFAULT_DATA_DIR, *,
    position: At = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Let an event count again as it was sent."""
    _correct(data_dir, _wish("restore", source, event_id, position), reason, as_json=as_json)


def list_corrections(
    data_dir: DataDir = DEFAULT_DATA_DIR, *,
    since: Annotated[int | None, typer.Option(min=1, help="Behind this cut.")] = None,
    until: Annotated[int | None, typer.Option(min=1, help="Up to this cut.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Event times since.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Event times before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 100,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List corrections in the order of the log, by event time (instants or dates) or cuts."""
    import msgspec  # noqa: PLC0415

    from pipelines.clickhouse_corrections import listed_corrections  # noqa: PLC0415
    from pipelines.postgres_cuts import PostgresCuts  # noqa: PLC0415
    from tollbook.corrections_asked import between, interval_us  # noqa: PLC0415
    from tollbook.usage_question import BadParameterError  # noqa: PLC0415

    with servers(data_dir) as (stack, connection, clickhouse):
        try:
            found = listed_corrections(
                clickhouse,
                stack.tenant,
                interval_us=interval_us(start, end),
                ranges=between(PostgresCuts(connection), stack.tenant, since, until),
                after=None,
                limit=limit,
            )
        except LookupError as error:
            raise StackError(str(error), "See `tollbook cut list`.") from error
        except BadParameterError as error:
            raise StackError(f"--{error}", "See `tollbook event corrections --help`.") from error
    contents = json.loads(msgspec.json.encode([each.to_content() for each in found]))
    if as_json:
        print(json.dumps(contents))
        return
    names = ("corrected_at", "kind", "source", "id", "subject", "author")
    columns = [*map(Column, names), *amounts("revision"), Column("reason", folds=True)]
    rows = [
        [*(each[name] for name in names), str(each["revision"]), each["reason"]]
        for each in contents
    ]
    show(table_of(columns, rows) if rows else "No corrections.")


def _json_of(text: str) -> bytes:
    import msgspec  # noqa: PLC0415

    try:
        body = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        formatted: bytes = msgspec.json.format(body, indent=-1)
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(f"--data is no JSON: {error}", "Give JSON, or @FILE.") from error
    return formatted


def _wish(
    kind: Any, source: str, event_id: str, position: str | None, **changes: Any
) -> Callable[[], "Wish"]:
    def make() -> "Wish":
        from pipelines.position import Position  # noqa: PLC0415
        from pipelines.second_thoughts import Wish  # noqa: PLC0415

        try:
            place = None if position is None else Position.from_text(position)
        except ValueError as error:
            raise StackError(str(error), "See `tollbook event show`.") from error
        return Wish(kind, source, event_id, place, **changes)

    return make


def _correct(data_dir: Path, make: Callable[[], "Wish"], reason: str, *, as_json: bool) -> None:
    from pipelines.second_thoughts import RefusedWishError  # noqa: PLC0415
    from tollbook.corrections_asked import outcomes_content  # noqa: PLC0415
    from tollbook.trace_wiring import open_corrector  # noqa: PLC0415

    wish = make()
    with servers(data_dir) as (stack, connection, clickhouse):
        corrector = open_corrector(connection, clickhouse, stack.kafka_bootstrap)
        try:
            outcomes = corrector.correct(
                stack.tenant,
                [wish],
                author=getpass.getuser(),
                reason=reason,
                request=uuid.uuid4().hex,
            )
        except RefusedWishError as error:
            raise StackError(error.reason, "Nothing was changed.") from error
        except TimeoutError as error:
            raise StackError(str(error), "Ask again: nothing is done twice.") from error
    (content,) = outcomes_content([wish], outcomes)["corrections"]
    if as_json:
        print(json.dumps(content))
    else:
        show(_SAID[content["state"]].format(**content))
    sys.exit(1 if content["state"] == "conflict" else 0)


_SAID = {
    "applied": "{source}/{id}: {kind} is done, as revision {revision}, at {position}",
    "already": "{source}/{id}: is so already, at revision {revision}; nothing was done",
    "pending": "{source}/{id}: {kind} is in the log at {position}, but not counted yet",
    "conflict": "{source}/{id}: somebody else corrected it at the same time; look, and ask again",
}
