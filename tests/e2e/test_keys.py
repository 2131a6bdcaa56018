"""Keys are made, listed and taken back by an owner, and open what their role says, no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from infra.embedded.board import STACK_FILE
from infra.provision.postgres_keys import KeyRefusedError, list_keys, revoke_key
from tests.analysts import Login
from tests.embedded_stack import HTTP, EmbeddedStack, run_tollbook, wait_until
from tollbook.stack_file import Stack


def create(stack: EmbeddedStack, role: str, name: str = "a test's") -> dict[str, Any]:
    made = run_tollbook(
        *("key", "create", "--role", role, "--name", name, "--json"),
        *("--data-dir", str(stack.data_dir)),
    )
    assert made.returncode == 0, made.stderr
    content: dict[str, Any] = json.loads(made.stdout)
    return content


def login_of(made: dict[str, Any]) -> Login:
    url = httpx.URL(made["url"])
    assert url.port is not None
    return Login(url.host, url.port, made["user"], made["key"])


def send(stack: Stack, key: str) -> int:
    event = {"specversion": "1.0", "id": "1", "source": "keys", "type": "keys", "subject": "s"}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents+json"}
    url = f"{stack.ingest_url}/v1/events"
    return HTTP.post(url, content=json.dumps(event), headers=headers, timeout=20).status_code


def test_an_analysts_key_reads_clickhouse_until_it_is_revoked(stack: EmbeddedStack) -> None:
    made = create(stack, "analyst")
    login = login_of(made)
    assert login.ask("SELECT count() >= 0 FROM usage_daily") == (200, "1\n")
    where = ("--data-dir", str(stack.data_dir))
    listed = run_tollbook("key", "list", *where).stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    revoked = run_tollbook("key", "revoke", made["id"], "--json", *where)
    assert json.loads(revoked.stdout)["revoked_at"] is not None
    wait_until(lambda: login.ask("SELECT 1")[0] == 403, 30)
    again = run_tollbook("key", "revoke", made["id"], "--json", *where)
    assert json.loads(again.stdout) == json.loads(revoked.stdout)


def test_a_key_opens_what_its_role_says_and_no_more(stack: EmbeddedStack) -> None:
    known = stack.read()
    owner, ingest, analyst = (create(stack, role) for role in ("owner", "ingest", "analyst"))
    # Ingest knows a new key a second later, at most.
    wait_until(lambda: send(known, analyst["key"]) == 403, 30)
    wait_until(lambda: send(known, ingest["key"]) == 204, 30)
    wait_until(lambda: send(known, owner["key"]) == 204, 30)
    meters = f"{known.api_url}/v1/meters"
    statuses = [
        HTTP.get(meters, headers={"Authorization": f"Bearer {each['key']}"}).status_code
        for each in (owner, ingest, analyst)
    ]
    assert statuses == [200, 403, 200]
    right = login_of(analyst)
    for each in (owner, ingest):
        wrong = Login(right.host, right.port, right.user, each["key"])
        assert wrong.ask("SELECT 1")[0] == 403


def test_nobody_but_an_owner_manages_keys(stack: EmbeddedStack, tmp_path: Path) -> None:
    for path in stack.data_dir.glob("*.json"):
        shutil.copy(path, tmp_path)
    content = json.loads((tmp_path / STACK_FILE).read_text())
    content["api_key"] = create(stack, "ingest")["key"]
    (tmp_path / STACK_FILE).write_text(json.dumps(content))
    for command in (["create", "--role", "owner"], ["list"], ["revoke", "0" * 12]):
        done = run_tollbook("key", *command, "--data-dir", str(tmp_path))
        assert done.returncode == 1
        assert "no owner's key" in done.stderr


def test_the_last_owners_key_stays(stack: EmbeddedStack) -> None:
    with psycopg.connect(stack.read().postgres_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO tenants (tenant, name) VALUES ('lone', 'L')")
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES"
            " (sha256('lone 1'), 'lone', 'k', 'owner'), (sha256('lone 2'), 'lone', 'k', 'owner')"
        )
        first, second = list_keys(connection, "lone")
        assert revoke_key(connection, "lone", first.key_id).revoked_at is not None
        with pytest.raises(KeyRefusedError, match="last owner"):
            revoke_key(connection, "lone", second.key_id)
        with pytest.raises(KeyRefusedError, match="there is no key"):
            revoke_key(connection, "default", second.key_id)
