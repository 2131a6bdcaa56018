"""Activates new meters and counts their history: `python -m pipelines.seeder`.

One is enough; more, and one that is killed and started again, write the same rows. Ends with
status 0 on SIGTERM after the piece at hand, with another status on any fault, for its supervisor
to start it again.
"""

import os
import signal
import sys
import threading
import time

import clickhouse_connect
import psycopg

from ingest.without_pandas import keep_out_pandas
from pipelines.audit import Auditor
from pipelines.chain import Chain
from pipelines.clickhouse_audit import ClickHouseAudit
from pipelines.clickhouse_history import ClickHouseHistory
from pipelines.clickhouse_progress import ClickHouseProgress
from pipelines.history import Seeder
from pipelines.kafka_ticks import KafkaTicks
from pipelines.outage import TransientError
from pipelines.postgres_cuts import PostgresCuts
from pipelines.postgres_meters import PostgresMeters
from pipelines.postgres_segments import PostgresSegments
from pipelines.settings import WorkerSettings

_LOOK_SECONDS = 0.5
_ACTIVATION_SECONDS = 20.0


def main() -> int:
    """Seed until told to stop."""
    keep_out_pandas()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    settings = WorkerSettings.model_validate({})
    connection = psycopg.connect(settings.postgres_dsn, autocommit=True)
    clickhouse = clickhouse_connect.get_client(
        dsn=settings.clickhouse_url, autogenerate_session_id=False
    )
    meters, progress = PostgresMeters(connection), ClickHouseProgress(clickhouse).next_offsets
    cuts = PostgresCuts(connection)
    auditor = Auditor(ClickHouseAudit(clickhouse), PostgresSegments(connection), cuts.behind)
    chain = Chain(
        cuts=cuts,
        ticks=KafkaTicks(settings.kafka_bootstrap),
        progress=progress,
        audit=auditor.audit,
        pause=time.sleep,
        patience_s=_ACTIVATION_SECONDS,
    )
    seeder = Seeder(ClickHouseHistory(clickhouse), meters, progress, stopping.is_set)
    _say("ready: counts the history of new meters")
    while not stopping.wait(_LOOK_SECONDS):
        try:
            for tenant in meters.waiting_tenants():
                chain.activate_meters(tenant)
                chain.finish_left(tenant)
            for seeding in meters.seedings():
                if seeder.seed(seeding):
                    definition = seeding.meter.definition
                    version = f"{definition.key} version {seeding.meter.version}"
                    _say(f"live tenant={seeding.meter.tenant} meter={version}")
        except (TimeoutError, TransientError) as error:
            _say(f"waits: {error}")
    return 0


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{now} seeder pid={os.getpid()} {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
