"""Expressions of meters: faults with their place, and the same values as CEL's own library."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import cel
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipelines.cel_events import compile_slow
from pipelines.expression import Role, parse
from pipelines.expression_columns import OTHER, Events, Vector, evaluate
from pipelines.expression_text import ExpressionError
from pipelines.extract import extract

EVENT = {"id": "e1", "source": "shop", "type": "call", "subject": "s1"}


def by_column(text: str, *datas: bytes, role: Role = "text") -> Vector:
    expression = parse(text, role)
    assert expression.tree is not None, "not in the subset"
    events = Events(
        len(datas), extract(datas, dict(expression.kinds)), lambda name: [EVENT[name]] * len(datas)
    )
    return evaluate(expression.tree, events)


def one(text: str, data: Mapping[str, Any] | bytes) -> Any:
    """Return the value of one event, or the reason that there is none."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    vector = by_column(text, raw)
    return f"fault: {vector.faults[0]}" if vector.faults else vector.values[0]


@pytest.mark.parametrize(
    ("text", "role", "line", "column", "reason"),
    [
        ("data.a +", "value", 1, 9, "it ends where something is missing"),
        ("1 + ) 2", "value", 1, 5, ") is not expected here"),
        ("data.x == 'abc", "filter", 1, 11, "a text begins here and does not end"),
        ("data.x # 3", "value", 1, 8, "# is no part of CEL"),
        ("true &&\n  dat.x", "filter", 2, 3, "there is no variable dat: there are data and event"),
        ("data.x + true", "value", 1, 10, "+ takes numbers or texts, not true or false"),
        ("data.x > 'a' && 'b' < 3", "filter", 1, 23, "< takes two of a kind"),
        ("data.n == null", "filter", 1, 11, "a member that is null counts as missing"),
        ("size(data.l) > 1.5", "filter", 1, 16, "1.5 would be a double here"),
        ("double(data.x)", "value", 1, 1, "a double is not exact"),
        ("now() > 3", "filter", 1, 1, "there is no function now: there are all, contains"),
        ("data.x > 1", "value", 1, 1, "a value is a number, and this is true or false"),
        ("data.x + 1", "filter", 1, 1, "a filter is true or false, and this is a number"),
        (" ", "value", 1, 1, "the expression is empty"),
        ("(" * 40 + "1", "value", 1, 25, "nested more than 24 deep"),
        ("1" + "+1" * 200, "value", 1, 202, "more than 100 operators"),
        ("x" * 3000, "value", 1, 2001, "longer than 2000 characters"),
        (
            "[1].all(a, [1].all(b, [1].all(c, data.x > c)))", "filter", 1, 27, "more than 2 loops",
        ),
        (
            "data.a.matches( '[' )", "filter", 1, 17,
            "not a regular expression: unclosed character class",
        ),
        ('true || \ndata.a.matches(r"(\\d")', "filter", 2, 16, "not a regular expression"),
    ],
)  # fmt: skip
def test_a_fault_names_its_line_column_and_reason(
    text: str, role: Role, line: int, column: int, reason: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, role)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.reason.startswith(reason)


def test_the_caret_stands_below_the_fault() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("data.a > 1 &&\n\tdata.b + + 2 > 3", "filter")
    assert caught.value.caret == "\tdata.b + + 2 > 3\n\t         ^"


def test_decimals_are_exact_in_the_subset() -> None:
    data = b'{"a":0.1,"b":0.2,"big":123456789012345678,"tiny":0.000000000001}'
    assert one("data.a + data.b == 0.3", data) is True
    assert one("data.big + data.tiny", data) == Decimal("123456789012345678.000000000001")
    assert one("data.a * 3 - 0.3", data) == 0
    assert one("data.big * data.big * data.big * data.big", data) == 123456789012345678**4


