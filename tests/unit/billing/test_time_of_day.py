"""Times of day: which band is in force when, by the customer's clock."""

import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.charge import DAYS
from billing.time_of_day import Band, bands_between

PARIS = ZoneInfo("Europe/Paris")
BANDS = [
    ("night", "22:00", "06:00", ("fri",)),
    ("noon", "12:00", "13:00", ("tue",)),
    ("peak", "08:00", "20:00", ("mon", "tue")),
]


def bands(start: datetime, end: datetime) -> list[tuple[str, ...]]:
    """Return which band is in force when, by the clock of Paris."""
    found = bands_between(
        BANDS, "Europe/Paris", start.replace(tzinfo=PARIS), end.replace(tzinfo=PARIS)
    )
    return [
        (name, *(f"{at.astimezone(PARIS):%a %H:%M}" for at in (since, until)))
        for name, since, until in found
    ]


def test_times_of_day_are_those_of_their_days_and_go_on_over_midnight() -> None:
    assert bands(datetime(2013, 3, 1), datetime(2013, 3, 6)) == [  # noqa: DTZ001 - of Paris
        ("other", "Fri 00:00", "Fri 22:00"),
        ("night", "Fri 22:00", "Sat 06:00"),
        ("other", "Sat 06:00", "Mon 08:00"),
        ("peak", "Mon 08:00", "Mon 20:00"),
        ("other", "Mon 20:00", "Tue 08:00"),
        ("peak", "Tue 08:00", "Tue 12:00"),
        ("noon", "Tue 12:00", "Tue 13:00"),
        ("peak", "Tue 13:00", "Tue 20:00"),
        ("other", "Tue 20:00", "Wed 00:00"),
    ]
    assert bands(datetime(2013, 3, 2, 1), datetime(2013, 3, 2, 7)) == [  # noqa: DTZ001
        ("night", "Sat 01:00", "Sat 06:00"),
        ("other", "Sat 06:00", "Sat 07:00"),
    ]
    assert bands(datetime(2013, 3, 1, 23), datetime(2013, 3, 1, 23, 30)) == [  # noqa: DTZ001
        ("night", "Fri 23:00", "Fri 23:30")
    ]


def test_an_end_at_midnight_is_that_of_the_same_day() -> None:
    start, end = (datetime(2013, 3, day, tzinfo=PARIS) for day in (5, 7))
    evening = [("evening", "18:00", "00:00", ("tue",)), ("all day", "00:00", "00:00", ("wed",))]
    found = bands_between(evening, "Europe/Paris", start, end)
    assert [(name, f"{since.astimezone(PARIS):%a %H:%M}") for name, since, _ in found] == [
        ("other", "Tue 00:00"),
        ("evening", "Tue 18:00"),
        ("all day", "Wed 00:00"),
    ]


@pytest.mark.parametrize(
    ("machine", "hours", "names"),
    [
        ("Pacific/Kiritimati", (13, 21), ["peak", "other"]),
        ("Pacific/Pago_Pago", (7, 9), ["other", "peak"]),
    ],
)
def test_the_clock_of_the_machine_does_not_matter(
    machine: str, hours: tuple[int, int], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is another day there than in Paris, or still is."""
    start, end = (datetime(2013, 3, 4, hour, tzinfo=PARIS) for hour in hours)
    monkeypatch.setenv("TZ", machine)
    time.tzset()
    try:
        found = bands_between(BANDS, "Europe/Paris", start, end)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [name for name, _, _ in found] == names
    assert found[0][2] == found[1][1]
    assert found[1][1].tzinfo is UTC


def holds(band: Band, local: datetime) -> bool:
    """Return whether a band that began today or yesterday has not ended by a wall clock."""
    _, since, until, days = band
    hours = [timedelta(hours=int(text[:2]), minutes=int(text[3:])) for text in (since, until)]
    length = (hours[1] - hours[0]) % timedelta(days=1) or timedelta(days=1)
    today = datetime(local.year, local.month, local.day)  # noqa: DTZ001 - a wall clock
    return any(
        DAYS[day.weekday()] in days and timedelta() <= local - day - hours[0] < length
        for day in (today, today - timedelta(days=1))
    )


times = st.sampled_from(
    [f"{hour:02}:{half}" for hour in (*range(2), *range(4, 24)) for half in ("00", "30")]
)
bands_of_a_week = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        times,
        times,
        st.lists(st.sampled_from(DAYS), min_size=1).map(tuple),
    ),
    max_size=4,
)


@given(
    bands_of_a_week,
    st.sampled_from([datetime(2013, 3, 28, tzinfo=UTC), datetime(2013, 10, 24, tzinfo=UTC)]),
    st.integers(0, 200),
    st.integers(1, 60),
)
def test_every_half_hour_lies_in_the_first_band_that_a_clock_on_the_wall_says(
    bands: list[Band], week: datetime, first: int, length: int
) -> None:
    """Over both changes of the clock of Berlin, in whose hour no band begins or ends."""
    half = timedelta(minutes=30)
    start, end = week + first * half, week + (first + length) * half
    expected = []
    for number in range(length):
        at = start + number * half
        local = at.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
        names = [band[0] for band in bands if holds(band, local)]
        expected.append((at, names[0] if names else "other"))
    starts = [(name, next(run)[0]) for name, run in groupby(expected, lambda one: one[1])]
    found = bands_between(bands, "Europe/Berlin", start, end)
    assert [(name, since) for name, since, _ in found] == starts
    assert [until for _, _, until in found] == [*(since for _, since, _ in found[1:]), end]
