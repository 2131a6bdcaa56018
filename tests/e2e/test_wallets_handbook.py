"""docs/wallets.md tells the truth: its commands run in order, and its tables are what they show."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from infra.embedded.board import STACK_FILE, STATE_FILE
from tests.embedded_stack import EmbeddedStack
from tollbook.cli import build

TEXT = (Path(__file__).parents[2] / "docs" / "wallets.md").read_text()
[YAML] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
COMMAND = re.compile(r"^    tollbook (.*)$")
TENANT = "wallet-handbook"


@dataclass
class Reader:
    """Somebody who does what the handbook says."""

    folder: Path

    def run(self, words: list[str]) -> str:
        words = [str(self.folder / one) if one == "plan.yaml" else one for one in words]
        done = CliRunner().invoke(build(), [*words, "--data-dir", str(self.folder)])
        assert done.exit_code == 0, f"{words}: {done.output} {done.exception}"
        return done.output

    def ask(self, *words: str) -> Any:
        return json.loads(self.run([*words, "--json"]))

    def table(self, heads: list[str]) -> list[dict[str, Any]]:
        """Return what a table of the handbook is about, as it is now."""
        found: list[dict[str, Any]]
        if heads[0] == "wallet":
            found = [one | {"wallet": one["key"]} for one in self.ask("wallet", "list")]
        elif heads[0] == "grant":
            grants = self.ask("wallet", "show", "UA-USD")["grants"]
            found = [one | {"grant": one["key"]} for one in grants]
        elif heads[0] == "invoice":
            found = [
                one | {"invoice": one["number"], "in money": one["amount_due"]}
                for one in self.ask("invoice", "list")
            ]
        else:
            balances = self.ask("ledger", "trial-balance")["accounts"]
            found = [one for one in balances if one["balance_minor"]]
        return [{head: one[head] for head in heads} for one in found]


@pytest.fixture
def reader(stack: EmbeddedStack, tmp_path: Path) -> Reader:
    """Yield the reader, to whom the stack is that of a tenant of their own."""
    shutil.copy(stack.data_dir / STATE_FILE, tmp_path)
    known = json.loads((stack.data_dir / STACK_FILE).read_text())
    (tmp_path / STACK_FILE).write_text(json.dumps(known | {"tenant": TENANT}))
    (tmp_path / "plan.yaml").write_text(YAML)
    with psycopg.connect(stack.read().postgres_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO tenants (tenant, name) VALUES (%s, 'H')", (TENANT,))
    return Reader(tmp_path)


def test_each_command_does_and_each_table_shows_what_the_handbook_says(reader: Reader) -> None:
    lines = iter(TEXT.partition("## Rules")[0].splitlines())
    tables, said = 0, ""
    for line in lines:
        if match := COMMAND.match(line):
            said = reader.run(shlex.split(match[1]))
        elif line.startswith("| "):
            heads = [cell.strip() for cell in line.strip("|").split("|")]
            next(lines)
            shown = []
            while (row := next(lines, "")).startswith("|"):
                cells = [cell.strip() for cell in row.strip("|").split("|")]
                shown.append(dict(zip(heads, cells, strict=True)))
            key = heads[0]
            now = sorted(reader.table(heads), key=lambda one: str(one[key]))
            assert now == sorted(shown, key=lambda one: str(one[key]))
            tables += 1
    assert tables == 4
    assert "promotional_credit" in said
    invoice = reader.run(["invoice", "show", "MAIN-INV-2013-000002", "--trace"])
    assert re.search(r"prepaid credit services of wallet UA-USD +-30\.00", invoice)
    assert re.search(r"in money +5\.00", invoice)
