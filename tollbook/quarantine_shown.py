"""What commands and the API show of quarantined sources."""

from typing import Any

from pipelines.clickhouse_quarantine import ClickHouseQuarantine
from pipelines.postgres_quarantine import PostgresQuarantine
from pipelines.progress import instant_text


def sources_content(connection: Any, clickhouse: Any, tenant: str) -> list[dict[str, Any]]:
    """Return the sources of a tenant of which something was set aside, or is, JSON-ready.

    `quarantined`: what it sends is set aside; `releasing`: a release is under way; `waiting`: what
    it sends counts again, but what was set aside before waits for a release; else `released`.
    """
    book = PostgresQuarantine(connection)
    in_force, under_way = book.in_force(tenant), book.under_way(tenant)
    streams = ClickHouseQuarantine(clickhouse).streams(tenant, book.all_released(tenant))
    found: dict[str, dict[str, Any]] = {}
    for each in streams:
        found[each.source] = {
            "source": each.source,
            "state": "waiting" if each.waiting else "released",
            "partitions": [],
            "waiting": each.waiting,
            "released": each.released,
            "unreadable": each.unreadable,
            "bytes": each.bytes,
            "first_at": instant_text(each.first_at),
            "last_at": instant_text(each.last_at),
        }
    for source, places in in_force.items():
        nothing = {"waiting": 0, "released": 0, "unreadable": 0, "bytes": 0}
        times = {"first_at": None, "last_at": None}
        content = found.setdefault(source, {"source": source, **nothing, **times})
        content |= {"state": "quarantined", "partitions": [str(at) for at in places]}
    for source in under_way & found.keys():
        found[source]["state"] = "releasing"
    return [found[source] for source in sorted(found)]


def is_known(connection: Any, clickhouse: Any, tenant: str, source: str) -> bool:
    """Tell whether a source is quarantined, or something of it was set aside."""
    contents = sources_content(connection, clickhouse, tenant)
    return any(each["source"] == source for each in contents)
