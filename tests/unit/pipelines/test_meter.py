"""What a definition may say, and where a fault is found."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.meter import MeterDefinition

SUM = {"key": "units", "event_type": "call", "aggregation": "sum", "value": "$.v"}


def fault(**fields: Any) -> Any:
    with pytest.raises(ValidationError) as caught:
        MeterDefinition.model_validate(SUM | fields)
    (found,) = caught.value.errors()
    return found


@pytest.mark.parametrize(
    ("path", "column"),
    [("$.a[", 4), ("$.a.b-c", 6), ("$", 2), ("$a", 2), ("$..a", 2), ("$.a.", 4), ("$.a\n", 4)],
)
def test_a_path_that_is_none_says_where(path: str, column: int) -> None:
    found = fault(value=path)
    assert (found["loc"][0], found["msg"]) == ("value", "not a JSON path like $.a.b")
    assert found["ctx"]["column"] == column


def test_a_path_is_short_and_no_filter() -> None:
    assert fault(value="$." + "a" * 255)["ctx"]["column"] == 257
    assert "a filter is an expression" in fault(filter="$.a")["msg"]
    path = "$.a_1.B"
    assert MeterDefinition.model_validate(SUM | {"value": path}).value == path


@pytest.mark.parametrize("name", ["subject", "customer"])
def test_a_dimension_is_not_named_as_what_every_event_has(name: str) -> None:
    assert f"{name} means" in fault(dimensions={name: "$.s"})["msg"]
