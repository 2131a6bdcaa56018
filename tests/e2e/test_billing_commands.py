"""From files of YAML and events to an invoice and balanced books, by the commands of a person."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.embedded_stack import HTTP, EmbeddedStack, run_tollbook

THIS_MONTH = datetime.now(UTC).date().replace(day=1)
LAST_MONTH = (THIS_MONTH - timedelta(days=1)).replace(day=1)

FACTS = f"""
meters:
- {{key: billed_calls, event_type: billed.call, aggregation: count,
   dimensions: {{region: $.region}}, unit: call}}
- {{key: billed_paid, event_type: billed.paid, aggregation: sum, value: $.amount,
   dimensions: {{region: $.region}}}}
price_books:
- key: payments
  versions:
  - version: 1
    effective_from: {LAST_MONTH}
    currency: EUR
    charges:
    - {{key: cards, model: percentage, meter: billed_paid, percent: "2.9", fixed_fee: "0.30",
       per: event, round_each: true, filter: {{region: eu}}}}
    - {{key: volume, model: time_of_day, meter: billed_paid, default: "0.01",
       rates: [{{name: night, from: "22:00", to: "06:00", unit_price: "0.02"}}]}}
    - {{key: both, model: formula, meters: {{a: billed_calls, b: billed_paid}},
       formula: "10 * a + b", unit_price: "0.001"}}
- key: calls
  versions:
  - version: 1
    effective_from: {LAST_MONTH}
    currency: EUR
    charges:
    - {{key: access, model: flat, amount: "49.90", every: 1 month, timing: advance}}
    - {{key: calls, model: graduated, meter: billed_calls, group_by: [region],
       tiers: [{{up_to: "2", unit_price: "0.015"}}, {{up_to: null, unit_price: "0.01"}}]}}
customers:
- {{key: ACME, name: 'Acme [/bold] Co', currency: EUR, time_zone: Europe/Paris,
   subjects: [acme-1, acme-2]}}
