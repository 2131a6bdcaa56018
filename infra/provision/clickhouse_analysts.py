"""Analysts on a ClickHouse server: a role per tenant, row policies, bounds, a user per key.

Every statement can be repeated. The embedded engine needs none of this: its gateway knows the keys.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from infra.analysts import (
    BOUNDS,
    EMBEDDED_ROLE,
    READABLE,
    TENANT_TABLES,
    USER_PREFIX,
    AccessError,
    tenant_condition,
    user_name,
)

PROFILE = "tollbook_analyst"
QUERIES_PER_MINUTE = 600
_PREFIX = "tollbook_analyst_"


@dataclass(frozen=True, slots=True)
class AnalystKey:
    """A key that is in force: its tenant, and its SHA-256, which is the user's password hash."""

    tenant: str
    key_hash: bytes

    @property
    def user(self) -> str:
        """The user's name."""
        return user_name(self.tenant, self.key_hash)


def provision_analysts(dsn: str, keys: Sequence[AnalystKey]) -> None:
    """Give each key its user and its tenant's rights, and drop users whose key is gone.

    Raises:
        AccessError: the server keeps users in files only, or the owner may not manage them.
    """
    database = dsn.rpartition("/")[2]
    client = clickhouse_connect.get_client(dsn=dsn)
    try:
        if client.command("SELECT has(currentRoles(), {role:String})", {"role": EMBEDDED_ROLE}):
            return
        for statement in rights(database, sorted({key.tenant for key in keys})):
            client.command(statement)
        for key in keys:
            for statement in user_statements(key):
                client.command(statement)
        for user in _users(client) - {key.user for key in keys}:
            client.command(f"DROP USER IF EXISTS {_quoted(user)}")
    except DatabaseError as error:
        reason = str(error).strip().partition("\n")[0]
        raise AccessError(
            f"ClickHouse takes no users for analysts ({reason}): its owner needs "
            "access_management, and it needs a place for users made by SQL"
        ) from error
    finally:
        client.close()


def rights(database: str, tenants: Iterable[str]) -> list[str]:
    """Return the statements that make what users are given: bounds, policies and roles.

    Each tenant's policy restricts its own role. A permissive one for all stands beside it, since a
    server may hide every row from users without one, and counting needs them.
    """
    bounds = ", ".join(f"{name} = {_value(text)}" for name, text in BOUNDS.items())
    name = _quoted(PROFILE)
    made = [
        f"CREATE SETTINGS PROFILE IF NOT EXISTS {name}",
        f"ALTER SETTINGS PROFILE {name} SETTINGS readonly = 1, {bounds}",
    ]
    made += [
        f"CREATE ROW POLICY OR REPLACE tollbook_rows ON {_quoted(database)}.{table}"
        " AS PERMISSIVE FOR SELECT USING 1 TO ALL"
        for table in TENANT_TABLES
    ]
    for tenant in tenants:
        made += _rights_of(database, tenant)
    return made


def user_statements(key: AnalystKey) -> list[str]:
    """Return the statements that make a key's user."""
    role, user = _quoted(_PREFIX + key.tenant), _quoted(key.user)
    return [
        f"CREATE USER IF NOT EXISTS {user} IDENTIFIED WITH sha256_hash BY '{key.key_hash.hex()}'",
        f"GRANT {role} TO {user}",
        f"ALTER USER {user} DEFAULT ROLE {role} SETTINGS PROFILE {_quoted(PROFILE)}",
    ]


def _rights_of(database: str, tenant: str) -> list[str]:
    condition, role = tenant_condition(tenant), _quoted(_PREFIX + tenant)
    # Policies come before grants: no moment shows rows of others.
    policies = [
        f"CREATE ROW POLICY OR REPLACE {role} ON {_quoted(database)}.{table}"
        f" AS RESTRICTIVE FOR SELECT USING {condition} TO {role}"
        for table in TENANT_TABLES
    ]
    grants = [f"GRANT SELECT ON {_quoted(database)}.{name} TO {role}" for name in READABLE]
    quota = (
        f"CREATE QUOTA OR REPLACE {role} KEYED BY user_name"
        f" FOR INTERVAL 1 minute MAX queries = {QUERIES_PER_MINUTE} TO {role}"
    )
    return [f"CREATE ROLE IF NOT EXISTS {role}", *policies, quota, *grants]


def _users(client: Client) -> set[str]:
    rows = client.query(
        "SELECT name FROM system.users WHERE startsWith(name, {prefix:String})",
        parameters={"prefix": USER_PREFIX},
    ).result_rows
    return {str(row[0]) for row in rows}


def _quoted(name: str) -> str:
    return f"`{name}`"


def _value(text: str) -> str:
    return text if text.isdigit() else f"'{text}'"
