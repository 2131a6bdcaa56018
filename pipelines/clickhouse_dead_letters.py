"""Reads dead letters of one tenant by position."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.dead_letter import KeptLetter
from pipelines.outage import TransientError
from pipelines.position import LogPartition, Position

PREVIEW_BYTES = 1024
"""A list shows so much of each body."""

KEY = "log, partition, offset, index"
_TIME = "formatDateTime(ingested_at, '%Y-%m-%dT%H:%i:%S', 'UTC')"
_MILLISECONDS = "leftPad(toString(toUnixTimestamp64Milli(ingested_at) % 1000), 3, '0')"
_COLUMNS = f"{KEY}, kind, reason, length(body), concat({_TIME}, '.', {_MILLISECONDS}, 'Z')"


@dataclass(slots=True)
class ClickHouseDeadLetters:
    """Reads the table usage_dead_letters; the client may be shared."""

    client: Any

    def listed(
        self, tenant: str, *, kind: str | None, after: Position | None, limit: int
    ) -> list[KeptLetter]:
        """Return dead letters in the order of their positions, with the start of their bodies."""
        where = "true"
        values: dict[str, Any] = {"tenant": tenant}
        if kind is not None:
            where, values["kind"] = "kind = {kind:String}", kind
        if after is not None:
            where += f" AND ({KEY}) > {place_of(after)}"
        return self._letters(where, values, limit, body=f"substring(body, 1, {PREVIEW_BYTES})")

    def one(self, tenant: str, position: Position) -> KeptLetter | None:
        """Return one dead letter with its whole body."""
        found = self._letters(f"({KEY}) = {place_of(position)}", {"tenant": tenant}, 1)
        return found[0] if found else None

    def of_event(self, tenant: str, source: str, event_id: str, limit: int) -> list[KeptLetter]:
        """Return the dead letters whose JSON names a source and id: conflicts and refusals."""
        where = (
            "JSONExtractString(body, 'id') = {id:String}"
            " AND JSONExtractString(body, 'source') = {source:String}"
        )
        values = {"tenant": tenant, "source": source, "id": event_id}
        return self._letters(where, values, limit, body="''")

    def _letters(
        self, where: str, values: dict[str, Any], limit: int, body: str = "body"
    ) -> list[KeptLetter]:
        sql = (
            f"SELECT {_COLUMNS}, base64Encode({body}) FROM usage_dead_letters"
            f" WHERE tenant = {{tenant:String}} AND {where}"
            f" ORDER BY {KEY} LIMIT 1 BY {KEY} LIMIT {limit}"
        )
        return [_letter(row) for row in rows_of(self.client, sql, values)]


def rows_of(
    client: Any, sql: str, values: dict[str, Any], settings: dict[str, Any] | None = None
) -> Sequence[Sequence[Any]]:
    """Return the rows of a query; raises TransientError where ClickHouse does not answer."""
    try:
        rows: Sequence[Sequence[Any]] = client.query(
            sql, parameters=values, settings=settings
        ).result_rows
    except OperationalError as error:
        raise TransientError(f"ClickHouse does not answer: {error}") from error
    return rows


def place_of(position: Position) -> str:
    """Return a position as SQL, in the order of `KEY`."""
    at = position.at
    return f"({at.log}, {at.partition}, {position.offset}, {position.index})"


def _letter(row: Sequence[Any]) -> KeptLetter:
    log, partition, offset, index, kind, reason, size, ingested_at, body = row
    return KeptLetter(
        position=Position(LogPartition(log, partition), offset, index),
        kind=kind,
        reason=reason,
        body=base64.b64decode(body),
        body_bytes=size,
        ingested_at=ingested_at,
    )
