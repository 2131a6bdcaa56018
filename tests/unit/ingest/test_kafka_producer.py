"""A group of records is told its fate once, and a broken producer is replaced."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest import kafka_producer
from ingest.kafka_producer import RecordProducer
from tests.unit.ingest.stand_ins import HandLoop

RECORDS = [(0, b"a"), (1, b"b")]


class HandClient:
    """Stands in for the driver: reports what the test says, at the next poll."""

    made: list["HandClient"] = []  # noqa: RUF012  # emptied by the fixture

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.reports: list[Any] = []
        self.refusal: Exception | None = None
        self.error: KafkaError | None = None
        self.waited: list[float] = []
        self.is_silent = False
        HandClient.made.append(self)

    def produce(self, _topic: str, _value: bytes, *, on_delivery: Any, **_more: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.reports.append(on_delivery)

    def poll(self, seconds: float) -> None:
        self.waited.append(seconds)
        if self.is_silent:
            return
        reports, self.reports = self.reports, []
        for report in reports:
            report(self.error, None)


class Loop(HandLoop):
    def call_soon(self, callback: Any) -> None:
        self.timers.append(callback)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> RecordProducer:
    monkeypatch.setattr(kafka_producer, "Producer", HandClient)
    HandClient.made = []
    loop: Any = Loop()
    made = RecordProducer("broker:1", loop, 2)
    made.ring = loop.ring  # type: ignore[attr-defined]
    return made


def ring(producer: Any) -> None:
    producer.ring()


def test_a_group_succeeds_when_the_broker_has_all_of_it(producer: RecordProducer) -> None:
    fates: list[str | None] = []
    producer.produce(RECORDS, fates.append)
    assert (fates, producer.records_waiting) == ([], 2)
    ring(producer)
    assert (fates, producer.records_waiting) == ([None], 0)


def test_a_group_fails_once_when_one_record_does(producer: RecordProducer) -> None:
    fates: list[str | None] = []
    HandClient.made[0].error = KafkaError(KafkaError._MSG_TIMED_OUT)
    producer.produce(RECORDS, fates.append)
    ring(producer)
    assert len(fates) == 1
    assert "timed out" in str(fates[0])
    assert producer.is_down


def test_a_full_queue_fails_the_group_after_its_other_reports(producer: RecordProducer) -> None:
    fates: list[str | None] = []
    HandClient.made[0].refusal = BufferError("Local: Queue full")
    producer.produce(RECORDS, fates.append)
    assert "Queue full" in str(fates[0])
    assert producer.records_waiting == 0


def test_a_fatal_error_makes_a_new_producer_and_the_old_one_still_reports(
    producer: RecordProducer,
) -> None:
    fates: list[str | None] = []
    first = HandClient.made[0]
    producer.produce(RECORDS, fates.append)
    first.refusal = KafkaException(KafkaError(KafkaError._FATAL, "fenced", True))
    producer.produce(RECORDS, fates.append)
    assert len(fates) == 1
    producer.produce(RECORDS, fates.append)
    assert len(HandClient.made) == 2
    ring(producer)
    assert fates[1:] == [None, None]
    assert producer.restarts == 1


def test_the_driver_is_told_to_be_idempotent_and_patient_within_bounds(
    producer: RecordProducer,
) -> None:
    assert producer.restarts == 0
    settings = HandClient.made[0].settings
    assert settings["enable.idempotence"]
    assert settings["acks"] == "all"
    assert settings["message.timeout.ms"] == 2000


@pytest.mark.parametrize("is_quiet", [True, False])
def test_the_loop_waits_for_a_report_only_where_it_has_nothing_else_to_do(
    producer: RecordProducer, is_quiet: bool
) -> None:
    fates: list[str | None] = []
    client = HandClient.made[0]
    client.is_silent = True
    producer.may_wait = lambda: is_quiet
    producer.produce(RECORDS, fates.append)
    for _ in range(3):
        ring(producer)
    client.is_silent = False
    ring(producer)
    assert fates == [None]
    assert [seconds > 0 for seconds in client.waited] == [is_quiet] * 4
    assert max(client.waited) <= 0.005
