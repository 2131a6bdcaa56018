"""`tollbook send FILE`: feeds a file of events, shows how it goes, and resumes where it stopped."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, BinaryIO

import typer

from tollbook.screen import count_of, show
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

_FINGERPRINT_BYTES = 65_536


@dataclass(slots=True)
class _State:
    """How far a file has been acknowledged; kept beside it while it is not done."""

    fingerprint: str
    offset: int = 0
    line: int = 0
    row: int = 0
    accepted: int = 0
    refused: int = 0
    refused_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a batch ends, and the lines that it holds."""

    offset: int
    line: int
    row: int
    lines: list[int]
    texts: list[bytes]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(send)


def send(
    file: Annotated[Path, typer.Argument(help="NDJSON of CloudEvents, or CSV with a header.")],
    data_dir: Annotated[Path, typer.Option(help="The stack to send to.")] = DEFAULT_DATA_DIR,
    *,
    url: Annotated[str | None, typer.Option(help="Ingest URL instead of the stack's.")] = None,
    key: Annotated[
        str | None, typer.Option(envvar="TOLLBOOK_API_KEY", help="API key instead of the stack's.")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="ndjson or csv; by the name's ending if absent.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="CSV: column or template such as '{flight}-{#}'.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="CSV: column or template such as '{carrier}:{tailnum}'.")
    ] = None,
    event_time: Annotated[
        str | None, typer.Option("--time", help="CSV: column or template of the event time.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="CSV: zone of times without offset.")] = "UTC",
    event_type: Annotated[
        str | None, typer.Option("--type", help="CSV: text or template of the event type.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="CSV: text or template of the source; file:NAME if absent.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="CSV: columns for data, by comma; else all not named.")
    ] = None,
    delimiter: Annotated[str, typer.Option(help="CSV: the character between values.")] = ",",
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Requests at once.")] = 4,
    restart: Annotated[bool, typer.Option("--restart", help="Forget where it stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Send events from a file; run it again after a stop and it goes on from there.

    Refused lines go to FILE.refused.ndjson with their reasons; the exit status is then 1.
    """
    mapping = {
        "id": event_id,
        "subject": subject,
        "time": event_time,
        "type": event_type,
        "source": source or f"file:{file.name}",
        "time_zone": time_zone,
        "data": [name.strip() for name in data.split(",")] if data else [],
    }
    kind = file_format or ("csv" if file.suffix.lower() == ".csv" else "ndjson")
    if kind not in {"ndjson", "csv"}:
        raise typer.BadParameter(f"{kind!r} is neither ndjson nor csv", param_hint="--format")
    if not file.is_file():
        what = "is not a file" if file.exists() else "does not exist"
        raise typer.BadParameter(f"{file} {what}", param_hint="FILE")
    if url is None or key is None:
        stack = read_stack(data_dir)
        url, key = url or stack.ingest_url, key or stack.api_key
    feed = _Feed(file, kind, mapping, delimiter, restart=restart)
    summary = feed.run(url, key, in_flight, quiet=as_json)
    if as_json:
        print(json.dumps(summary))
    elif summary["refused"]:
        refused, kept = count_of(summary["refused"], "line"), summary["refused_file"]
        show(
            f"{refused} refused, kept with line number and reasons in {kept}",
            f"See the first: head -1 {quote(kept)}. Send them corrected, in a file of their own.",
        )
    raise typer.Exit(1 if summary["refused"] else 0)


class _Feed:
    """One run over one file."""

    def __init__(
        self, file: Path, kind: str, mapping: dict[str, Any], delimiter: str, *, restart: bool
    ) -> None:
        self._path = file
        self._kind = kind
        self._mapping = mapping
        self._delimiter = delimiter
        self._state_path = file.with_name(file.name + ".send-state.json")
        self._refused_path = file.with_name(file.name + ".refused.ndjson")
        self._state = self._load_state(restart=restart)
        self._retries = 0

    def _load_state(self, *, restart: bool) -> _State:
        import hashlib  # noqa: PLC0415

        digest = hashlib.sha256(json.dumps([self._kind, self._mapping, self._delimiter]).encode())
        with self._path.open("rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
        fresh = _State(digest.hexdigest())
        if restart or not self._state_path.exists():
            return fresh
        state = _State(**json.loads(self._state_path.read_text()))
        if state.fingerprint != fresh.fingerprint:
            raise typer.BadParameter(
                f"{self._state_path} is of another file or mapping; --restart begins anew",
                param_hint="FILE",
            )
        return state

    def run(self, url: str, key: str, in_flight: int, *, quiet: bool) -> dict[str, Any]:
        """Send everything that is not acknowledged yet; returns the summary."""
        from tollbook.send_progress import SendProgress  # noqa: PLC0415
        from tollbook.sender import SendError  # noqa: PLC0415

        resumed_at = self._state.offset
        began = time.monotonic()
        size = self._path.stat().st_size
        try:
            with self._path.open("rb") as file, SendProgress(size, quiet=quiet) as progress:
                progress.show(self._state.offset, self._state.accepted, self._state.refused)
                totals = asyncio.run(self._send(file, url, key, in_flight, progress))
        except (SendError, KeyboardInterrupt) as error:
            reason = str(error) or "interrupted"
            sys.stderr.write(
                f"tollbook: {reason}; {self._state.accepted} events are in, "
                f"run the same command again to go on from line {self._state.line + 1}\n"
            )
            raise typer.Exit(1) from error
        self._state_path.unlink(missing_ok=True)
        return self._summary(totals, time.monotonic() - began, resumed_at)

    async def _send(self, file: BinaryIO, url: str, key: str, in_flight: int, progress: Any) -> Any:
        from tollbook.sender import Receipt, open_sender, send_batches  # noqa: PLC0415

        if self._state.refused_bytes:
            with self._refused_path.open("r+b") as kept:
                kept.truncate(self._state.refused_bytes)
        else:
            self._refused_path.unlink(missing_ok=True)

        def note(receipt: Receipt) -> None:
            self._note(receipt)
            progress.show(self._state.offset, self._state.accepted, self._state.refused)

        async with open_sender(url, key, in_flight=in_flight, on_retry=progress.warn) as sender:
            return await send_batches(sender, self._batches(file), note, in_flight=in_flight)

    def _note(self, receipt: Any) -> None:
        """Write down what was refused, then how far the file is acknowledged."""
        place: _Place = receipt.batch.position
        state = self._state
        if receipt.refused:
            with self._refused_path.open("ab") as refused:
                for one in receipt.refused:
                    entry = {
                        "line": place.lines[one.index],
                        "reasons": list(one.reasons),
                        "event": place.texts[one.index].decode(errors="replace"),
                    }
                    refused.write(json.dumps(entry).encode() + b"\n")
                refused.flush()
                state.refused_bytes = refused.tell()
        state.offset, state.line, state.row = place.offset, place.line, place.row
        state.accepted += receipt.accepted
        state.refused += len(receipt.refused)
        written = self._state_path.with_name(self._state_path.name + ".new")
        written.write_text(json.dumps(asdict(state)))
        written.replace(self._state_path)

    def _batches(self, file: BinaryIO) -> Iterator[Any]:
        from tollbook.sender import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Batch  # noqa: PLC0415

        held: list[Any] = []
        size = row = 0

        def batch() -> Batch:
            last = held[-1]
            lines = [record.line for record in held]
            texts = [record.text for record in held]
            place = _Place(last.end, last.line, row, lines, texts)
            return Batch([record.event for record in held], place)

        for record, next_row in self._records(file):
            if held and (
                len(held) == BATCH_EVENTS_MAX or size + len(record.event) > BATCH_BYTES_MAX
            ):
                yield batch()
                held, size = [], 0
            held.append(record)
            row = next_row
            size += len(record.event)
        if held:
            yield batch()

    def _records(self, file: BinaryIO) -> Iterator[tuple[Any, int]]:
        from tollbook.event_files import (  # noqa: PLC0415
            CsvMapping,
            CsvReader,
            MappingError,
            read_ndjson,
        )

        state = self._state
        if self._kind == "ndjson":
            return ((record, 0) for record in read_ndjson(file, state.offset, state.line))
        missing = [name for name in ("id", "subject", "type") if not self._mapping[name]]
        if missing:
            raise typer.BadParameter(f"a CSV file needs --{' and --'.join(missing)}")
        try:
            reader = CsvReader(file, CsvMapping(**self._mapping), self._delimiter)
        except MappingError as error:
            raise typer.BadParameter(str(error)) from error
        return reader.records(state.offset, state.line, state.row)

    def _summary(self, totals: Any, seconds: float, resumed_at: int) -> dict[str, Any]:
        state = self._state
        sent = totals.accepted + totals.refused
        return {
            "file": str(self._path),
            "accepted": state.accepted,
            "refused": state.refused,
            "refused_file": str(self._refused_path) if state.refused else None,
            "resumed_at_byte": resumed_at,
            "requests": totals.requests,
            "retries": totals.retries,
            "seconds": round(seconds, 3),
            "events_per_second": round(sent / seconds) if seconds else None,
        }
