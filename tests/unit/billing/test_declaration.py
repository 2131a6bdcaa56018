from datetime import UTC, date, datetime

import pytest

from billing.catalog import Known
from billing.facts import Assignment
from billing.meter_change import KnownMeter
from billing.yaml_text import read_yaml
from tests.unit.billing.world import METERS, declare, facts_of, faults_of

NO_AMOUNT = 'not an amount like "12.50" (18 digits, 12 decimals)'
BOOK = """
price_books:
- key: book
  versions:
  - version: 1
    effective_from: 2013-01-01
    currency: USD
    charges:
    - {key: base, model: flat, amount: "2500.00", every: 1 month, timing: advance,
       revenue: ratable, product: access, tax_code: services}
    - {key: dep, model: graduated, meter: departures, group_by: [origin],
       tiers: [{up_to: "1000", unit_price: "12.00"}, {up_to: null, unit_price: "9.50",
       flat_fee: "0"}]}
    - {key: seats, model: per_unit, meter: seats, unit_price: "0.02"}
"""
CUSTOMERS = """
customers:
- {key: UA, name: United Air Lines, legal_entity: main, currency: USD,
   time_zone: America/New_York, payment_terms_days: 30,
   subjects: ["UA:N1", {key: "UA:N2", from: 2013-03-10}]}
- {key: DL, name: Delta, currency: USD}
subscriptions:
- {key: UA-2013, customer: UA, start: 2013-01-01, anchor: calendar,
   items: [{key: main, price_book: book, version: follow, quantities: {}, overrides: []}]}
"""


def test_the_documented_shapes_are_read() -> None:
    assert faults_of(METERS, BOOK, CUSTOMERS) == []
    facts = facts_of(METERS, BOOK, CUSTOMERS)
    assert facts.assignments["UA"] == [
        Assignment("UA:N1", "UA"),
        Assignment("UA:N2", "UA", None, datetime(2013, 3, 10, 5, tzinfo=UTC)),
    ]
    assert facts.subscriptions["UA-2013"].start == date(2013, 1, 1)


def test_plain_text_stays_text() -> None:
    tree = read_yaml("a: no\nb: 012\nc: 2013-01-01\nd: 0x1F\ne: on\nf: ~\ng: 1_000\nh: 12:30:45",
                     "f")  # fmt: skip
    assert tree.faults == []
    assert tree.value == {
        "a": "no",
        "b": "012",
        "c": "2013-01-01",
        "d": "0x1F",
        "e": "on",
        "f": None,
        "g": "1_000",
        "h": "12:30:45",
    }


@pytest.mark.parametrize("number", ["12.50", "1e5", ".5", "-0.1", ".inf", ".nan", "1.0e+3"])
def test_floats_are_refused_with_their_place(number: str) -> None:
    [fault] = read_yaml(f"a: 1\nb:\n- {number}\n", "prices.yaml").faults
    assert str(fault) == f'prices.yaml:3: {number} would be a float: write it as text, "{number}"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "f:1: not YAML"),
        ("a: 1\na: 2", "f:2: a is given twice"),
        ("? [x]\n: 1", "f:1: a key must be plain text"),
        ("a: !!python/object:os.system x", "is not supported"),
        ("a: \x00", "not YAML"),
        ("[" * 70 + "]" * 70, "too deep"),
        ("a: &x [*x]", "too deep"),
        ("--- 1\n--- 2", "not YAML"),
    ],
)
def test_what_is_not_a_plain_document_is_a_fault(text: str, message: str) -> None:
    faults = [str(fault) for fault in read_yaml(text, "f").faults]
    assert len(faults) == 1, faults
    assert message in faults[0]


def test_all_faults_of_all_files_are_named_at_once() -> None:
    book = """price_books:
- key: book
  colour: red
  versions:
  - {version: 1, currency: EURO, charges: [
    {key: a, model: volume, meter: gb, tiers: []},
    {key: b, model: flat, amount: abc},
    {key: c, model: per_unit, meter: seats, unit_price: "1", round_each: true},
    {key: d, model: package, meter: g, package_size: "1", package_price: "1", on_change: continue}]}
things: []
"""
    customers = """customers:
- {key: UA, name: United, currency: USD, time_zone: Mars/Olympus}
subscriptions:
- {key: S, customer: UA, start: 2013-1-1, items: [{key: i, price_book: book}]}
- {key: T, customer: UA, start: 2013-01-01, anchor: start, items: [{key: i, price_book: book}]}
"""
    assert faults_of(book, customers) == [
        "1.yaml:3: unknown key colour",
        "1.yaml:5: version 1: currency: not a currency of ISO 4217: EURO",
        "1.yaml:6: charge a: model volume needs tiers",
        f"1.yaml:7: charge b: amount: {NO_AMOUNT}: abc",
        "1.yaml:8: charge c: model per_unit takes no round_each",
        "1.yaml:9: charge d: its price cannot change within a period",
        (
            "1.yaml:10: unknown key things; expected one of meters, price_books, customers,"
            " subscriptions, wallets"
        ),
        "2.yaml:2: time_zone: not a time zone like America/New_York: Mars/Olympus",
        "2.yaml:4: start: not a date like 2013-01-31: 2013-1-1",
        "2.yaml:5: anchor: not calendar, anniversary, a day from 1 to 31 or a date: start",
    ]


