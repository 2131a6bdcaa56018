"""Pinned subscribers move to another version at a date, after a look at what that costs them."""

from datetime import date

import pytest
from typer.testing import CliRunner

from billing.postgres_catalog import apply
from infra.embedded.errors import StackError
from tests.e2e.billing_databases import databases
from tests.e2e.billing_world import EVENTS, TENANT, PostgresCutsUsage, close
from tests.embedded_stack import EmbeddedStack
from tests.unit.billing.test_run import CUSTOMERS
from tests.unit.billing.world import NOW, declare
from tollbook import price_book_migration
from tollbook.cli import build
from tollbook.price_book_migration import plan, worth
from tollbook.stack_file import Stack

PINNED = CUSTOMERS.replace("{key: S-UA, customer: UA, start: 2013-01-01, items: [{key: main,",
                           "{key: S-UA, customer: UA, start: 2013-01-01, items: [{key: main,"
                           " version: 1,")  # fmt: skip
ON = date(2013, 2, 1)


def test_a_pinned_subscriber_is_moved_at_a_date(
    stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with databases(stack) as make:
        dsn, connection = make("migrated")
        known = Stack("", "", "", dsn, "", "", TENANT, "", {})
        monkeypatch.setattr(price_book_migration, "read_stack", lambda _: known)
        apply(connection, TENANT, declare(PINNED), NOW)
        close(connection, date(2013, 1, 1))
        _, moves = plan(connection, TENANT, "airport", 2, ON)
        assert [(one.subscription, one.item, one.version) for one in moves] == [("S-UA", "main", 1)]

        usage = PostgresCutsUsage(connection, EVENTS)
        compared = worth(connection, usage, TENANT, moves, "airport", 2)
        assert compared is not None
        january = sum(
            minor
            for (minor,) in connection.execute(
                "SELECT l.amount_minor FROM invoice_lines l JOIN invoices USING (invoice_id)"
                " WHERE customer = 'UA'"
            )
        )
        # u1 and u2 flew five times each: EWR 6 times, JFK 4, by three aircraft.
        assert compared.customers["UA", "USD"].before_minor == january
        assert january == 250_000 + (2400 + 4 * 950) + (2400 + 2 * 950) + 3 * 3750
        then = 275_000 + (2600 + 4 * 1000) + (2600 + 2 * 1000) + 3 * 3900
        assert compared.customers["UA", "USD"].after_minor == then

        words = ("price-book", "migrate", "airport", "--to", "2", "--at", str(ON))
        done = CliRunner().invoke(build(), [*words, "--reason", "for all"], catch_exceptions=False)
        assert "Moved: 1 item, to version 2 on 2013-02-01." in done.stdout
        assert plan(connection, TENANT, "airport", 2, ON)[1] == []
        assert plan(connection, TENANT, "airport", 2, date(2013, 1, 31))[1] == moves
        close(connection, date(2013, 2, 1))
        [(base, version)] = connection.execute(
            "SELECT amount_minor, book_version FROM invoice_lines JOIN invoices USING (invoice_id)"
            " WHERE customer = 'UA' AND charge = 'base' AND service_from = '2013-02-01'"
        ).fetchall()
        assert (base, version) == (275_000, 2)
        with pytest.raises(StackError, match="no published version 9"):
            plan(connection, TENANT, "airport", 9, ON)
