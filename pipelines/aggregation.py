"""The aggregations: what is kept per window, how it merges, and what it answers.

| aggregation | kept per window | merge | answer | undo of one event |
|---|---|---|---|---|
| count | count | add | count | subtract |
| sum | sum | add | sum | subtract |
| avg | sum, count | add | sum / count, 12 decimals, half away from zero | subtract |
| min, max | least, greatest | least, greatest | the same | recount the window |
| unique_count | a count per item | add per item | items with a count above 0 | subtract |
| percentile | a count per value | add per value | nearest rank: the least value with p % of the
  events at or below it | subtract |
"""

from collections.abc import Callable, Iterable
from decimal import Decimal

from pipelines.fold import EXACT, Worth
from pipelines.meter import VALUE_SCALE, MeterDefinition


def answer(definition: MeterDefinition, worths: Iterable[tuple[str, Worth]]) -> Decimal | None:
    """Return what (item, worth) pairs of one owner add up to; None where no event counts."""
    live = [(item, worth) for item, worth in worths if worth[0]]
    if not live:
        return None
    if definition.aggregation == "percentile":
        return _percentile(live, definition.percentile or Decimal(0))
    return _ANSWERS[definition.aggregation](live)


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
    "min": lambda live: min(worth[2] for _, worth in live),
    "max": lambda live: max(worth[3] for _, worth in live),
    "unique_count": lambda live: Decimal(len({item for item, _ in live})),
}
