"""Applies declarations in one transaction: new facts become known together, or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb
from psycopg.types.range import TimestamptzRange

from billing.catalog import Known, check
from billing.customer import Customer
from billing.declaration import Declarations
from billing.facts import LATEST, Facts
from billing.meter_change import KnownMeter, NewVersion, check_changes, instant_text
from billing.owners import Transfers, transfers
from billing.postgres_clock import read_clock
from billing.postgres_facts import (
    Connection,
    billed_until_by_meter,
    last_billed_ends,
    load_facts,
    next_revision,
    raise_revision,
)
from billing.postgres_price_books import publish, write_draft
from billing.postgres_subscriptions import Cause, Written, record
from billing.postgres_touched import is_narrow, load_touched
from billing.postgres_wallet_grants import declare_wallet
from billing.postgres_wallets import WalletWriter
from billing.price_book import content_hash, to_content
from billing.wallet_terms import WalletError
from pipelines.meter import MeterDefinition, to_row

_DECLARED = Cause("apply", "declared")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one declared thing."""

    kind: str
    key: str
    outcome: str
    """created, changed or unchanged."""
    detail: str = ""


class DeclarationError(Exception):
    """Declarations with faults; nothing was applied."""


def apply(
    connection: Connection,
    tenant: str,
    declared: Declarations,
    now: datetime,
    cause: Cause = _DECLARED,
) -> list[Applied]:
    """Apply declarations at an instant of the world; raises DeclarationError, all faults noted."""
    with connection.transaction():
        revision = next_revision(connection, tenant)
        known = _known(connection, tenant, declared)
        facts = known.facts
        check(declared, known)
        billed = billed_until_by_meter(connection, tenant) if declared.meters else {}
        versions = check_changes(declared, known.meters, billed, now)
        if declared.faults:
            raise DeclarationError
        applied = [
            *_apply_meters(connection, tenant, versions, revision),
            *_apply_books(connection, tenant, declared, facts, revision),
        ]
        moves = transfers(declared.customers.values(), facts)
        _apply_transfers(connection, tenant, moves, revision)
        for key, customer in declared.customers.items():
            words = moves.words_by_customer[key]
            applied.append(_apply_customer(connection, tenant, customer, revision, words))
        at = read_clock(connection, tenant, now).at
        applied += _apply_subscriptions(
            connection, tenant, declared, facts, revision, at=at, cause=cause
        )
        if any(one.outcome != "unchanged" for one in applied):
            raise_revision(connection, tenant, revision)
        # Wallets are no facts: no bill run sees them as of a revision.
        applied += _apply_wallets(WalletWriter(connection, tenant, cause.actor, at), declared)
    return applied


def _known(connection: Connection, tenant: str, declared: Declarations) -> Known:
    """Return what declarations are checked against; of large tenants, what they touch."""
    if is_narrow(declared):
        facts = load_touched(connection, tenant, declared)
        billed = last_billed_ends(connection, tenant, list(facts.subscriptions))
        return Known(facts, {}, billed)
    facts = load_facts(connection, tenant, LATEST)
    billed = last_billed_ends(connection, tenant, list(facts.subscriptions))
    return Known(facts, load_meters(connection, tenant), billed)


def load_meters(connection: Connection, tenant: str) -> dict[str, KnownMeter]:
    """Return the latest version of each meter of a tenant."""
    rows = connection.execute(
        "SELECT DISTINCT ON (key) key, definition, version, archived,"
        " CASE WHEN isfinite(effective_at) THEN effective_at END"
        " FROM meters WHERE tenant = %s ORDER BY key, version DESC",
        (tenant,),
    ).fetchall()
    return {
        key: KnownMeter(
            MeterDefinition.model_validate(definition),
            version,
            None if effective_at is None else effective_at.astimezone(UTC),
            is_archived=archived,
        )
        for key, definition, version, archived, effective_at in rows
    }


def _apply_meters(
    connection: Connection,
    tenant: str,
    versions: Mapping[str, NewVersion | None],
    revision: int,
) -> list[Applied]:
    applied = []
    for key, new in versions.items():
        if new is None:
            applied.append(Applied("meter", key, "unchanged"))
            continue
        connection.execute(
            "INSERT INTO meters (tenant, key, version, definition, effective_at, archived,"
            " known_revision) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                tenant,
                key,
                new.version,
                Jsonb(to_row(new.definition)),
                new.effective_at or "-infinity",
                new.is_archived,
                revision,
            ),
        )
        since = "" if new.effective_at is None else f" from {instant_text(new.effective_at)}"
        outcome = "created" if new.version == 1 else "changed"
        what = "archived" if new.is_archived else f"version {new.version}"
        applied.append(Applied("meter", key, outcome, what + since))
    return applied


