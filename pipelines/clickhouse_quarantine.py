"""Reads what was set aside of quarantined sources."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.exceptions import OperationalError

from ingest.topic import EVENT_SCHEMA
from pipelines.clickhouse_clauses import ARROW_SETTINGS, within
from pipelines.clickhouse_dead_letters import KEY, place_of, rows_of
from pipelines.dead_letter import KeptLetter
from pipelines.outage import TransientError
from pipelines.position import LogPartition, Position
from pipelines.quarantine import QUARANTINED_SCHEMA
from pipelines.record import event_letter
from pipelines.releaser import Ranges, Vector

_PAGE = 5_000
_SCHEMA = QUARANTINED_SCHEMA.append(pa.field("log", pa.uint16())).append(
    pa.field("partition", pa.uint16())
)
_COLUMNS = _SCHEMA.names
_TABLE = "usage_quarantine FINAL"


@dataclass(frozen=True, slots=True)
class AsideStream:
    """How much was set aside of a source."""

    source: str
    waiting: int
    """Events that no release has sent again."""
    released: int
    unreadable: int
    """Records without an event, which no release can send."""
    bytes: int
    first_at: datetime
    last_at: datetime


@dataclass(slots=True)
class ClickHouseQuarantine:
    """An `AsideTables` over the table usage_quarantine; the client may be shared."""

    client: Any

    def streams(self, tenant: str, released: Mapping[str, Vector]) -> list[AsideStream]:
        """Return what was set aside of each source, and how much of it waits for a release."""
        values: dict[str, Any] = {"tenant": tenant}
        done = []
        for number, (source, ends) in enumerate(sorted(released.items())):
            values[f"s{number}"] = source
            places = within({at: (0, end) for at, end in ends.items()}, "offset") or "false"
            done.append(f"source = {{s{number}:String}} AND ({places})")
        is_done = " OR ".join(f"({each})" for each in done) or "false"
        sql = (
            f"SELECT source, countIf(kind = 'event' AND NOT is_done),"
            " countIf(kind = 'event' AND is_done), countIf(kind != 'event'),"
            " sum(length(body) + length(data)), min(ingested_at), max(ingested_at)"
            f" FROM (SELECT *, {is_done} AS is_done FROM {_TABLE} WHERE tenant = {{tenant:String}})"
            " GROUP BY source ORDER BY source"
        )
        return [AsideStream(*row) for row in rows_of(self.client, sql, values)]

    def listed(
        self, tenant: str, source: str, *, after: Position | None, limit: int
    ) -> list[KeptLetter]:
        """Return what was set aside of a source, in the order of positions."""
        where = "source = {source:String}"
        if after is not None:
            where += f" AND ({KEY}) > {place_of(after)}"
        return self._items(where, {"tenant": tenant, "source": source}, limit)

    def of_event(
        self, tenant: str, source: str, event_id: str, released: Vector, limit: int
    ) -> list[KeptLetter]:
        """Return where an event was set aside and waits for a release."""
        places = within({at: (0, end) for at, end in released.items()}, "offset") or "false"
        where = (
            "(source = {source:String} AND id = {id:String} AND kind = 'event'"
            f" AND NOT ({places})) OR (source IN ({{source:String}}, '') AND kind != 'event'"
            " AND JSONExtractString(body, 'id') = {id:String}"
            " AND JSONExtractString(body, 'source') = {source:String})"
        )
        return self._items(where, {"tenant": tenant, "source": source, "id": event_id}, limit)

    def events(self, tenant: str, source: str, ranges: Ranges) -> Iterator[Any]:
        """Yield tables of events in the order of positions; see `AsideTables`."""
        places, after = within(ranges, "offset"), "(0, 0, 0, 0)"
        while places:
            where = (
                f"source = {{source:String}} AND kind = 'event' AND ({places})"
                f" AND ({KEY}) >= {after} ORDER BY {KEY} LIMIT {_PAGE}"
            )
            table = self._arrow(where, _COLUMNS, {"tenant": tenant, "source": source})
            if table.num_rows:
                yield table.select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA)
            if table.num_rows < _PAGE:
                return
            last = [table.column(name)[-1].as_py() for name in KEY.split(", ")]
            last[-1] += 1
            after = f"({', '.join(map(str, last))})"

    def unreadable(self, tenant: str, source: str, ranges: Ranges) -> int:
        """Return how many records without an event were set aside; see `AsideTables`."""
        [(count,)] = rows_of(
            self.client,
            f"SELECT count() FROM {_TABLE} WHERE tenant = {{tenant:String}}"
            f" AND source = {{source:String}} AND kind != 'event'"
            f" AND ({within(ranges, 'offset') or 'false'})",
            {"tenant": tenant, "source": source},
        )
        return int(count)

    def one(self, tenant: str, position: Position) -> KeptLetter | None:
        """Return what was set aside at a position."""
        found = self._items(f"({KEY}) = {place_of(position)}", {"tenant": tenant}, 1)
        return found[0] if found else None

    def _items(self, where: str, values: dict[str, Any], limit: int) -> list[KeptLetter]:
        table = self._arrow(f"({where}) ORDER BY {KEY} LIMIT {limit}", _COLUMNS, values)
        rows = table.cast(_SCHEMA).to_pylist()
        return [_kept(LogPartition(row["log"], row["partition"]), row) for row in rows]

    def _arrow(self, where: str, names: Sequence[str], values: dict[str, Any]) -> Any:
        try:
            return self.client.query_arrow(
                f"SELECT {', '.join(names)} FROM {_TABLE}"
                f" WHERE tenant = {{tenant:String}} AND {where}",
                parameters=values,
                settings=ARROW_SETTINGS,
                use_strings=True,
            )
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error


def _kept(at: LogPartition, row: dict[str, Any]) -> KeptLetter:
    """Return a row as dead letters are shown; an event as the CloudEvent that it was."""
    is_event, reason = row["kind"] == "event", row["reason"]
    body = event_letter(at, row, "event", reason).body if is_event else row["body"]
    return KeptLetter(
        Position(at, row["offset"], row["index"]),
        row["kind"],
        reason,
        body,
        len(body),
        row["ingested_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
