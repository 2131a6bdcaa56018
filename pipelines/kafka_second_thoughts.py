"""Puts second thoughts into the log, and what is released of a quarantine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingest.topic import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE_HEADER,
    CORRECTION_CONTENT_TYPE,
    RELEASE_CONTENT_TYPE,
    REPLACEMENT_CONTENT_TYPE,
    TENANT_HEADER,
    encode_record,
)
from pipelines.correction import CorrectionRecord
from pipelines.kafka_ticks import acknowledged
from pipelines.position import Log
from pipelines.record import ReleaseRecord
from pipelines.replacement import ReplacementRecord

SecondThought = CorrectionRecord | ReplacementRecord | ReleaseRecord

_CONTENT_TYPES: dict[type[SecondThought], bytes] = {
    CorrectionRecord: CORRECTION_CONTENT_TYPE,
    ReplacementRecord: REPLACEMENT_CONTENT_TYPE,
    ReleaseRecord: RELEASE_CONTENT_TYPE,
}


@dataclass(frozen=True, slots=True)
class KafkaSecondThoughts:
    """Sends records of corrections, replacements and releases."""

    bootstrap: str

    def send(self, log: Log, records: Sequence[tuple[int, SecondThought]]) -> list[int]:
        """Send records, each into its partition; return their offsets, in order.

        Raises:
            TimeoutError: the broker has not acknowledged every record in time; some may be in
                the log, and the same asked for again is then found to be done.
        """
        messages = [
            (
                partition,
                record.to_value(),
                {
                    CONTENT_TYPE_HEADER: _CONTENT_TYPES[type(record)],
                    TENANT_HEADER: record.tenant.encode(),
                },
            )
            for partition, record in records
        ]
        return acknowledged(self.bootstrap, log.topic, messages, "corrections")

    def send_events(self, log: Log, batches: Sequence[tuple[int, Any]]) -> list[int]:
        """Send batches of `EVENT_SCHEMA`, each into its partition; return their offsets.

        Raises:
            TimeoutError: the broker has not acknowledged every record in time.
        """
        headers = {CONTENT_TYPE_HEADER: ARROW_CONTENT_TYPE}
        messages = [(partition, encode_record(batch), headers) for partition, batch in batches]
        return acknowledged(self.bootstrap, log.topic, messages, "events")
