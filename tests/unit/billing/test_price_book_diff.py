"""Versions of price books: told apart field by field, written so that they read back the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.price_book import BookVersion, content_hash, to_content
from billing.price_book_diff import Change, difference
from billing.yaml_text import read_yaml, write_yaml
from tests.unit.billing.test_declaration import NO_AMOUNT
from tests.unit.billing.world import faults_of

CALLS = {
    "key": "calls",
    "model": "graduated",
    "meter": "calls",
    "tiers": [{"up_to": "10", "unit_price": "2"}, {"up_to": None, "unit_price": "1"}],
}
ACCESS = {"key": "access", "model": "flat", "amount": {"EUR": "9.90", "JPY": "1200"}}


def version(*charges: dict[str, Any], **fields: Any) -> BookVersion:
    return BookVersion.model_validate(
        {"version": 1, "currency": "EUR", "charges": list(charges), **fields}
    )


def test_a_diff_names_charges_that_came_and_went_and_each_field_that_changed() -> None:
    tiers = [{"up_to": "10", "unit_price": "2"}, {"up_to": "20", "unit_price": "1.5"}]
    after = version(
        {**CALLS, "tiers": [*tiers, {"up_to": None, "unit_price": "1"}]},
        {**ACCESS, "amount": {"EUR": "9.90", "JPY": "1300"}, "tax_code": "S1"},
        {"key": "setup", "model": "one_time", "amount": "5"},
        effective_from="2013-07-01",
    )
    gone = {"key": "seats", "model": "per_seat", "quantity_from": "item", "unit_price": "1"}
    found = difference(version(CALLS, ACCESS, gone), after)
    assert (found.added, found.removed) == (("setup",), ("seats",))
    assert found.changed == (
        Change("", "effective_from", None, "2013-07-01"),
        Change("calls", "tiers[1].up_to", "null", "20"),
        Change("calls", "tiers[1].unit_price", "1", "1.5"),
        Change("calls", "tiers[2].up_to", None, "null"),
        Change("calls", "tiers[2].unit_price", None, "1"),
        Change("access", "amount.JPY", "1200", "1300"),
        Change("access", "tax_code", None, "S1"),
    )


def test_the_order_of_charges_is_a_difference() -> None:
    assert difference(version(CALLS, ACCESS), version(ACCESS, CALLS)).changed == (
        Change("", "order of charges", "calls, access", "access, calls"),
    )


PRICES = st.sampled_from(["1", "1.0", "2"])
TIERS = st.lists(PRICES, min_size=1, max_size=3).map(
    lambda prices: [
        {"up_to": str(n + 1) if n + 1 < len(prices) else None, "unit_price": price}
        for n, price in enumerate(prices)
    ]
)
CHARGES = st.one_of(
    st.builds(lambda tiers: {**CALLS, "tiers": tiers}, TIERS),
    st.builds(lambda price: {**ACCESS, "amount": price}, PRICES),
    st.builds(
        lambda price, when: {
            "key": "matrix", "model": "matrix", "meter": "calls", "dimensions": ["to"],
            "default": price, "prices": [{"when": {"to": when}, "unit_price": price}],
        },
        PRICES, st.sampled_from(["eu", "NO", "1e3", "null", "~", "'"]),
    ),
    st.builds(
        lambda rollover: {
            "key": "free", "model": "per_unit", "meter": "calls", "unit_price": "1",
            "included": "5", **({"rollover": rollover} if rollover else {}),
        },
        st.sampled_from([None, True, {"periods": 1}, {"up_to": "3"}]),
    ),
)  # fmt: skip
VERSIONS = st.builds(
    version,
    st.just({"key": "base", "model": "flat", "amount": "1"}),
    CHARGES,
) | st.lists(CHARGES, min_size=1, max_size=4, unique_by=lambda one: one["key"]).map(
    lambda charges: version(*charges)
)  # fmt: skip


def hash_of(one: BookVersion) -> bytes:
    return content_hash(to_content(one))


@given(VERSIONS, VERSIONS)
def test_versions_differ_where_their_hashes_do_and_nowhere_else(
    before: BookVersion, after: BookVersion
) -> None:
    assert difference(before, after).is_none == (hash_of(before) == hash_of(after))


@given(VERSIONS)
def test_what_is_exported_reads_back_to_the_same_hash(one: BookVersion) -> None:
    tree = read_yaml(write_yaml(to_content(one)), "exported.yaml")
    assert tree.faults == []
    assert hash_of(BookVersion.model_validate(tree.value)) == hash_of(one)


PLAIN = st.recursive(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abz019.-~_", min_size=1), inner),
    max_leaves=8,
)


@given(PLAIN)
def test_any_plain_value_reads_back_as_it_was_written(value: Any) -> None:
    tree = read_yaml(write_yaml(value), "written.yaml")
    assert (tree.faults, tree.value) == ([], value)


def test_a_fault_deep_in_a_charge_names_line_charge_and_field() -> None:
    text = """price_books:
- key: book
  versions:
  - version: 1
    currency: EUR
    charges:
    - key: calls
      model: graduated
      meter: calls
      tiers:
      - {up_to: "10", unit_price: "2"}
      - up_to: null
        unit_price: cheap
    - {key: access, model: flat, amount: {EUR: "1", XXY: "2"}}
    - {model: flat, amount: "1"}
"""
    assert faults_of(text) == [
        f"1.yaml:13: charge calls: tiers[1].unit_price: {NO_AMOUNT}: cheap",
        "1.yaml:14: charge access: amount: not a currency: XXY",
        "1.yaml:15: version 1: charges[2].key is missing",
    ]