def _apply_books(
    connection: Connection, tenant: str, declared: Declarations, facts: Facts, revision: int
) -> list[Applied]:
    applied = []
    for key, book in declared.price_books.items():
        before = facts.price_books.get(key)
        published = {version.version for version in before.versions} if before else set()
        words = []
        for version in book.versions:
            if version.is_draft:
                if write_draft(connection, tenant, key, version):
                    words.append(f"draft of version {version.version}")
            elif version.version not in published:
                publish(connection, tenant, key, version, revision)
                words.append(f"version {version.version}")
        outcome = "unchanged" if not words else "changed" if before else "created"
        applied.append(Applied("price book", key, outcome, ", ".join(words)))
    return applied


def _apply_customer(
    connection: Connection, tenant: str, customer: Customer, revision: int, moved: str
) -> Applied:
    content = to_content(customer)
    content.pop("subjects", None)
    row = (customer.key, content)
    applied, _ = _apply_version(connection, tenant, "customer", row, revision, {})
    if not moved:
        return applied
    outcome = "changed" if applied.outcome == "unchanged" else applied.outcome
    return Applied("customer", customer.key, outcome, moved)


def _apply_subscriptions(
    connection: Connection,
    tenant: str,
    declared: Declarations,
    facts: Facts,
    revision: int,
    *,
    at: datetime,
    cause: Cause,
) -> list[Applied]:
    applied, written = [], []
    for subscription in declared.subscriptions.values():
        row = (subscription.key, to_content(subscription))
        columns = {"customer": subscription.customer}
        one, version = _apply_version(connection, tenant, "subscription", row, revision, columns)
        applied.append(one)
        if one.outcome != "unchanged":
            written.append(Written(subscription, version))
    customers = {**facts.customers, **declared.customers}
    for key in record(connection, tenant, written, customers, at=at, cause=cause):
        message = f"subscription {key} is canceled and stays so: begin one that succeeds it"
        declared.fault("subscriptions", key, message)
    if declared.faults:
        raise DeclarationError
    return applied


def _apply_wallets(writer: WalletWriter, declared: Declarations) -> list[Applied]:
    applied = []
    for key, terms in declared.wallets.items():
        try:
            applied.append(Applied("wallet", key, declare_wallet(writer, terms)))
        except WalletError as error:
            declared.fault("wallets", key, f"wallet {key}: {error}")
    if declared.faults:
        raise DeclarationError
    return applied


def _apply_version(
    connection: Connection,
    tenant: str,
    kind: str,
    thing: tuple[str, dict[str, Any]],
    revision: int,
    columns: Mapping[str, str],
) -> tuple[Applied, int]:
    """Write a version where it says something new; returns what became of it, and its number."""
    key, content = thing
    digest = content_hash(content)
    before = connection.execute(
        f"SELECT version, content_hash FROM {kind}_versions WHERE tenant = %s AND {kind} = %s"
        " ORDER BY version DESC LIMIT 1",
        (tenant, key),
    ).fetchone()
    if before is not None and before[1] == digest:
        return Applied(kind, key, "unchanged"), before[0]
    version = before[0] + 1 if before else 1
    names = ["tenant", kind, "version", "content", "content_hash", "known_revision", *columns]
    connection.execute(
        f"INSERT INTO {kind}_versions ({', '.join(names)})"
        f" VALUES ({', '.join(['%s'] * len(names))})",
        (tenant, key, version, Jsonb(content), digest, revision, *columns.values()),
    )
    return Applied(kind, key, "changed" if before else "created"), version


def _apply_transfers(connection: Connection, tenant: str, moves: Transfers, revision: int) -> None:
    """Withdraw first, so that a subject can pass from one customer to another."""
    withdrawn = [
        (revision, tenant, owned.customer, owned.subject, owned.start) for owned in moves.withdrawn
    ]
    added = [
        (
            tenant,
            owned.subject,
            owned.customer,
            owned.subscription,
            TimestamptzRange(owned.start, owned.end, "[)"),
            revision,
        )
        for owned in moves.added
    ]
    # Where there is nothing to do the database would be asked nonetheless.
    with connection.cursor() as cursor:
        if withdrawn:
            cursor.executemany(
                "UPDATE subject_assignments SET withdrawn_revision = %s WHERE tenant = %s"
                " AND customer = %s AND subject = %s AND lower(during) IS NOT DISTINCT FROM %s"
                " AND withdrawn_revision IS NULL",
                withdrawn,
            )
        if added:
            cursor.executemany(
                "INSERT INTO subject_assignments"
                " (tenant, subject, customer, subscription, during, known_revision)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                added,
            )
