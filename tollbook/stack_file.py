"""`stack.json`: where a running stack answers, and with which key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote

from infra.embedded.board import STACK_FILE, read_state
from infra.embedded.errors import StackError

DEFAULT_DATA_DIR = Path(".tollbook")


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack, as `stack.json` tells it."""

    ingest_url: str
    api_url: str
    clickhouse_url: str
    postgres_dsn: str
    kafka_bootstrap: str
    redis_url: str
    tenant: str
    api_key: str
    pids: Mapping[str, int]


def read_stack(data_dir: Path = DEFAULT_DATA_DIR) -> Stack:
    """Return the stack that runs in a folder.

    Raises:
        StackError: none runs there, or the one that did was killed.
    """
    state = read_state(data_dir)
    try:
        known = json.loads((data_dir / STACK_FILE).read_text())
    except FileNotFoundError:
        known = None
    if known is None or state is None or not state.is_up:
        raise StackError(
            f"no stack is up in {data_dir}",
            f"Start one with `tollbook up --detach --data-dir {quote(str(data_dir))}`.",
        )
    return Stack(**{field.name: known[field.name] for field in fields(Stack)})
