"""Windows by the clocks of time zones: no gap, no overlap, right at every change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipelines.local_windows import WINDOWS_MAX, Grid, WindowSize, local_windows

HOUR_US = 3600 * 10**6


def us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 10**6 + moment.microsecond


def text(at_us: int, zone: str = "UTC") -> str:
    return datetime.fromtimestamp(at_us // 10**6, UTC).astimezone(ZoneInfo(zone)).isoformat()


def starts(size: WindowSize, zone: str, start: str, end: str) -> list[str]:
    """Walk from window to window through an interval."""
    at, found = us(start), []
    windows = local_windows(size, ZoneInfo(zone), at, us(end))
    while at < us(end):
        first, last = windows.bounds(at)
        assert first <= at < last
        assert windows.bounds(first) == (first, last) == windows.bounds(last - 1)
        found.append(text(first, zone))
        at = last
    return found


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)]
)
def test_a_day_in_paris_is_as_long_as_it_is(day: str, hours: int) -> None:
    noon = us(f"{day}T12:00:00+00:00")
    first, last = local_windows("day", ZoneInfo("Europe/Paris"), noon, noon + 1).bounds(noon)
    assert text(first, "Europe/Paris").startswith(f"{day}T00:00:00")
    assert last - first == hours * HOUR_US


def test_months_start_at_local_midnight_on_either_side_of_the_change() -> None:
    assert starts("month", "America/New_York", "2026-02-15T00:00:00Z", "2026-12-01T05:00:00Z")[
        ::3
    ] == [
        "2026-02-01T00:00:00-05:00",
        "2026-05-01T00:00:00-04:00",
        "2026-08-01T00:00:00-04:00",
        "2026-11-01T00:00:00-04:00",
    ]


def test_a_day_whose_midnight_is_skipped_starts_at_the_change() -> None:
    assert starts("day", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z") == [
        "2018-11-03T00:00:00-03:00",
        "2018-11-04T01:00:00-02:00",
        "2018-11-05T00:00:00-02:00",
    ]
    assert "1919-03-31T00:30:00-04:00" in starts(
        "day", "America/Toronto", "1919-03-30T12:00:00Z", "1919-04-01T12:00:00Z"
    )


def test_a_day_that_never_was_has_no_window() -> None:
    assert starts("day", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-31T20:00:00Z") == [
        "2011-12-29T00:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2012-01-01T00:00:00+14:00",
    ]


def test_hours_follow_offsets_of_half_hours_and_changes_by_them() -> None:
    assert starts("hour", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z") == [
        "2026-01-01T05:00:00+05:30",
        "2026-01-01T06:00:00+05:30",
    ]
    assert starts(
        "hour", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", "2026-04-04T17:00:00Z"
    ) == [
        "2026-04-05T01:00:00+11:00",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T02:00:00+10:30",
        "2026-04-05T03:00:00+10:30",
    ]


def test_hours_of_whole_offsets_are_those_of_utc_over_a_change() -> None:
    start = us("2026-01-01T00:00:00Z")
    windows = local_windows("hour", ZoneInfo("Europe/Paris"), start, start + 9000 * HOUR_US)
    assert isinstance(windows, Grid)
    assert len(windows.pieces) == 1
    assert windows.is_made_of(900 * 10**6)


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Asia/Kolkata"])
def test_hours_off_the_hour_are_made_of_quarters_but_not_of_hours(zone: str) -> None:
    windows = local_windows("hour", ZoneInfo(zone), 0, HOUR_US)
    assert isinstance(windows, Grid)
    assert windows.is_made_of(60 * 10**6)
    assert not windows.is_made_of(HOUR_US)


@pytest.mark.parametrize("size", ["minute", "hour", "day", "month"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_windows_leave_no_gap(size: WindowSize, zone: str) -> None:
    last = None
    for hours in range(0, 24 * 400, 7):
        at = us("2025-12-31T23:59:59Z") + hours * HOUR_US
        windows = local_windows(size, ZoneInfo(zone), at - HOUR_US, at + 40 * 24 * HOUR_US)
        first, end = windows.bounds(at)
        assert first <= at < end
        assert last is None or last <= first or first < last == end
        assert windows.bounds(end)[0] == end
        last = end


def test_without_a_size_there_is_one_window() -> None:
    assert local_windows(None, ZoneInfo("UTC"), 17, 99).bounds(50) == (17, 99)


def test_too_many_days_are_refused() -> None:
    day = timedelta(days=1) // timedelta(microseconds=1)
    local_windows("day", ZoneInfo("UTC"), 0, WINDOWS_MAX * day)
    with pytest.raises(ValueError, match="shorter interval"):
        local_windows("day", ZoneInfo("UTC"), 0, (WINDOWS_MAX + 1) * day)