@pytest.mark.parametrize(
    ("charge", "message"),
    [
        ("{key: a, model: flat}", "charge a: model flat needs amount"),
        ("{key: a, model: flat, amount: '1', meter: seats}", "model flat takes no meter"),
        ("{key: a, model: per_unit, unit_price: '1'}", "model per_unit needs meter"),
        (
            "{key: a, model: per_unit, meter: seats, unit_price: '1', timing: advance}",
            "usage cannot be billed in advance",
        ),
        (
            "{key: a, model: flat, amount: '1', every: 2 fortnights}",
            "every 2 fortnights is not like 2 weeks",
        ),
        (
            "{key: a, model: graduated, meter: seats, tiers: [{up_to: '1', unit_price: '1'}]}",
            "the last tier, and only it, has up_to: null",
        ),
        (
            (
                "{key: a, model: graduated, meter: seats, tiers: [{up_to: '2', unit_price: '1'},"
                " {up_to: '2', unit_price: '1'}, {up_to: null}]}"
            ),
            "up_to must rise",
        ),
        ("{key: a, model: per_unit, meter: nope, unit_price: '1'}", "there is no meter nope"),
        (
            "{key: a, model: per_unit, meter: seats, unit_price: '1', group_by: [origin]}",
            "meter seats has no dimension origin",
        ),
        (
            "{key: a, model: per_unit, meter: aircraft, unit_price: '1', on_change: continue}",
            "on_change continue needs a meter whose parts add up",
        ),
        ("{key: a, model: flat, amount: {XXX: '1'}}", "not a currency: XXX"),
    ],
)
def test_a_charge_that_cannot_be_rated_is_refused_by_name(charge: str, message: str) -> None:
    book = (
        f"price_books: [{{key: b, versions: [{{version: 1, currency: USD, charges: [{charge}]}}]}}]"
    )
    [fault] = faults_of(METERS, book)
    assert message in fault


def test_a_published_version_does_not_change() -> None:
    known = Known(facts_of(METERS, BOOK), _meters())
    assert faults_of(BOOK, known=known) == []
    [fault] = faults_of(BOOK.replace("9.50", "9.40"), known=known)
    assert (
        "version 1 is published and does not change; declare the new prices as version 2" in fault
    )


def test_a_charge_keeps_what_makes_it_the_same_charge() -> None:
    known = Known(facts_of(METERS, BOOK), _meters())
    later = BOOK.replace("version: 1", "version: 2").replace("2013-01-01", "2013-07-01")
    assert faults_of(later, known=known) == []
    [fault] = faults_of(later.replace("group_by: [origin], ", "").replace(
        "group_by: [origin],", ""), known=known)  # fmt: skip
    assert "charge dep of version 2 changes its cadence, timing, meter, dimensions" in fault
    [fault] = faults_of(later.replace("2013-07-01", "2013-01-01"), known=known)
    assert "version 2 must take effect after version 1" in fault


def test_a_subject_has_one_owner_at_a_time() -> None:
    rival = CUSTOMERS.replace("{key: DL, name: Delta", '{key: DL, subjects: ["UA:N2"], name: Delta')
    [fault] = faults_of(METERS, BOOK, rival)
    assert "3.yaml:" in fault
    assert "subject UA:N2 of customer" in fault
    ends = rival.replace('["UA:N2"]', '[{key: "UA:N2", to: 2013-03-10}]')
    assert faults_of(METERS, BOOK, ends.replace("name: Delta", "name: Delta, "
                                                "time_zone: America/New_York")) == []  # fmt: skip


def test_a_subject_passes_from_one_customer_to_another_in_one_go() -> None:
    known = Known(facts_of(METERS, BOOK, CUSTOMERS), _meters())
    moved = """
customers:
- {key: DL, name: Delta, currency: USD, subjects: [{key: "UA:N1", from: 2013-05-01T00:00:00Z}]}
- {key: UA, name: United Air Lines, legal_entity: main, currency: USD,
   time_zone: America/New_York, subjects: [{key: "UA:N1", to: 2013-05-01T00:00:00Z}]}
"""
    assert faults_of(moved, known=known) == []
    [fault] = faults_of(moved.replace("to: 2013-05-01T", "to: 2013-05-02T"), known=known)
    assert "say until when with to:" in fault


