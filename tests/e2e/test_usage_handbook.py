"""The calls of the handbook of usage answer as it says, one after the other, as a tenant's own."""

import csv
import hashlib
import io
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import psycopg

from tests.analysts import make_tenant
from tests.e2e.test_api_handbook import is_part
from tests.embedded_stack import HTTP, EmbeddedStack, wait_until
from tollbook.stack_file import Stack

TEXT = (Path(__file__).parents[2] / "docs" / "usage.md").read_text()
CALLS = re.findall(r"```sh\n(.*?)```\n(?:\n+```(json|csv)\n(.*?)```)?", TEXT, re.DOTALL)
NAME, KEY = "usage-handbook", "tb_usage_handbook"


def call(stack: Stack, command: str) -> tuple[str, str]:
    """Make the call of a command line, and return its method and what it answers."""
    for name, value in (("API", stack.api_url), ("INGEST", stack.ingest_url), ("KEY", KEY)):
        command = re.sub(rf"\${name}\b", value, command)
    words = shlex.split(command.replace("\\\n", " "))
    given = {word: after for word, after in pairwise(words) if word in ("-X", "-d")}
    headers = [after.split(": ", 1) for word, after in pairwise(words) if word == "-H"]
    [address] = [word for word in words if word.startswith("http")]
    method = given.get("-X", "POST" if "-d" in given else "GET")
    answer = HTTP.request(method, address, headers=dict(headers), content=given.get("-d"))
    assert answer.is_success, (command, answer.text)
    return method, answer.text


def is_shown(kind: str, shown: str, found: str) -> bool:
    if kind == "json":
        return is_part(json.loads(shown), json.loads(found))
    return list(csv.reader(io.StringIO(shown))) == list(csv.reader(io.StringIO(found)))


def test_each_call_answers_as_the_handbook_shows(stack: EmbeddedStack) -> None:
    known = stack.read()
    make_tenant(known, NAME)
    with psycopg.connect(known.postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO api_keys (key_hash, tenant, name, role) VALUES (%s, %s, 'test', 'owner')",
            (hashlib.sha256(KEY.encode()).digest(), NAME),
        )
    knocks = f"{known.ingest_url}/v1/events"
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    wait_until(lambda: HTTP.post(knocks, headers=headers).status_code != 401, 20)
    assert len(CALLS) == TEXT.count("```sh")
    for command, kind, shown in CALLS:
        answers_as_shown(known, command, kind, shown)


def answers_as_shown(stack: Stack, command: str, kind: str, shown: str) -> None:
    method, found = call(stack, command)
    if method != "GET":
        assert not kind or is_shown(kind, shown, found), (command, found)
        return
    # What was sent before it is counted in a moment.
    wait_until(lambda: is_shown(kind, shown, call(stack, command)[1]), 20, lambda: (command, found))
