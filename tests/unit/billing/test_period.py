from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.period import (
    Cadence,
    Grid,
    Period,
    calendar,
    last_date,
    midnight,
    month_of,
    periods,
    whole_month,
)

NEW_YORK = ZoneInfo("America/New_York")
UTC0 = ZoneInfo("UTC")


def test_months_lie_in_the_customers_zone_over_a_change_of_clocks() -> None:
    march = list(islice(periods(date(2013, 1, 1), None, calendar(Cadence(1)), NEW_YORK), 3))[2]
    assert march.starts_at == datetime(2013, 3, 1, 5, tzinfo=UTC)
    assert march.ends_at == datetime(2013, 4, 1, 4, tzinfo=UTC)
    assert march.ends_at - march.starts_at == timedelta(days=31) - timedelta(hours=1)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "America/Sao_Paulo"])
@pytest.mark.parametrize("months", [1, 3, 12])
def test_periods_are_contiguous(zone: str, months: int) -> None:
    found = list(
        islice(periods(date(2012, 2, 29), None, calendar(Cadence(months)), ZoneInfo(zone)), 60)
    )
    assert all(one.ends_at == other.starts_at for one, other in pairwise(found))
    assert all(one.whole_until == other.whole_from for one, other in pairwise(found))


def test_quarters_and_years_lie_on_the_calendar() -> None:
    first, second = islice(periods(date(2013, 2, 10), None, calendar(Cadence(3)), NEW_YORK), 2)
    assert (first.starts_on, first.ends_on) == (date(2013, 2, 10), date(2013, 4, 1))
    assert (first.whole_from, first.whole_until) == (date(2013, 1, 1), date(2013, 4, 1))
    assert (second.starts_on, second.ends_on) == (date(2013, 4, 1), date(2013, 7, 1))
    year = next(periods(date(2013, 2, 10), None, calendar(Cadence(12)), NEW_YORK))
    assert (year.whole_from, year.ends_on) == (date(2013, 1, 1), date(2014, 1, 1))


def test_the_last_period_ends_with_the_subscription() -> None:
    found = list(periods(date(2013, 1, 1), date(2013, 2, 15), calendar(Cadence(1)), NEW_YORK))
    assert [one.ends_on for one in found] == [date(2013, 2, 1), date(2013, 2, 15)]


def test_a_date_at_which_periods_end_is_one_of_the_customers() -> None:
    found = list(periods(date(2013, 1, 1), date(2013, 2, 1), calendar(Cadence(1)), NEW_YORK))
    assert [one.ends_at for one in found] == [datetime(2013, 2, 1, 5, tzinfo=UTC)]
    assert found[0].ends_at.tzinfo is UTC


def test_periods_of_several_months_count_from_january_2000() -> None:
    assert calendar(Cadence(24)).whole(date(2013, 5, 1)) == (date(2012, 1, 1), date(2014, 1, 1))
    assert calendar(Cadence(5)).whole(date(2000, 7, 1)) == (date(2000, 6, 1), date(2000, 11, 1))


def test_the_last_date_of_an_instant_is_the_first_day_of_which_nothing_is_before_it() -> None:
    start = midnight(date(2013, 2, 1), NEW_YORK)
    assert last_date(start, NEW_YORK) == date(2013, 2, 1)
    for later in (timedelta(microseconds=1), timedelta(hours=12), timedelta(hours=23)):
        assert last_date(start + later, NEW_YORK) == date(2013, 2, 2)
    assert last_date(start - timedelta(microseconds=1), NEW_YORK) == date(2013, 2, 1)


def test_a_period_takes_time_and_lies_in_its_whole() -> None:
    first, second, third = (date(2013, month, 1) for month in (1, 2, 3))
    at, end = (midnight(day, UTC0) for day in (first, second))
    assert Period(first, second, at, end, first, third)
    for dates in ((second, second), (second, third), (first, first)):
        with pytest.raises(AssertionError):
            Period(first, second, at, end, *dates)
    with pytest.raises(AssertionError):
        Period(first, second, at, at, first, second)
    with pytest.raises(AssertionError):
        Period(first, first, at, end, first, second)


def test_a_month_is_read_as_its_first_day() -> None:
    assert month_of("2013-02") == whole_month(date(2013, 2, 28)) == date(2013, 2, 1)
    with pytest.raises(ValueError, match=r"^not a month like 2013-01: 2013-2$"):
        month_of("2013-2")


def test_a_midnight_that_the_clock_skips_is_the_moment_it_skips() -> None:
    assert midnight(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo")) == datetime(
        2018, 11, 4, 3, tzinfo=UTC
    )


@pytest.mark.parametrize("text", ["2013-1", "2013-13", "2013-01-01", "13-01", ""])
def test_a_month_is_written_in_one_way(text: str) -> None:
    with pytest.raises(ValueError, match=r"match|month|unconverted"):
        month_of(text)


def test_a_day_that_a_month_lacks_is_its_last_and_comes_back_in_the_next() -> None:
    found = islice(periods(date(2012, 1, 31), None, Grid(Cadence(1), date(2012, 1, 31)), UTC0), 4)
    assert [one.ends_on for one in found] == [
        date(2012, 2, 29),
        date(2012, 3, 31),
        date(2012, 4, 30),
        date(2012, 5, 31),
    ]


def test_an_anniversary_of_a_leap_day_is_its_own_every_fourth_year() -> None:
    found = islice(periods(date(2012, 2, 29), None, Grid(Cadence(12), date(2012, 2, 29)), UTC0), 4)
    assert [one.ends_on for one in found] == [
        date(2013, 2, 28),
        date(2014, 2, 28),
        date(2015, 2, 28),
        date(2016, 2, 29),
    ]


def test_weeks_of_the_calendar_begin_on_mondays() -> None:
    first, second = islice(periods(date(2013, 3, 7), None, calendar(Cadence(days=7)), NEW_YORK), 2)
    assert (first.whole_from, first.ends_on) == (date(2013, 3, 4), date(2013, 3, 11))
    assert second.ends_at - second.starts_at == timedelta(days=7)
    assert first.ends_at - first.starts_at == timedelta(days=4) - timedelta(hours=1)


@given(
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.one_of(
        st.builds(Cadence, months=st.integers(1, 40)), st.builds(Cadence, days=st.integers(1, 40))
    ),
)
def test_every_day_lies_in_the_one_whole_period_that_says_so(
    anchor: date, on: date, cadence: Cadence
) -> None:
    grid = Grid(cadence, anchor)
    start, end = grid.whole(on)
    assert start <= on < end
    assert grid.whole(start) == grid.whole(end - timedelta(days=1)) == (start, end)
    assert grid.whole(end)[0] == end
    assert grid.whole(anchor)[0] == anchor