def test_a_list_of_subjects_is_the_whole_of_it_and_no_list_changes_nothing() -> None:
    before = facts_of(METERS, BOOK, CUSTOMERS)
    head = "customers: [{key: UA, name: U, currency: USD, time_zone: America/New_York"
    assert facts_of(head + "}]", before=before).assignments == before.assignments
    less = facts_of(head + ', subjects: ["UA:N1"]}]', before=before).assignments
    assert less["UA"] == [Assignment("UA:N1", "UA")]
    assert facts_of(head + ", subjects: []}]", before=before).assignments["UA"] == []


def test_two_subscriptions_do_not_bill_the_same_usage() -> None:
    second = "\n- {key: UA-2, customer: UA, start: 2013-06-01, items: [{key: m, price_book: book}]}"
    faults = faults_of(METERS, BOOK, CUSTOMERS + second)
    assert len(faults) == 2
    assert (
        "subscriptions UA-2013 and UA-2 of customer UA would both bill meter departures"
        in (faults[0])
    )
    before = CUSTOMERS.replace("start: 2013-01-01,", "start: 2013-01-01, end: 2013-06-01,")
    assert faults_of(METERS, BOOK, before + second) == []
    named = CUSTOMERS.replace('"UA:N1"', '{key: "UA:N1", subscription: UA-2}').replace(
        "from: 2013-03-10", "from: 2013-03-10, subscription: UA-2013"
    )
    assert faults_of(METERS, BOOK, named + second) == []
    shared = BOOK.replace("meter: seats,", "meter: seats, shared: true,").replace(
        "meter: departures,", "meter: departures, shared: true,"
    )
    assert faults_of(METERS, shared, CUSTOMERS + second) == []


def test_a_subscription_needs_its_customer_its_book_and_prices_in_its_currency() -> None:
    wrong = CUSTOMERS.replace("customer: UA", "customer: AU").replace(
        "price_book: book, version: follow", "price_book: book, version: 3"
    )
    assert [fault.partition(": ")[2] for fault in faults_of(METERS, BOOK, wrong)] == [
        "subscription UA-2013: price book book has no version 3",
        "subscription UA-2013: there is no customer AU",
    ]
    euros = CUSTOMERS.replace("legal_entity: main, currency: USD", "currency: EUR")
    faults = faults_of(METERS, BOOK, euros)
    assert len(faults) == 3
    assert all("has no price in EUR" in fault for fault in faults)


def billed(until: datetime, customers: str = CUSTOMERS) -> Known:
    return Known(facts_of(METERS, BOOK, customers), _meters(), {"UA-2013": until})


@pytest.mark.parametrize(
    ("change", "into", "message"),
    [
        ("start: 2013-01-01", "start: 2013-02-01", "its start does not move to later"),
        ("customer: UA,", "customer: DL,", "its customer does not change"),
        ("anchor: calendar", "anchor: anniversary", "its anchor does not change"),
        ("start: 2013-01-01", "proration: second, start: 2013-01-01", "its proration does not"),
        ("start: 2013-01-01", "trial: {days: 3}, start: 2013-01-01", "begin with a trial"),
        ("{key: main,", "{key: other,", "item main has been billed: give it an end: instead"),
        ("{key: main,", "{key: main, start: 2013-02-01,", "main has been billed: its start does"),
        (
            "overrides: []}",
            "overrides: [], discounts: [{key: d, percent: '9'}]}",
            "discount d is added to what has been billed: say since when with from:",
        ),
        ("time_zone: America/New_York,", "", "changing its time_zone is not supported yet"),
        (
            "overrides: []}",
            "overrides: []}, {key: more, price_book: book}",
            "item more is added to what has been billed: say since when with start:",
        ),
    ],
)
def test_what_has_been_billed_stays(change: str, into: str, message: str) -> None:
    until = datetime(2013, 3, 1, 5, tzinfo=UTC)
    faults = faults_of(CUSTOMERS.replace(change, into), known=billed(until))
    assert any(message in fault for fault in faults), faults


def test_a_subscription_billed_to_its_end_may_be_prolonged_or_cut_short() -> None:
    ended = CUSTOMERS.replace("start: 2013-01-01", "start: 2013-01-01, end: 2013-02-15")
    known = billed(datetime(2013, 2, 15, 5, tzinfo=UTC), ended)
    for end in ("", ", end: 2013-01-20", ', end: "2013-02-20T12:00:00Z"'):
        changed = CUSTOMERS.replace("start: 2013-01-01", f"start: 2013-01-01{end}")
        assert faults_of(changed, known=known) == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("{key: a, price_book: book, replaces: b}", "item a replaces b, which is no other item"),
        (
            "{key: a, price_book: book}, {key: b, price_book: book, replaces: a}",
            "item b replaces a, which has not ended by then",
        ),
        (
            "{key: a, price_book: book, version: [{version: 1}, {from: 2013-05-01, version: 7}]}",
            "price book book has no version 7",
        ),
        ("{key: a, price_book: book, version: []}", "its versions: give at least one"),
        (
            "{key: a, price_book: book, version: [{version: 1}, {version: 1}]}",
            "its versions: only the first has no from",
        ),
    ],
)
def test_an_item_names_what_there_is(items: str, message: str) -> None:
    i = CUSTOMERS.index("   items: [")
    text = f"{CUSTOMERS[:i]}   items: [{items}]}}"
    faults = faults_of(METERS, BOOK, text)
    assert any(message in fault for fault in faults), faults


