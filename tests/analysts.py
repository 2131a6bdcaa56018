"""What tests of analysts share: keys, logins, and a stranger's rows that nobody may see."""

import base64
import hashlib
import http.client
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import clickhouse_connect
import psycopg

from infra.analysts import TENANT_TABLES, user_name
from tollbook.stack_file import Stack

CUT_SHORT = 599
"""Stands for an answer that broke off, as the gateway does when a result fails midway."""

_TEXTS = {"data": '{{"at": "{0}"}}', "dimensions": '{{"at":"{0}"}}'}


@dataclass(frozen=True)
class Login:
    """Who asks ClickHouse, and where it is."""

    host: str
    port: int
    user: str
    key: str

    def ask(
        self,
        statement: str | bytes,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Return status and body; what cannot be read as text is replaced."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=90)
        secret = base64.b64encode(f"{self.user}:{self.key}".encode()).decode()
        body = statement.encode() if isinstance(statement, str) else statement
        path = "/?" + urllib.parse.urlencode({"database": "tollbook", **(params or {})})
        try:
            sent = {"Authorization": f"Basic {secret}"} | dict(headers or {})
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            try:
                return response.status, response.read().decode(errors="replace")
            except http.client.IncompleteRead as error:
                return CUT_SHORT, error.partial.decode(errors="replace")
        finally:
            connection.close()

    def connect(self) -> Any:
        """Return a client as analysts use it."""
        return clickhouse_connect.get_client(
            host=self.host,
            port=self.port,
            username=self.user,
            password=self.key,
            database="tollbook",
        )


def make_tenant(stack: Stack, tenant: str) -> None:
    """Add a tenant to a stack's Postgres."""
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO tenants (tenant, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (tenant, tenant),
        )


def make_analyst(stack: Stack, tenant: str, key: str) -> Login:
    """Store a key for an analyst of a tenant, and return the login that goes with it."""
    digest = hashlib.sha256(key.encode()).digest()
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role)"
            " VALUES (%s, %s, 'test', 'analyst') ON CONFLICT DO NOTHING",
            (digest, tenant),
        )
    found = urllib.parse.urlsplit(stack.clickhouse_url)
    assert found.hostname is not None
    assert found.port is not None
    return Login(found.hostname, found.port, user_name(tenant, digest), key)


def fill_tables(owner: Any, words: Mapping[str, str], rows: int) -> None:
    """Put rows of several tenants into every table, side by side; each tenant's texts hold a word.

    Values follow from the columns' types, so that a new table needs nothing here. Each table has a
    partition of its own: no row takes back what another holds.
    """
    for place, table in enumerate((*TENANT_TABLES, "usage_identities")):
        described = owner.query(f"DESCRIBE TABLE {table}").result_rows
        types = {str(row[0]): str(row[1]) for row in described}
        content = [
            [
                place if name == "partition" else _value(name, kind, tenant, word, number)
                for name, kind in types.items()
            ]
            for number in range(rows)
            for tenant, word in words.items()
        ]
        owner.insert(table, content, column_names=list(types))


def _value(name: str, kind: str, tenant: str, word: str, number: int) -> Any:
    kind = kind.removeprefix("LowCardinality(").removeprefix("Nullable(")
    if name in ("tenant", "aggregation"):
        return {"tenant": tenant, "aggregation": "sum" if number else "latest"}[name]
    if kind.startswith("DateTime"):
        return datetime(2026, 1, 1, tzinfo=UTC)
    if kind.startswith("FixedString"):
        return f"{number}{word}".encode()[: int(kind[12:-1])].ljust(int(kind[12:-1]), b"_")
    if kind.startswith("String"):
        return _TEXTS[name].format(word) if name in _TEXTS else f"{word}{number}"
    if kind.startswith("Decimal"):
        return Decimal(number if word == "mine" else 10**20 + number)
    return kind == "Bool" or 1 + number
