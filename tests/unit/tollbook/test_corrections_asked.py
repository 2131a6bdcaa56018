"""How people write which corrections they mean."""

import pytest

from tollbook.corrections_asked import interval_us
from tollbook.usage_question import BadParameterError

MARCH_US = 1_772_323_200_000_000


def test_an_interval_of_event_times_is_between_instants_or_dates_in_utc() -> None:
    assert interval_us(None, None) is None
    assert interval_us("2026-03-01", "2026-03-02") == (MARCH_US, MARCH_US + 86_400_000_000)
    assert interval_us("2026-03-01T01:00:00+01:00", None) == (MARCH_US, 1 << 62)
    assert interval_us(None, "1950-01-01") == (0, 0)


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "2026-03-01T00:00:00"])
def test_what_is_neither_is_told_by_the_name_of_its_bound(text: str) -> None:
    with pytest.raises(BadParameterError, match=r"^to: "):
        interval_us(None, text)