def _meters() -> dict[str, KnownMeter]:
    return {key: KnownMeter(m.definition) for key, m in declare(METERS).meters.items()}


def test_an_owners_days_are_told_in_its_own_zone() -> None:
    base = """
customers:
- {key: A, name: A, currency: USD, time_zone: Europe/Berlin,
   subjects: [{key: s, from: 2026-10-15, to: 2026-12-01}]}
"""
    rival = "- {key: B, name: B, currency: USD, subjects: [{key: s, from: 2026-10-20}]}\n"
    [fault] = faults_of(base + rival)
    assert "belongs to customer A since 2026-10-15 until 2026-12-01: say" in fault
    [fault] = faults_of(base.replace("to: 2026-12-01", 'to: "2026-12-01T12:00:00Z"') + rival)
    assert "until 2026-12-01T13:00:00+01:00: say" in fault


def test_only_the_legal_entity_that_there_is_can_be_named() -> None:
    [fault] = faults_of("\n\ncustomers:\n- {key: A, name: A, currency: USD, legal_entity: nosuch}")
    assert fault == "1.yaml:4: customer A: there is no legal entity nosuch; only main so far"
    assert faults_of("customers: [{key: A, name: A, currency: USD, legal_entity: main}]") == []


def test_a_file_that_declares_nothing_is_a_fault_of_the_file() -> None:
    for text in ("", "# nothing\n", "---\n", "null\n"):
        assert faults_of(text) == ["1.yaml: it declares nothing"]


def test_faults_speak_of_things_not_of_classes() -> None:
    faults = faults_of("meters: [{key: m, event_type: t, aggregation: sum}]")
    assert faults
    assert all(fault.startswith("1.yaml:1: meter") for fault in faults)
    assert "definition" not in "".join(faults)


def test_a_fault_in_an_expression_names_line_of_the_file_column_and_reason() -> None:
    text = "meters:\n- key: m\n  event_type: t\n  aggregation: sum\n  value: data.n * 2\n"
    faults = faults_of(
        text + "  dimensions:\n    tier: data.n > 10 ? 'big'\n  filter: data.a + 1\n"
    )
    tier, chosen = faults
    assert tier.splitlines() == [
        "1.yaml:7: dimensions.tier: column 20: it ends where something is missing",
        "    data.n > 10 ? 'big'",
        "                       ^",
    ]
    assert chosen.splitlines()[0] == (
        "1.yaml:8: filter: column 1: a filter is true or false, and this is a number"
    )
    [fault] = faults_of(text.replace("data.n * 2", "data.n > 2"))
    assert fault.startswith("1.yaml:5: value: column 1: a value is a number")


def test_event_types_are_one_or_several_in_any_order() -> None:
    shape = "meters: [{{key: m, aggregation: count, {}}}]"
    assert faults_of(shape.format("event_types: [b, a, b]")) == []
    for wrong in ("unit: x", "event_type: a, event_types: [b]", "event_types: []"):
        [fault] = faults_of(shape.format(wrong))
        assert fault == "1.yaml:1: meter: a meter has an event_type, or else event_types"


def test_a_draft_prices_nothing_yet() -> None:
    draft = """
price_books:
- key: book
  versions:
  - {version: 7, status: draft, currency: USD, charges: [{key: a, model: flat, amount: "1"}]}
customers: [{key: C, name: C, currency: USD}]
subscriptions:
- {key: S, customer: C, start: 2013-01-01, items: [{key: main, price_book: book, version: 7}]}
"""
    assert faults_of(draft) == ["1.yaml:8: subscription S: there is no price book book"]


def test_a_wallet_is_of_a_customer_and_asks_for_something() -> None:
    wallets = """
wallets:
- {key: w, customer: NONE, currency: USD}
- {key: x, customer: UA, currency: USD, top_up: {below: "5"}}
- {key: y, customer: UA, currency: USD, top_up: {below: "0", amount: "1"}}
"""
    assert faults_of(wallets) == [
        "1.yaml:3: wallet w: there is no customer NONE",
        "1.yaml:4: top_up.amount is missing",
        "1.yaml:5: top_up.below: Input should be greater than 0",
    ]
