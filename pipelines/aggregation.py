"""The aggregations: what is kept per window, and what it answers.

What is kept is linear: it merges by adding, and an event is taken back by subtracting it.

| aggregation | kept per window | answer |
|---|---|---|
| count | count | count |
| sum | sum | sum |
| avg | sum, count | sum / count, 12 decimals, half away from zero |
| min, max | a count per value | the least, the greatest value |
| unique_count | a count per item | how many items |
| percentile | a count per value | nearest rank: the least value that p % of the events reach |
| latest | (time, identity) and value per event | the value of the greatest |
| weighted_sum | (time, identity) and value per event | each value times the time to the next |
"""

from collections.abc import Callable, Iterable
from decimal import Decimal

from pipelines.fold import Worth, combine
from pipelines.meter import VALUE_SCALE, MeterDefinition
from pipelines.values import EXACT

_MICROSECONDS = {"second": 10**6, "hour": 3600 * 10**6}


def answer(definition: MeterDefinition, worths: Iterable[tuple[str, Worth]]) -> Decimal | None:
    """Return what (item, worth) pairs of one owner add up to; None where no event counts."""
    live = _live(worths)
    if not live:
        return None
    if definition.aggregation == "percentile":
        return _percentile(live, definition.percentile or Decimal(0))
    return _ANSWERS[definition.aggregation](live)


def value_of(definition: MeterDefinition, worth: Worth) -> Decimal:
    """Return the value of what ClickHouse has reduced the items of one answer to.

    That is the sum for sum, and (count, sum) for avg; for min, max and percentile the value that
    answers stands in the place of the sum, for unique_count the number of live items in the
    place of the count; for latest it is the last sample; for weighted_sum the sum is of values
    times microseconds.
    """
    if definition.aggregation in ("count", "unique_count"):
        return Decimal(worth[0])
    if definition.aggregation in ("avg", "latest"):
        return _mean([("", worth)])
    if definition.per is not None:
        return _mean([("", (_MICROSECONDS[definition.per], worth[1]))])
    return worth[1]


def _live(worths: Iterable[tuple[str, Worth]]) -> list[tuple[str, Worth]]:
    """Add up per item, and leave out what was taken back."""
    by_item: dict[str, Worth] = {}
    for item, worth in worths:
        by_item[item] = combine(by_item[item], worth) if item in by_item else worth
    return [(item, worth) for item, worth in by_item.items() if worth[0] > 0]


def sample_value(worth: Worth) -> Decimal:
    """Return the value of a sample; copies that no audit has found yet are one sample."""
    return _mean([("", worth)])


def _count(live: list[tuple[str, Worth]]) -> int:
    return sum(worth[0] for _, worth in live)


def _total(live: list[tuple[str, Worth]]) -> Decimal:
    total = Decimal(0)
    for _, worth in live:
        total = EXACT.add(total, worth[1])
    return total


def _mean(live: list[tuple[str, Worth]]) -> Decimal:
    """Divide as whole numbers of the smallest unit, so that rounding happens once."""
    units = int(EXACT.multiply(_total(live), Decimal(10) ** VALUE_SCALE))
    count = _count(live)
    whole, rest = divmod(abs(units), count)
    rounded = whole + (2 * rest >= count)
    return EXACT.scaleb(Decimal(rounded if units >= 0 else -rounded), -VALUE_SCALE)


def _percentile(live: list[tuple[str, Worth]], percentile: Decimal) -> Decimal:
    count_by_value: dict[Decimal, int] = {}
    for item, worth in live:
        value = Decimal(item)
        count_by_value[value] = count_by_value.get(value, 0) + worth[0]
    rank = percentile * sum(count_by_value.values())
    reached = 0
    for value in sorted(count_by_value):
        reached += count_by_value[value]
        if reached * 100 >= rank:
            return value
    raise AssertionError("a percentile is at most 100")


_ANSWERS: dict[str, Callable[[list[tuple[str, Worth]]], Decimal]] = {
    "count": lambda live: Decimal(_count(live)),
    "sum": _total,
    "avg": _mean,
    "min": lambda live: min(Decimal(item) for item, _ in live),
    "max": lambda live: max(Decimal(item) for item, _ in live),
    "unique_count": lambda live: Decimal(len({item for item, _ in live})),
    "latest": lambda live: sample_value(max(live)[1]),
}
