"""Sets the stage: a tenant that may send a year-old events, its meters, prices and customers."""

import json
import time
from pathlib import Path

import duckdb
import psycopg

from tollbook.demo.customers import customers_yaml
from tollbook.demo.tools import run_tollbook
from tollbook.stack_file import Stack

HERE = Path(__file__).parent
METERS = HERE / "meters.yaml"
PRICE_BOOK = HERE / "price_book.yaml"
LOUNGE_BOOKS = HERE / "lounge.yaml"

KEYS_REFRESHED_SECONDS = 4.0
"""Ingest reads its tenants anew every three seconds."""


def open_history(stack: Stack) -> float:
    """Open the tenant for old events and put it on a virtual clock; return when that counts."""
    with psycopg.connect(stack.postgres_dsn) as connection:
        connection.execute(
            "UPDATE tenants SET open_for_history = true, virtual_clock = true WHERE tenant = %s",
            (stack.tenant,),
        )
    return time.monotonic() + KEYS_REFRESHED_SECONDS


def apply_declarations(
    tables: duckdb.DuckDBPyConnection, data_dir: Path
) -> tuple[list[Path], list[dict[str, str]]]:
    """Apply meters, price books and airlines; return the files, and what became of each thing."""
    customers = data_dir / "airlines.yaml"
    customers.write_text(customers_yaml(tables))
    files = [METERS, PRICE_BOOK, LOUNGE_BOOKS, customers]
    answer = run_tollbook(["apply", *map(str, files), "--data-dir", str(data_dir), "--json"])
    return files, json.loads(answer)
