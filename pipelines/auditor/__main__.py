"""Audits every tenant once a day: `python -m pipelines.auditor`.

One is enough; more fix a cut too many, and that is all. Ends with status 0 on SIGTERM, after the
audit at hand, and with another status on any fault, for its supervisor to start it again.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from pipelines.daily_audit import LastAudit, alarms_of, due, note_of
from pipelines.outage import TransientError
from pipelines.postgres_audits import last_audits
from pipelines.settings import AuditorSettings

_LOOK_SECONDS = 5.0


def main() -> int:
    """Audit when it is time, until told to stop."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    settings = AuditorSettings.model_validate({})
    period = timedelta(seconds=settings.audit_seconds)
    connection = psycopg.connect(settings.postgres_dsn, autocommit=True)
    _say(f"ready: audits every {settings.audit_seconds} s")
    told: object = None
    while True:
        failure = "it takes so long"
        for each in due(last_audits(connection), datetime.now(UTC), period):
            if stopping.is_set():
                return 0
            try:
                _audit(settings, connection, each)
            except (TimeoutError, TransientError) as error:
                failure = str(error)
                _say(f"waits: {failure}")
        audits = last_audits(connection)
        alarms = alarms_of(audits, datetime.now(UTC), period, failure)
        if told != (audits, alarms):
            _tell(settings, audits, alarms)
            told = (audits, alarms)
        if stopping.wait(_LOOK_SECONDS):
            return 0


def _audit(
    settings: AuditorSettings, connection: "psycopg.Connection[Any]", last: LastAudit
) -> None:
    # Most days hold one such moment: what it needs is loaded then.
    from pipelines.audit import Auditor  # noqa: PLC0415
    from pipelines.chain import Chain  # noqa: PLC0415
    from pipelines.clickhouse_audit import ClickHouseAudit  # noqa: PLC0415
    from pipelines.clickhouse_progress import ClickHouseProgress  # noqa: PLC0415
    from pipelines.kafka_ticks import KafkaTicks  # noqa: PLC0415
    from pipelines.postgres_cuts import PostgresCuts  # noqa: PLC0415
    from pipelines.postgres_segments import PostgresSegments  # noqa: PLC0415

    clickhouse, cuts = _clickhouse(settings), PostgresCuts(connection)
    auditor = Auditor(ClickHouseAudit(clickhouse), PostgresSegments(connection), cuts.behind)
    chain = Chain(
        cuts=cuts,
        ticks=KafkaTicks(settings.kafka_bootstrap),
        progress=ClickHouseProgress(clickhouse).next_offsets,
        audit=auditor.audit,
        pause=time.sleep,
    )
    started = time.monotonic()
    cut = chain.fix_cut(last.tenant, datetime.now(UTC))
    seconds = time.monotonic() - started
    _say(f"audited tenant={last.tenant} cut={cut.number} ms={seconds * 1000:.0f}")


def _tell(settings: AuditorSettings, audits: Sequence[LastAudit], alarms: Sequence[str]) -> None:
    """Say what the supervisor shows."""
    copies = 0
    made = [each for each in audits if each.number]
    if made:
        from pipelines.clickhouse_audit import ClickHouseAudit  # noqa: PLC0415

        tables = ClickHouseAudit(_clickhouse(settings))
        copies = sum(tables.found(each.tenant, each.number, 1)["voided"] for each in made)
    _say("alarms end")
    for alarm in alarms:
        _say(f"alarm: {alarm}")
    _say(f"note: {note_of(audits, copies)}")


def _clickhouse(settings: AuditorSettings) -> Any:
    import clickhouse_connect  # noqa: PLC0415

    return clickhouse_connect.get_client(dsn=settings.clickhouse_url, autogenerate_session_id=False)


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{now} auditor pid={os.getpid()} {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
