"""A subject's partition is the same wherever it is worked out."""

from typing import Any

from ingest.topic import spread
from pipelines.clickhouse_replacements import SPREAD

NAMES = ["a", "customer-17", "k\u00fcste \U0001f600", "x" * 256, "0:y", "\u00ff"]


def test_clickhouse_spreads_subjects_as_ingest_does(client: Any) -> None:
    sql = f"SELECT {SPREAD} FROM (SELECT {{t:String}} AS tenant, {{s:String}} AS subject)"
    for tenant in NAMES:
        for subject in NAMES:
            found = client.query(sql, {"t": tenant, "s": subject}).result_rows
            assert found == [(spread(tenant.encode(), subject.encode()),)], (tenant, subject)
