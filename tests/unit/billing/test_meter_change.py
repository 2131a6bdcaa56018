"""A meter changes from a boundary of its windows on, and never what has been billed."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from billing.declaration import Meter
from billing.meter_change import EffectiveError, KnownMeter, new_version
from pipelines.meter import MeterDefinition

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)


def defined(**fields: Any) -> MeterDefinition:
    shape = {"key": "m", "event_type": "call", "aggregation": "count"}
    return MeterDefinition.model_validate(shape | fields)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_first_version_is_in_force_since_ever() -> None:
    found = new_version(Meter(defined()), None, None, NOW)
    assert found is not None
    assert (found.version, found.effective_at) == (1, None)


def test_the_same_definition_again_is_no_version() -> None:
    assert new_version(Meter(defined()), KnownMeter(defined()), None, NOW) is None


def test_a_change_counts_from_the_next_boundary_of_the_coarser_windows() -> None:
    before = KnownMeter(defined(window="1h"), 3)
    found = new_version(Meter(defined(window="1m")), before, None, NOW)
    assert found is not None
    assert (found.version, found.effective_at) == (4, at("2026-03-10T13:00"))


def test_an_instant_within_a_window_is_refused_with_the_next_boundary() -> None:
    meter = Meter(defined(unit="x"), at("2026-04-01T00:05"))
    with pytest.raises(EffectiveError, match="no boundary of its windows") as caught:
        new_version(meter, KnownMeter(defined()), None, NOW)
    assert (caught.value.earliest, caught.value.rewrites) == (at("2026-04-01T00:15"), False)


@pytest.mark.parametrize("asked", [at("2026-01-31T23:45"), date(2026, 1, 31)])
def test_what_has_been_billed_is_never_rewritten(asked: datetime | date) -> None:
    billed_until = at("2026-02-01T00:05")
    with pytest.raises(EffectiveError, match="has been billed") as caught:
        new_version(Meter(defined(unit="x"), asked), KnownMeter(defined()), billed_until, NOW)
    assert (caught.value.earliest, caught.value.rewrites) == (at("2026-02-01T00:15"), True)
    meter = Meter(defined(unit="x"), caught.value.earliest)
    found = new_version(meter, KnownMeter(defined()), billed_until, NOW)
    assert found is not None


def test_a_version_does_not_count_before_the_one_that_it_follows() -> None:
    before = KnownMeter(defined(), 2, at("2026-05-01T00:00"))
    with pytest.raises(EffectiveError, match="version 2 counts from then on"):
        new_version(Meter(defined(unit="x"), at("2026-04-01T00:00")), before, None, NOW)
    found = new_version(Meter(defined(unit="x")), before, None, NOW)
    assert found is not None
    assert found.effective_at == before.effective_at


def test_a_meter_is_archived_once_and_comes_back_by_being_declared() -> None:
    archived = new_version(Meter(defined(), archives=True), KnownMeter(defined()), None, NOW)
    assert archived is not None
    assert archived.is_archived
    known = KnownMeter(defined(), 2, archived.effective_at, is_archived=True)
    assert new_version(Meter(defined(), archives=True), known, None, NOW) is None
    back = new_version(Meter(defined()), known, None, NOW)
    assert back is not None
    assert (back.version, back.is_archived) == (3, False)
