"""What each aggregation answers, at its edges."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.aggregation import answer
from pipelines.fold import ActiveMeter, fold_all
from pipelines.meter import MeterDefinition
from tests.unit.pipelines.test_fold import events


def answered(*numbers: str, **fields: Any) -> Decimal | None:
    definition = MeterDefinition.model_validate(
        {"key": "m", "event_type": "call", "value": "$.v"} | fields
    )
    table = events(*(b'{"v":%s}' % number.encode() for number in numbers))
    (fold,) = fold_all(table, [ActiveMeter(1, "t", 1, definition)])
    return answer(definition, [(key[2], worth) for key, worth in fold.worth_by_key().items()])


@pytest.mark.parametrize(
    ("numbers", "mean"),
    [
        (["1", "2"], "1.5"),
        (["1", "1", "2"], "1.333333333333"),
        (["2", "2", "1"], "1.666666666667"),
        (["-2", "-2", "-1"], "-1.666666666667"),
        (["0.000000000001", "0"], "0.000000000001"),
        (["-0.000000000001", "0"], "-0.000000000001"),
        (["999999999999999999", "999999999999999999"], "999999999999999999"),
    ],
)
def test_a_mean_has_12_decimals_rounded_half_away_from_zero(numbers: list[str], mean: str) -> None:
    assert answered(*numbers, aggregation="avg") == Decimal(mean)


@pytest.mark.parametrize(
    ("percentile", "value"),
    [("50", "2"), ("75", "3"), ("75.001", "10"), ("100", "10"), ("0.001", "1"), ("25", "1")],
)
def test_a_percentile_is_the_least_value_that_so_many_events_reach(
    percentile: str, value: str
) -> None:
    found = answered("10", "1", "3.0", "2", aggregation="percentile", percentile=percentile)
    assert found == Decimal(value)


def test_one_number_in_several_spellings_is_one_value_of_a_percentile() -> None:
    definition = MeterDefinition.model_validate(
        {"key": "m", "event_type": "call", "value": "$.v", "aggregation": "percentile"}
        | {"percentile": "50"}
    )
    table = events(b'{"v":1}', b'{"v":1.0}', b'{"v":"1.00"}', b'{"v":1e0}', b'{"v":100}')
    (fold,) = fold_all(table, [ActiveMeter(1, "t", 1, definition)])
    worths = {key[2]: worth[0] for key, worth in fold.worth_by_key().items()}
    assert worths == {"1": 4, "100": 1}


def test_least_and_greatest_keep_their_sign() -> None:
    assert answered("-5", "3", aggregation="min") == -5
    assert answered("-5", "-7", aggregation="max") == -5


def test_latest_is_the_last_in_time_and_of_one_instant_the_greater_identity() -> None:
    assert answered("1", "9", "4", aggregation="latest") == 4
    late = ("1772366400000001:00", (1, Decimal(2)))
    early = ("1772366400000000:ff", (1, Decimal(3)))
    definition = MeterDefinition(key="m", event_type="call", aggregation="latest", value="$.v")
    assert answer(definition, [late, early]) == 2
    assert answer(definition, [late, early, (late[0], (-1, Decimal(-2)))]) == 3


def test_a_value_taken_back_is_the_greatest_no_longer() -> None:
    definition = MeterDefinition(key="m", event_type="call", aggregation="max", value="$.v")
    assert answer(definition, [("5", (1, Decimal(0))), ("9", (0, Decimal(0)))]) == 5


def test_nothing_counted_is_no_answer_and_not_zero() -> None:
    definition = MeterDefinition(key="m", event_type="call", aggregation="min", value="$.v")
    assert answer(definition, []) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"aggregation": "percentile"},
        {"aggregation": "percentile", "percentile": "0"},
        {"aggregation": "percentile", "percentile": "100.1"},
        {"aggregation": "sum", "percentile": "50"},
    ],
)
def test_a_percentile_says_which_and_nothing_else_does(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="percentile"):
        MeterDefinition.model_validate({"key": "m", "event_type": "c", "value": "$.v"} | fields)
