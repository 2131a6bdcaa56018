"""Settings are named in their errors; counters add up."""

import pytest

from ingest.counters import Counters
from ingest.limits import FlowLimits, RequestLimits, from_environment


def test_a_limit_is_overridden_by_its_variable() -> None:
    limits = from_environment(RequestLimits, {"TOLLBOOK_INGEST_BODY_BYTES_MAX": "5"})
    assert limits == RequestLimits(body_bytes_max=5)
    assert from_environment(FlowLimits, {}) == FlowLimits()


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "many", "²"])
def test_a_limit_that_is_no_positive_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="TOLLBOOK_INGEST_LINGER_MS"):
        from_environment(FlowLimits, {"TOLLBOOK_INGEST_LINGER_MS": text})


def test_a_summary_tells_what_happened_since_the_last_one() -> None:
    counters = Counters()
    assert counters.summary() is None
    for duration in range(100):
        counters.note_answer(204, float(duration))
    counters.events_accepted += 7
    assert counters.summary() == "ingest requests=100 accepted=7 answers_204=100 p99_ms=99.0"
    assert counters.summary() is None
    counters.note_answer(400, 1.0)
    assert counters.summary() == "ingest requests=1 answers_400=1 p99_ms=1.0"


def test_the_exposition_counts_every_request_once() -> None:
    counters = Counters()
    for duration in (0.5, 3.0, 60_000.0):
        counters.note_answer(204, duration)
    counters.summary()
    lines = counters.exposition({"connections": 2}).decode().splitlines()
    assert 'tollbook_ingest_requests_total{status="204"} 3' in lines
    assert "tollbook_ingest_connections 2" in lines
    metric = "tollbook_ingest_request_duration_milliseconds"
    assert f'{metric}_bucket{{le="1"}} 1' in lines
    assert f'{metric}_bucket{{le="5"}} 2' in lines
    assert f'{metric}_bucket{{le="+Inf"}} 3' in lines
    assert f"{metric}_count 3" in lines
