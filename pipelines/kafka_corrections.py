"""Puts corrections into the log."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.topic import CONTENT_TYPE_HEADER, CORRECTION_CONTENT_TYPE, TENANT_HEADER
from pipelines.correction import CorrectionRecord
from pipelines.kafka_ticks import acknowledged
from pipelines.position import Log


@dataclass(frozen=True, slots=True)
class KafkaCorrections:
    """Sends records of corrections."""

    bootstrap: str

    def send(self, log: Log, records: Sequence[tuple[int, CorrectionRecord]]) -> list[int]:
        """Send records, each into its partition; return their offsets, in order.

        Raises:
            TimeoutError: the broker has not acknowledged every record in time; some may be in
                the log, and the same corrections asked for again are then found to be done.
        """
        messages = [
            (
                partition,
                record.to_value(),
                {
                    CONTENT_TYPE_HEADER: CORRECTION_CONTENT_TYPE,
                    TENANT_HEADER: record.tenant.encode(),
                },
            )
            for partition, record in records
        ]
        return acknowledged(self.bootstrap, log.topic, messages, "corrections")
