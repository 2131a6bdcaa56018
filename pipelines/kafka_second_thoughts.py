"""Puts second thoughts into the log."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.topic import (
    CONTENT_TYPE_HEADER,
    CORRECTION_CONTENT_TYPE,
    REPLACEMENT_CONTENT_TYPE,
    TENANT_HEADER,
)
from pipelines.correction import CorrectionRecord
from pipelines.kafka_ticks import acknowledged
from pipelines.position import Log
from pipelines.replacement import ReplacementRecord

SecondThought = CorrectionRecord | ReplacementRecord


@dataclass(frozen=True, slots=True)
class KafkaSecondThoughts:
    """Sends records of corrections and replacements."""

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
                    CONTENT_TYPE_HEADER: _content_type(record),
                    TENANT_HEADER: record.tenant.encode(),
                },
            )
            for partition, record in records
        ]
        return acknowledged(self.bootstrap, log.topic, messages, "corrections")


def _content_type(record: SecondThought) -> bytes:
    is_correction = isinstance(record, CorrectionRecord)
    return CORRECTION_CONTENT_TYPE if is_correction else REPLACEMENT_CONTENT_TYPE