def test_a_number_out_of_scale_is_a_fault_and_never_rounded() -> None:
    for number, reason in (
        ("1e18", "more than 18 digits before the point"),
        ("0.1234567890123", "more than 12 decimals"),
        ("1e-999999", "more than 12 decimals"),
        ("0." + "3" * 300, "too many digits"),
        ("1e99999999999999999999", "too many digits"),
    ):
        found = one("data.a > 1", b'{"a":' + number.encode() + b"}")
        assert found == f"fault: data.a has {reason}", number


def test_one_side_decides_whatever_the_other_is() -> None:
    assert one("data.gone == 1 || data.a == 1", {"a": 1}) is True
    assert one("data.gone == 1 && data.a == 2", {"a": 1}) is False
    assert one("data.gone == 1 && data.a == 1", {"a": 1}) == "fault: data.gone is missing"


def test_a_row_has_the_value_that_it_would_have_alone() -> None:
    texts = [
        b'{"a":1,"b":2}', b'{"a":"x","b":"x"}', b'{"a":1.5,"b":2}', b"{}", b'{"a":[1],"b":{}}',
        b'{"a":true,"b":false}', b'{"a":12345678901234567890,"b":1}', b"[1]", b"", b'{"a":null}',
    ]  # fmt: skip
    for text in ("data.a + data.b", "data.a == data.b", "data.a < data.b", "data.a in [1, 'x']",
                 "data.a ? data.b : 3", "has(data.a) && data.a == 1", "-data.a * 2"):  # fmt: skip
        together = by_column(text, *texts)
        for row, raw in enumerate(texts):
            alone = by_column(text, raw)
            assert alone.faults.get(0) == together.faults.get(row), (text, raw)
            if not alone.faults:
                assert alone.values[0] == together.values[row], (text, raw)


def test_beyond_the_subset_numbers_are_whole_or_the_event_is_rejected() -> None:
    slow = compile_slow("data.l.map(i, i.n * 2)[0] + data.n")
    events = [{**EVENT, "time": None}] * 5
    values, reasons = slow.values(
        [
            b'{"l":[{"n":2}],"n":1}',
            b'{"l":[{"n":2}],"n":1.0,"unread":0.5}',
            b'{"l":[{"n":2.5}],"n":1}',
            b'{"l":[{"n":2}],"n":9223372036854775808}',
            b'{"l":[{"n":5000000000000000000}],"n":1}',
        ],
        events,
    )
    assert values[:2] == [5, 5]
    assert reasons[2].startswith("data.l.n has 2.5, and this expression takes whole numbers")
    assert reasons[3].startswith("data.n has 9223372036854775808")
    assert "verflow" in reasons[4]


def test_a_pattern_that_is_one_is_taken_wherever_it_comes_from() -> None:
    for text in ("data.a.matches('^x+$')", r"data.a.matches(r'\w')", "data.a.matches(data.p)"):
        assert parse(text, "filter").is_slow
        found = compile_slow(text).values([b'{"a":"x","p":"x"}'], [{**EVENT, "time": None}])
        assert found == ([True], {}), text


def test_a_function_of_what_it_does_not_take_says_so_in_our_words() -> None:
    values, reasons = compile_slow("data.a.startsWith('b')").values(
        [b'{"a":5}', b'{"a":"b"}'], [{**EVENT, "time": None}] * 2
    )
    assert (values, reasons) == (
        [None, True],
        {0: "startsWith does not take what it is asked of"},
    )


def test_a_division_by_zero_is_this_events_alone() -> None:
    slow = compile_slow("data.a / data.b")
    texts = [b'{"a":7,"b":2}', b'{"a":7,"b":0}', b'{"a":7}', b"[]", b'{"a":"x","b":1}']
    values, reasons = slow.values(texts, [{**EVENT, "time": None}] * 5)
    assert values[0] == 3
    assert "division by zero" in reasons[1]
    assert reasons[2] == "the member b is missing"
    assert reasons[3] == "the event's data is not an object"
    assert sorted(reasons) == [1, 2, 3, 4]


