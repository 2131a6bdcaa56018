"""Reads events that corrections are of, and what earlier corrections made of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

from pipelines.clickhouse_clauses import ARROW_SETTINGS
from pipelines.correcting import (
    CORRECTED_SCHEMA,
    TARGET_SCHEMA,
    Row,
    Target,
    position_of,
    target_of,
)
from pipelines.correction import Correction
from pipelines.outage import TransientError
from pipelines.position import LogPartition, Position
from pipelines.trace import identity_of

_IDENTITIES_MAX = 1_000


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
        before = f"((at_log, at_partition) != ({at.log}, {at.partition}) OR at_offset < {below})"
        return self.of_identities(tenant, hashes, before)

    def of_identities(
        self, tenant: str, identities: Iterable[bytes], before: str = "true"
    ) -> dict[Position, Target]:
        """Return all events of some identities, as left by the corrections that `before` names."""
        found: dict[Position, Target] = {}
        every = sorted(set(identities))
        for first in range(0, len(every), _IDENTITIES_MAX):
            some = every[first : first + _IDENTITIES_MAX]
            sent = self._rows("usage_events", TARGET_SCHEMA, tenant, some, "true")
            corrections: dict[Position, list[Row]] = {}
            for row in self._rows("usage_corrections", CORRECTED_SCHEMA, tenant, some, before):
                corrections.setdefault(position_of(row), []).append(row)
            for row in sent:
                place = position_of(row)
                found[place] = target_of(row, corrections.get(place, ()))
        return found

    def _rows(
        self, table: str, schema: Any, tenant: str, identities: Sequence[bytes], where: str
    ) -> list[Row]:
        listed = ",".join(f"unhex('{identity.hex()}')" for identity in identities)
        try:
            # Rows of one position are equal, so that FINAL, which skips no index, is not needed.
            answer = self.client.query_arrow(
                f"SELECT DISTINCT {', '.join(schema.names)} FROM {table}"
                f" WHERE tenant = {{tenant:String}} AND identity IN ({listed}) AND {where}",
                parameters={"tenant": tenant},
                settings=ARROW_SETTINGS,
                use_strings=True,
            )
        except OperationalError as error:
            raise TransientError(f"ClickHouse does not answer: {error}") from error
        rows: list[Row] = answer.cast(schema).to_pylist()
        return rows
