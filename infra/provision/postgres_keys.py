"""The keys of a tenant: made, listed and revoked; only their hashes are kept."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from infra.provision.clickhouse_analysts import AnalystKey

Connection = psycopg.Connection[Any]
ID_CHARACTERS = 12


class KeyRefusedError(Exception):
    """What is asked for would leave nobody in charge, or names no key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is listed."""

    key_id: str
    role: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


def is_owner(connection: Connection, tenant: str, api_key: str) -> bool:
    """Tell whether a key may manage a tenant's keys."""
    row = connection.execute(
        "SELECT 1 FROM api_keys WHERE key_hash = %s AND tenant = %s AND role = 'owner'"
        " AND (revoked_at IS NULL OR revoked_at > now())",
        (hashlib.sha256(api_key.encode()).digest(), tenant),
    ).fetchone()
    return row is not None


def create_key(connection: Connection, tenant: str, role: str, name: str) -> tuple[str, bytes]:
    """Make a key, and return it with its hash; nobody can be told it again."""
    key = f"tb_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).digest()
    connection.execute(
        "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, %s, %s)",
        (digest, tenant, name, role),
    )
    return key, digest


def list_keys(connection: Connection, tenant: str) -> list[Key]:
    """Return a tenant's keys, revoked ones too, the oldest first."""
    rows = connection.execute(
        f"SELECT substr(encode(key_hash, 'hex'), 1, {ID_CHARACTERS}), role, name, created_at,"
        " revoked_at FROM api_keys WHERE tenant = %s ORDER BY created_at, key_hash",
        (tenant,),
    ).fetchall()
    return [Key(*row) for row in rows]


def revoke_key(connection: Connection, tenant: str, key_id: str) -> Key:
    """Revoke a key; once more changes nothing. The last owner's key stays.

    Raises:
        KeyRefusedError: there is no such key, or it is the last of an owner.
    """
    with connection.transaction():
        # One at a time, or two could each revoke the last but one.
        connection.execute("SELECT 1 FROM tenants WHERE tenant = %s FOR UPDATE", (tenant,))
        keys = list_keys(connection, tenant)
        found = [key for key in keys if key.key_id == key_id]
        if not found:
            raise KeyRefusedError(f"there is no key {key_id}")
        owners = [key for key in keys if key.role == "owner" and key.revoked_at is None]
        if [key.key_id for key in owners] == [key_id]:
            raise KeyRefusedError(f"{key_id} is the last owner's key: nobody could make another")
        connection.execute(
            f"UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant = %s"
            f" AND substr(encode(key_hash, 'hex'), 1, {ID_CHARACTERS}) = %s",
            (tenant, key_id),
        )
    return next(key for key in list_keys(connection, tenant) if key.key_id == key_id)


def analyst_keys(connection: Connection) -> Sequence[AnalystKey]:
    """Return the analysts' keys of all tenants that are in force."""
    rows = connection.execute(
        "SELECT tenant, key_hash FROM api_keys WHERE role = 'analyst'"
        " AND (revoked_at IS NULL OR revoked_at > now()) ORDER BY tenant, key_hash"
    ).fetchall()
    return [AnalystKey(str(tenant), bytes(key_hash)) for tenant, key_hash in rows]
