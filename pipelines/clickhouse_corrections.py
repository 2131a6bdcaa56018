"""Reads events that corrections are of, and what earlier corrections made of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_clauses import ARROW_SETTINGS
from pipelines.clickhouse_dead_letters import place_of, rows_of
from pipelines.correcting import (
    CORRECTED_SCHEMA,
    TARGET_SCHEMA,
    Done,
    Row,
    Target,
    position_of,
    summed_up,
    target_of,
)
from pipelines.correction import Correction
from pipelines.cut import Ranges
from pipelines.identity import identity_of
from pipelines.outage import TransientError
from pipelines.position import LogPartition, Position

_IDENTITIES_MAX = 1_000
_AT = "at_log, at_partition, at_offset, at_index"


@dataclass(slots=True)
class ClickHouseCorrections:
    """A `CorrectionTables` over the tables usage_events and usage_corrections."""

    client: Any
    seed: int

    def targets(
        self, tenant: str, wanted: Sequence[Correction], at: LogPartition, below: int
    ) -> Mapping[Position, Target]:
        """Return the events that are stored; see `CorrectionTables`."""
        hashes = {identity_of(tenant, each.source, each.id, self.seed) for each in wanted}
        return self.of_identities(tenant, hashes, corrected_before(at, below))

    def of_events(
        self, tenant: str, names: Sequence[tuple[str, str]]
    ) -> list[dict[Position, Target]]:
        """Return the events stored under each source and id; see `StoredEvents`.

        Without the copies that audits voided: what they had counted is taken back already.
        """
        hashes = [identity_of(tenant, source, name, self.seed) for source, name in names]
        found = self.of_identities(tenant, hashes)
        for place in self._voided(tenant, hashes):
            found.pop(place, None)
        by_identity: dict[bytes, dict[Position, Target]] = {}
        for place, target in found.items():
            by_identity.setdefault(target.sent["identity"], {})[place] = target
        return [by_identity.get(identity, {}) for identity in hashes]

    def _voided(self, tenant: str, identities: Sequence[bytes]) -> list[Position]:
        listed = ",".join(f"unhex('{identity.hex()}')" for identity in identities)
        rows = rows_of(
            self.client,
            "SELECT DISTINCT log, partition, offset, index FROM usage_audit_voids"
            f" WHERE tenant = {{tenant:String}} AND identity IN ({listed}) AND revision = 0",
            {"tenant": tenant},
            {"max_query_size": 4_000_000},
        )
        return [Position(LogPartition(log, number), *place) for log, number, *place in rows]

    def done(self, tenant: str, record: Position) -> set[int]:
        """Return which corrections of a record were carried out; see `StoredEvents`."""
        rows = rows_of(
            self.client,
            "SELECT DISTINCT at_index FROM usage_corrections WHERE tenant = {tenant:String}"
            f" AND at_log = {record.at.log} AND at_partition = {record.at.partition}"
            f" AND at_offset = {record.offset}",
            {"tenant": tenant},
        )
        return {row[0] for row in rows}

    def of_identities(
        self, tenant: str, identities: Iterable[bytes], before: str = "true"
    ) -> dict[Position, Target]:
        """Return all events of some identities, as left by the corrections that `before` names."""
        found: dict[Position, Target] = {}
        every = sorted(set(identities))
        for first in range(0, len(every), _IDENTITIES_MAX):
            some = every[first : first + _IDENTITIES_MAX]
            listed = ",".join(f"unhex('{identity.hex()}')" for identity in some)
            values, among = {"tenant": tenant}, f"identity IN ({listed})"
            sent = _arrow_rows(self.client, "usage_events", TARGET_SCHEMA, among, values)
            corrections: dict[Position, list[Row]] = {}
            for row in corrected_rows(self.client, f"{among} AND {before}", _AT, values):
                corrections.setdefault(position_of(row), []).append(row)
            for row in sent:
                place = position_of(row)
                found[place] = target_of(row, corrections.get(place, ()))
        return found


def listed_corrections(
    client: Any,
    tenant: str,
    *,
    interval_us: tuple[int, int] | None,
    ranges: Ranges | None,
    after: Position | None,
    limit: int,
) -> list[Done]:
    """Return corrections by position: of event times in an interval, in ranges of the log."""
    where = ["true"]
    if interval_us is not None:
        where.append(f"time >= fromUnixTimestamp64Micro({interval_us[0]})")
        where.append(f"time < fromUnixTimestamp64Micro({interval_us[1]})")
    if ranges is not None:
        places = [
            f"(at_log = {at.log} AND at_partition = {at.partition}"
            f" AND at_offset >= {start} AND at_offset < {end})"
            for at, (start, end) in ranges.items()
        ]
        where.append(f"({' OR '.join(places) or 'false'})")
    if after is not None:
        where.append(f"({_AT}) > {place_of(after)}")
    chosen = (
        f"({_AT}) IN (SELECT {_AT} FROM usage_corrections"
        f" WHERE tenant = {{tenant:String}} AND {' AND '.join(where)}"
        f" GROUP BY {_AT} ORDER BY {_AT} LIMIT {limit})"
    )
    return summed_up(corrected_rows(client, chosen, f"{_AT}, sign", {"tenant": tenant}))


def corrected_before(at: LogPartition, below: int) -> str:
    """Say that a correction stands before a record, or in another partition."""
    return f"((at_log, at_partition) != ({at.log}, {at.partition}) OR at_offset < {below})"


def corrected_rows(client: Any, where: str, order: str, values: dict[str, Any]) -> list[Row]:
    """Return rows of `CORRECTED_SCHEMA` of one tenant; raises TransientError in an outage.

    Rows of one position are equal, so that FINAL, which skips no index, is not needed.
    """
    return _arrow_rows(
        client, "usage_corrections", CORRECTED_SCHEMA, f"{where} ORDER BY {order}", values
    )


def _arrow_rows(
    client: Any, table: str, schema: Any, where: str, values: dict[str, Any]
) -> list[Row]:
    try:
        answer = client.query_arrow(
            f"SELECT DISTINCT {', '.join(schema.names)} FROM {table}"
            f" WHERE tenant = {{tenant:String}} AND {where}",
            parameters=values,
            settings=ARROW_SETTINGS,
            use_strings=True,
        )
    except OperationalError as error:
        raise TransientError(f"ClickHouse does not answer: {error}") from error
    rows: list[Row] = answer.cast(schema).to_pylist()
    return rows