- {{key: SHOP, name: Shop, currency: EUR, time_zone: Europe/Paris, subjects: [shop-1, shop-2]}}
subscriptions:
- {{key: SHOP-1, customer: SHOP, start: {LAST_MONTH}, items: [{{key: main, price_book: payments}}]}}
- {{key: ACME-1, customer: ACME, start: {LAST_MONTH}, items: [{{key: main, price_book: calls}}]}}
"""


def tollbook(stack: EmbeddedStack, *arguments: str) -> Any:
    """Run a command and return the JSON that it prints."""
    done = run_tollbook(*arguments, "--json", "--data-dir", str(stack.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def event(number: int, subject: str, region: str, on: date) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"billed-{number}",
            "source": "/tests/billing",
            "type": "billed.call",
            "subject": subject,
            "time": f"{on}T12:00:00Z",
            "data": {"region": region},
        }
    )


def paid(number: int, subject: str, region: str, amount: str, at: str) -> str:
    one = json.loads(event(number, subject, region, LAST_MONTH))
    on = LAST_MONTH + timedelta(days=9)
    when = datetime.fromisoformat(f"{on}T{at}").replace(tzinfo=ZoneInfo("Europe/Paris"))
    data = {"region": region, "amount": amount}
    return json.dumps(one | {"type": "billed.paid", "time": when.isoformat(), "data": data})


def send(stack: EmbeddedStack, file: Path, *events: str) -> None:
    file.write_text("\n".join(events) + "\n")
    done = run_tollbook("send", str(file), "--data-dir", str(stack.data_dir))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def billed(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedStack:
    """Apply, send and bill, as a person would."""
    folder = tmp_path_factory.mktemp("files")
    facts = folder / "facts.yaml"
    facts.write_text(FACTS)
    first = tollbook(stack, "apply", str(facts))
    assert {one["outcome"] for one in first} == {"created"}
    again = tollbook(stack, "apply", str(facts))
    assert {one["outcome"] for one in again} == {"unchanged"}
    day = LAST_MONTH + timedelta(days=9)
    send(
        stack,
        folder / "events.ndjson",
        *(event(n, "acme-1", "eu", day) for n in range(3)),
        event(3, "acme-2", "us", day),
        event(4, "no[/b]ody", "us", day),
        event(5, "shop-1", "eu", day),
        paid(6, "shop-1", "eu", "10", "21:59:59"),
        paid(7, "shop-1", "eu", "10", "22:00:00"),
        paid(8, "shop-2", "eu", "0.50", "05:59:59"),
        paid(9, "shop-2", "us", "100", "06:00:00"),
    )
    return stack


def test_a_month_goes_from_events_to_an_invoice_once(billed: EmbeddedStack) -> None:
    result = tollbook(billed, "bill", "--through", str(THIS_MONTH))
    assert [(one["customer"], one["total_minor"]) for one in result["documents"]] == [
        ("ACME", 4990),
        ("ACME", 4990 + 4 + 2),
        ("SHOP", 2 * 59 + 31 + 110 + 21 + 13),
    ]
    again = tollbook(billed, "bill", "--through", str(THIS_MONTH))
    assert (again["documents"], again["periods"], again["cuts"]) == ([], 0, [])
    number = result["documents"][1]["number"]
    invoice = tollbook(billed, "invoice", "show", number)
    assert [
        (line["description"], line["quantity"], line["amount"]) for line in invoice["lines"]
    ] == [("access", "1", "49.90"), ("calls (eu)", "3", "0.04"), ("calls (us)", "1", "0.02")]
    assert number in [one["number"] for one in tollbook(billed, "invoice", "list")]
    balance = tollbook(billed, "ledger", "trial-balance")
    assert balance["totals"]["EUR"]["balance_minor"] == 0
    over_http = HTTP.post(
        f"{billed.read().api_url}/v1/bill-runs",
        json={"through": str(THIS_MONTH)},
        headers={"Authorization": f"Bearer {billed.read().api_key}"},
        timeout=60,
    )
    assert (over_http.status_code, over_http.json()["documents"]) == (201, [])
    shown = run_tollbook("invoice", "show", number, "--trace", "--data-dir", str(billed.data_dir))
    assert "calls (eu)" in shown.stdout
    assert "tier 2 at 0.01" in shown.stdout
    shop = tollbook(billed, "invoice", "show", result["documents"][2]["number"])
    assert [(line["description"], line["quantity"], line["amount"]) for line in shop["lines"]] == [
        ("cards", "20.5", "1.49"),
        ("volume (night)", "10.5", "0.21"),
        ("volume (other)", "110", "1.10"),
        ("both", "130.5", "0.13"),
    ]


def test_usage_without_an_owner_is_named(billed: EmbeddedStack) -> None:
    tollbook(billed, "bill", "--through", str(THIS_MONTH))
    found = tollbook(billed, "usage", "unassigned")
    rows = found["rows"]
    who = {"subject": "no[/b]ody", "lacks": "no customer"}
    assert {"meter": "billed_calls", "quantity": "1", **who} in rows
    assert datetime.fromisoformat(found["cut_at"]) <= datetime.now(UTC)
    assert not [row for row in rows if row["subject"].startswith("acme")]


def test_a_price_book_is_listed_exported_and_compared(
    billed: EmbeddedStack, tmp_path: Path
) -> None:
    [row] = tollbook(billed, "price-book", "list", "payments")
    assert (row["version"], row["state"], row["charges"]) == (1, "published", 3)
    done = run_tollbook("price-book", "export", "payments", "--data-dir", str(billed.data_dir))
    assert done.returncode == 0, done.stderr
    file = tmp_path / "payments.yaml"
    file.write_text(done.stdout)
    [applied] = tollbook(billed, "apply", str(file))
    assert (applied["key"], applied["outcome"]) == ("payments", "unchanged")
    file.write_text(done.stdout.replace("'2.9'", "'3.1'"))
    found = tollbook(billed, "price-book", "diff", "payments@1", str(file))
    change = {"charge": "cards", "field": "percent", "before": "2.9", "after": "3.1"}
    assert found == {"added": [], "removed": [], "changed": [change]}
    done = run_tollbook("price-book", "delete", "payments@1", "--data-dir", str(billed.data_dir))
    assert (done.returncode, "version 1 is published" in done.stderr) == (1, True)


def test_a_draft_is_tried_on_what_was_billed(billed: EmbeddedStack, tmp_path: Path) -> None:
    tollbook(billed, "bill", "--through", str(THIS_MONTH))
    file = tmp_path / "draft.yaml"
    file.write_text(FACTS.replace('percent: "2.9"', 'percent: "9.9"'))
    words = ("price-book", "backtest", str(file), "--price-book", "payments", "--data-dir")
    days = ("--from", str(LAST_MONTH), "--to", str(THIS_MONTH))
    done = run_tollbook(*words, str(billed.data_dir), *days, "--json")
    found = json.loads(done.stdout)
    [shop] = found["customers"]
    # Of 10, 10 and 0.50 each by itself: 0.59 + 0.59 + 0.31, and 1.29 + 1.29 + 0.35.
    assert (shop["customer"], shop["difference_minor"]) == ("SHOP", 293 - 149)
    assert shop["before"] == tollbook(billed, "invoice", "list", "--customer", "SHOP")[0]["total"]
    done = run_tollbook(*words, str(billed.data_dir), *days, "--fail-if-bill-up-by", "20%")
    assert done.returncode == 3
    assert "customer SHOP: 2.93 to 4.37 EUR, 49.15 %" in done.stderr
    assert "1 customer: 1 would have paid more" in done.stdout


def test_names_are_printed_as_they_are(billed: EmbeddedStack) -> None:
    tollbook(billed, "bill", "--through", str(THIS_MONTH))
    number = tollbook(billed, "invoice", "list")[0]["number"]
    for arguments, told in (
        (("invoice", "list"), "49.96"),
        (("invoice", "show", number, "--trace"), "Acme [/bold] Co"),
        (("ledger", "trial-balance"), "receivable"),
        (("usage", "unassigned"), "no[/b]ody"),
        (("bill", "--through", str(THIS_MONTH)), "was billed before"),
    ):
        done = run_tollbook(*arguments, "--data-dir", str(billed.data_dir))
        assert done.returncode == 0, done.stderr
        assert told in done.stdout


def test_faults_are_told_all_at_once_and_nothing_is_applied(
    billed: EmbeddedStack, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "customers:\n- {key: NEW, name: New, currency: EUR, zone: UTC}\n"
        "- {key: NEWER, name: Newer, currency: EURO}\n"
        "subscriptions:\n- {key: S, customer: NONE, start: 2013-01-01, items: []}\n"
    )
    done = run_tollbook("apply", str(bad), "--data-dir", str(billed.data_dir))
    assert done.returncode == 1
    told = done.stderr.replace(f"{bad}:", "").splitlines()
    assert [line.partition(":")[0] for line in told[:3]] == ["2", "3", "5"]
    assert told[3] == "tollbook: nothing was applied: 3 faults"


@pytest.mark.parametrize(
    "arguments",
    [
        ("bill", "--through", "soon"),
        ("close", "--period", "2013-13"),
        ("close", "--period", f"{THIS_MONTH:%Y-%m}"),
        ("close", "--period", "2090-01"),
        ("bill", "--through", "2090-01-01"),
        ("invoice", "show", "NONE-1"),
        ("ledger", "trial-balance", "--as-of", "today"),
        ("apply", "/nowhere/at/all.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    billed: EmbeddedStack, arguments: tuple[str, ...]
) -> None:
    done = run_tollbook(*arguments, "--data-dir", str(billed.data_dir))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1 + (arguments[0] == "apply")


def test_a_price_is_quoted_without_a_stack(tmp_path: Path) -> None:
    book = tmp_path / "book.yaml"
    book.write_text(FACTS)
    done = run_tollbook(
        *("price-book", "rate", str(book), "--price-book", "calls", "--charge", "calls"),
        *("--quantity", "1500", "--json"),
    )
    quoted = json.loads(done.stdout)
    assert (quoted["charge"], quoted["quantity"], quoted["currency"]) == ("calls", "1500", "EUR")
    assert quoted["amount_minor"] == 3 + 1498
    assert len(quoted["trace"]) == 2
