"""`tollbook key`: keys of a tenant, for its owner to give out and take back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import Column, show, table_of
from tollbook.stack_file import DEFAULT_DATA_DIR, Stack, read_stack

if TYPE_CHECKING:
    from infra.provision.postgres_keys import Connection, Key

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack whose keys these are.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Role(StrEnum):
    """What a key may do."""

    OWNER = "owner"
    INGEST = "ingest"
    ANALYST = "analyst"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = group(app, "key", "Keys: who may send, read or manage.")
    keys.command("create")(create)
    keys.command("list")(list_all)
    keys.command("revoke")(revoke)


def create(
    role: Annotated[
        Role, typer.Option(help="ingest sends events; analyst reads ClickHouse; owner does all.")
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    name: Annotated[str, typer.Option(help="What or whom it is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it; it is not kept, and cannot be printed again."""
    from infra.analysts import user_name  # noqa: PLC0415
    from infra.provision.postgres_keys import ID_CHARACTERS, create_key  # noqa: PLC0415

    with _managed(data_dir) as (stack, connection):
        key, digest = create_key(connection, stack.tenant, role, name or role)
        if role is Role.ANALYST:
            _tell_clickhouse(stack, connection)
    made = {"id": digest.hex()[:ID_CHARACTERS], "role": str(role), "name": name or str(role)}
    made["key"] = key
    if role is Role.ANALYST:
        made["user"] = user_name(stack.tenant, digest)
        made["url"] = _address(stack)
    if as_json:
        print(json.dumps(made))
        return
    show(*(f"{word:<5} {value}" for word, value in made.items()))
    show("", "Keep the key now: only its hash is stored.")


def list_all(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """List the keys of the tenant, without the keys themselves."""
    from infra.provision.postgres_keys import list_keys  # noqa: PLC0415

    with _managed(data_dir) as (stack, connection):
        keys = list_keys(connection, stack.tenant)
    if as_json:
        print(json.dumps([_content(key) for key in keys]))
        return
    columns = [Column(each) for each in ("id", "role", "created", "revoked")]
    rows = [
        [each["id"], each["role"], each["created_at"], each["revoked_at"] or "", each["name"]]
        for each in map(_content, keys)
    ]
    show(table_of([*columns, Column("name", folds=True)], rows))


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As listed.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Take a key back; within seconds nobody gets in with it."""
    from infra.provision.postgres_keys import KeyRefusedError, revoke_key  # noqa: PLC0415

    with _managed(data_dir) as (stack, connection):
        try:
            key = revoke_key(connection, stack.tenant, key_id)
        except KeyRefusedError as error:
            raise StackError(str(error), "See `tollbook key list`.") from error
        if key.role == Role.ANALYST:
            _tell_clickhouse(stack, connection)
    if as_json:
        print(json.dumps(_content(key)))
    else:
        show(f"{key.key_id} ({key.role}, {key.name}) is revoked.")


@contextmanager
def _managed(data_dir: Path) -> "Iterator[tuple[Stack, Connection]]":
    """Yield a stack and its Postgres, for who holds an owner's key."""
    import psycopg  # noqa: PLC0415

    from infra.provision.postgres_keys import is_owner  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    try:
        with psycopg.connect(stack.postgres_dsn, autocommit=True) as connection:
            if not is_owner(connection, stack.tenant, stack.api_key):
                raise StackError(
                    f"the key in {data_dir / 'stack.json'} is no owner's key of {stack.tenant}",
                    "Only an owner manages keys.",
                )
            yield stack, connection
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise StackError(f"Postgres does not answer: {reason}", "See `tollbook status`.") from error


def _tell_clickhouse(stack: Stack, connection: "Connection") -> None:
    """Let a ClickHouse server know its analysts; the embedded engine's gateway knows them."""
    from infra.analysts import AccessError  # noqa: PLC0415
    from infra.provision.clickhouse_analysts import provision_analysts  # noqa: PLC0415
    from infra.provision.postgres_keys import analyst_keys  # noqa: PLC0415

    try:
        provision_analysts(stack.clickhouse_url, analyst_keys(connection))
    except AccessError as error:
        raise StackError(
            str(error), "The key is stored; `python -m infra.provision` makes the user."
        ) from error


def _address(stack: Stack) -> str:
    parts = urlsplit(stack.clickhouse_url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}"


def _content(key: "Key") -> dict[str, Any]:
    return {
        "id": key.key_id,
        "role": key.role,
        "name": key.name,
        "created_at": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "revoked_at": key.revoked_at and f"{key.revoked_at:%Y-%m-%dT%H:%M:%SZ}",
    }
