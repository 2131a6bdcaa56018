"""Dead letters as they are kept: what they say, and the event that a replay of one sends."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pipelines.position import LogPartition, Position
from pipelines.record import DeadLetter, event_letter

ID_CHARS_KEPT = 200
"""Leaves room for a position behind an id of the greatest length."""

_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])


class NotReplayableError(ValueError):
    """A dead letter that cannot be sent again as it is; says why and what to do."""


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter as the table has it; `body` may be only the start of its `body_bytes`."""

    position: Position
    kind: str
    reason: str
    body: bytes
    body_bytes: int
    ingested_at: str

    def to_content(self) -> dict[str, Any]:
        """Return it as JSON content: the bytes as text where they are UTF-8, else as base64."""
        return {
            "position": str(self.position),
            "kind": self.kind,
            "reason": self.reason,
            "ingested_at": self.ingested_at,
            "body_bytes": self.body_bytes,
            **body_content(self.body, is_whole=len(self.body) == self.body_bytes),
        }


def body_content(body: bytes, *, is_whole: bool) -> dict[str, Any]:
    """Return bytes as `body` where they are UTF-8, else as `body_base64`.

    The start of a longer text may end inside a character; what is left of that is dropped.
    """
    truncated = {} if is_whole else {"body_truncated": True}
    try:
        return {"body": body.decode(), **truncated}
    except UnicodeDecodeError as error:
        if not is_whole and len(body) - error.start < 4 and error.reason.startswith("unexpected e"):
            return {"body": body[: error.start].decode(), **truncated}
    return {"body_base64": base64.b64encode(body).decode(), **truncated}


def replayed(letter: KeptLetter, edited: bytes | None, *, force_new_id: bool) -> Sequence[bytes]:
    """Return the events that a replay sends, each as JSON on one line.

    The same letter gives the same events each time, so that a second replay counts nothing twice:
    the new id of a conflict is made from its id and position.

    Raises:
        NotReplayableError: it is a conflict and keeps its id, or there is no JSON to send.
    """
    body = letter.body if edited is None else edited
    try:
        body.decode()
        text = msgspec.json.format(body, indent=-1)
        is_list = text.startswith(b"[")
        events = _list.decode(text) if is_list else [msgspec.Raw(text)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "what is kept of it" if edited is None else "the file"
        raise NotReplayableError(
            f"{letter.position}: {what} is not JSON ({error});"
            " give the event corrected with --edit FILE"
        ) from error
    if not force_new_id:
        if letter.kind == "conflict" and {*names_of(events)} & {*names_of([letter.body])} - {None}:
            raise NotReplayableError(
                f"{letter.position} is a conflict: its id is taken by another event, which counts;"
                " --force-new-id sends it as a further event, as does another id in --edit FILE"
            )
        return [bytes(event) for event in events]
    return [_renamed(event, letter.position, number) for number, event in enumerate(events)]


def names_of(events: Iterable[bytes]) -> list[tuple[str, str] | None]:
    """Return source and id of each event, or None where its JSON does not have them."""
    found: list[tuple[str, str] | None] = []
    for event in events:
        try:
            named = _named.decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found.append(None)
        else:
            found.append((named.source, named.id))
    return found


class _Named(msgspec.Struct):
    source: str
    id: str


_named = msgspec.json.Decoder(_Named)


def _renamed(event: msgspec.Raw, position: Position, number: int) -> bytes:
    try:
        attributes = _attributes.decode(event)
        event_id = msgspec.json.decode(attributes.get("id", b'""'), type=str)
    except msgspec.DecodeError as error:
        raise NotReplayableError(f"{position}: an event is a JSON object with an id") from error
    suffix = f"~{position}" + (f"-{number}" if number else "")
    attributes["id"] = msgspec.Raw(msgspec.json.encode(event_id[:ID_CHARS_KEPT] + suffix))
    return msgspec.json.encode(attributes)


def conflict_letter(at: LogPartition, event: dict[str, Any], first: Position) -> DeadLetter:
    """Return the dead letter of an event whose identity another body has, at `first`."""
    reason = (
        f"the same source and id with another body is at {first.at}, offset {first.offset},"
        f" index {first.index}; that one counts"
    )
    return event_letter(at, event, "conflict", reason)