# The library on the same texts and data is the oracle. It knows whole numbers of 64 bits and no
# decimals, so numbers are kept small; negating a truth is its defect, and null our own rule.

NAMES = st.sampled_from(["a", "b", "c.d"])
CONSTANTS = st.one_of(
    st.integers(0, 9).map(str),
    st.sampled_from(["true", "false", "''", "'x'", '"é\\n\\u00e9"', "'a\\\\b'"]),
)


def nested(children: Callable[[], st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    pair = st.tuples(children(), children())
    signs = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "&&", "||"])
    return st.one_of(
        st.builds(lambda p, sign: f"({p[0]} {sign} {p[1]})", pair, signs),
        st.builds(lambda p, c: f"({c} ? {p[0]} : {p[1]})", pair, children()),
        children().map(lambda one: f"!({one})"),
        st.builds(
            lambda one, options: f"({one} in [{', '.join(options)}])",
            children(),
            st.lists(CONSTANTS, max_size=3),
        ),
    )


LEAVES = st.one_of(
    CONSTANTS,
    NAMES.map("data.{}".format),
    NAMES.map("has(data.{})".format),
    st.sampled_from(["event.source", "event.id"]),
)
EXPRESSIONS = st.recursive(LEAVES, lambda inner: nested(lambda: inner), max_leaves=6)
SCALARS = st.one_of(
    st.integers(-9, 9), st.booleans(), st.sampled_from(["", "x", "é\né", "a\\b"]), st.just([1])
)
DATAS = st.fixed_dictionaries(
    {},
    optional={
        "a": SCALARS,
        "b": SCALARS,
        "c": st.one_of(SCALARS, st.fixed_dictionaries({}, optional={"d": SCALARS})),
    },
)

OWN_LIMITS = ("lists and objects cannot be compared", "+ does not take a list or object")


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(text=EXPRESSIONS, datas=st.lists(DATAS, min_size=1, max_size=4))
def test_the_subset_gives_what_the_library_gives(text: str, datas: list[dict[str, Any]]) -> None:
    try:
        ours = by_column(text, *(json.dumps(data).encode() for data in datas))
    except ExpressionError:
        assume(False)  # kinds that cannot go together are refused when a meter is saved
    program = cel.compile(text)
    for row, data in enumerate(datas):
        try:
            theirs = program.execute({"data": data, "event": EVENT})
        except (TypeError, KeyError, RuntimeError, ValueError):
            assert row in ours.faults, (text, data, ours.values[row])
            continue
        # Where ours refuses a list, another fault of the same event may be the one it names.
        is_of_a_list = row in ours.faults and "[1]" in json.dumps(data)
        if is_of_a_list or ours.faults.get(row, "").startswith(OWN_LIMITS):
            continue
        assert row not in ours.faults, (text, data, ours.faults[row], theirs)
        value = [1] if ours.values[row] is OTHER else ours.values[row]
        assert (type(value), value) == (type(theirs), theirs), (text, data)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_a_fault_with_a_place(text: str) -> None:
    found: Any = None
    try:
        parse(text, "text")
    except ExpressionError as error:
        found = error
    assert found is None or min(found.line, found.column) >= 1


@given(st.lists(st.decimals(-(10**5), 10**5, places=6), min_size=2, max_size=5))
def test_arithmetic_of_decimals_equals_that_of_python(numbers: list[Decimal]) -> None:
    texts = [b'{"a":%s,"b":"x"}' % str(number).encode() for number in numbers]
    found = by_column("data.a * 1.000001 - 0.25 + data.a", *texts)
    expected = [n * Decimal("1.000001") - Decimal("0.25") + n for n in numbers]
    assert not found.faults
    assert list(found.values) == expected
    assert pa.array([Decimal(value) for value in found.values], pa.decimal128(38, 12)) is not None
