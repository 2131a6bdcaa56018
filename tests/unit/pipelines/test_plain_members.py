"""Members of plain objects are read as the exact way reads them, and all else is left to it."""

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import values
from pipelines.extract import extract
from pipelines.plain_members import plain_members

PATHS = ("$.a", "$.tokens")
PLAIN = b'{"a":"x","tokens":12.50,"b":true,"c":null,"d":-7,"e":false,"f":"12"}'

names = st.sampled_from(["a", "tokens", "token", "b", "", "tokenz"])
characters = st.text(st.characters(min_codepoint=32, max_codepoint=127, exclude_characters='"\\'))
whole = st.integers(-(10**18) + 1, 10**18 - 1).map(str)
decimals = st.tuples(whole, st.text("0123456789", min_size=1, max_size=12)).map(".".join)
plain_value = st.one_of(
    characters.map(lambda text: f'"{text}"'), whole, decimals, st.sampled_from(["true", "null"])
)
odd_value = st.sampled_from(
    [
        "1e3", "01", "-", "1.", ".5", "-0", "+1", "1" * 19, "0." + "1" * 13, '"\\u0041"', '"\\n"',
        '"\N{LATIN SMALL LETTER E WITH ACUTE}"', "[1]", "{}", '{"a":1}', "tru", "", '""', '"1e3"',
        '"007"', '"-"', '"+1"', '" 1"', "nullx", '"open', "1 ", "\x00",
    ]
)  # fmt: skip


def object_of(members: list[tuple[str, str]]) -> bytes:
    return b"{%b}" % ",".join(f'"{name}":{value}' for name, value in members).encode()


objects = st.lists(st.tuples(names, st.one_of(plain_value, odd_value)), max_size=5).map(object_of)
plain_objects = st.lists(
    st.tuples(names, plain_value), max_size=6, unique_by=lambda each: each[0]
).map(object_of)


def column(texts: list[bytes], skipped: int = 0) -> Any:
    return pa.array(texts, pa.binary())[skipped:]


def spelled(codes: values.Codes) -> list[str]:
    return [codes.values[code] for code in codes.codes]


def agree(texts: list[bytes]) -> bool:
    """Hold what was read against the exact way; return whether anything was."""
    found = plain_members(column(texts), PATHS)
    for path, member in found.items():
        exact = extract(texts, {path: "raw"})[path]
        assert spelled(member.texts()) == spelled(values.texts(exact))
        numbers = member.numbers()
        if numbers is not None:
            wanted, reasons = values.numbers(exact)
            assert (numbers[0].to_pylist(), numbers[1]) == (wanted.to_pylist(), reasons)
    return bool(found)


@settings(deadline=None)
@given(st.lists(st.one_of(objects, st.binary()), max_size=3))
def test_what_is_read_is_what_the_exact_way_reads(texts: list[bytes]) -> None:
    agree(texts)


@settings(deadline=None)
@given(st.lists(st.one_of(plain_objects, st.just(b"")), max_size=5), st.integers(0, 2))
def test_plain_objects_are_read_as_any_reader_of_json_would(
    texts: list[bytes], skipped: int
) -> None:
    found = plain_members(column(texts, skipped), PATHS)
    whole_texts = [
        json.loads(text or b"{}", parse_int=Decimal, parse_float=Decimal, strict=False)
        for text in texts[skipped:]
    ]
    for path in PATHS:
        held = [members.get(path[2:]) for members in whole_texts]
        numbers = found[path].numbers()
        if all(isinstance(value, Decimal | None) for value in held):
            assert numbers is not None
            assert numbers[0].to_pylist() == [value or 0 for value in held]
            assert sorted(numbers[1]) == [row for row, value in enumerate(held) if value is None]
        read = spelled(found[path].texts())
        for text, value in zip(read, held, strict=True):
            if isinstance(value, Decimal):
                assert Decimal(text) == value
            else:
                assert text == {None: "", True: "true"}.get(value, value)


@pytest.mark.parametrize("end", range(1, len(PLAIN)))
def test_an_object_that_was_cut_off_is_not_plain(end: int) -> None:
    assert not plain_members(column([PLAIN[:end]]), PATHS)
    assert not plain_members(column([PLAIN, PLAIN[:end], PLAIN]), PATHS)
    assert not plain_members(column([PLAIN[end:]]), PATHS)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a" :1}', b'{ "a":1}', b'{"a":1}\n', b'{"a":1,"a":2}', b'{"a":null,"a":2}', b'{"a":1,}',
        b'{,"a":1}', b'{"a":1]', b'["a":1}', b'{"a":1e3}', b'{"a":01}', b'{"a":"\\u0041"}',
        b'{"\\u0061":1}', b'{"a":"\xc3\xa9"}', b'{"a":[]}', b'{"a":{}}', b'{"a":+1}', b'{"a":1}}',
        b'{"a":nulll}', b'{"a":"x}', b'{"a}', b'{"}', b'{"a"}', b'{"a":}', b'{"a":,"b":1}', b"1",
        b"null", b"{", b"}", b'{"a":-}', b'{"a":1.}', b'{"a":\t1}', b'{"a":"\t"}',
    ],
)  # fmt: skip
def test_all_else_is_left_to_the_exact_way(text: bytes) -> None:
    assert not agree([text])
    assert not agree([PLAIN, text])


def test_paths_further_down_are_left_to_the_exact_way() -> None:
    assert not plain_members(column([PLAIN]), ("$.a", "$.a.b"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"-0", "0"), (b"0.000000000001", "0.000000000001"), (b'"12.5"', "12.5"),
        (b"-999999999999999999.999999999999", "-999999999999999999.999999999999"),
        (b"4294967296", "4294967296"), (b"-4294967295.5", "-4294967295.5"),
    ],
)  # fmt: skip
def test_numbers_are_exact_to_their_bounds(text: bytes, wanted: str) -> None:
    found = plain_members(column([b'{"a":%b}' % text]), ["$.a"])["$.a"].numbers()
    assert found is not None
    assert found[0].to_pylist() == [Decimal(wanted)]
