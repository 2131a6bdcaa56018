"""Every table and view is accounted for, and a server's rights hold in the engine that has them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest

from infra.analysts import (
    BOUNDS,
    CLOSED_TABLES,
    READABLE,
    SIZED_VIEWS,
    TENANT_TABLES,
    VIEWS,
)
from infra.embedded.gateway.chdb_engine import quote_text
from infra.provision.clickhouse_analysts import AnalystKey, rights, user_statements
from infra.provision.clickhouse_schema import migrate_clickhouse
from infra.provision.migrations import read_migrations
from tests.analysts import fill_tables
from tests.conformance.gateway_process import PASSWORD, GatewayProcess

MINE, RIVAL, HIDDEN, ROWS = "rights-mine", "rights-rival", "zk7hidden", 20
KEY = AnalystKey(MINE, bytes(range(32)))
FUNCTIONS = Path(__file__).parents[2] / "infra" / "embedded" / "gateway" / "analyst_functions.txt"


@pytest.fixture(scope="module")
def database(gateway: GatewayProcess) -> Iterator[Any]:
    address = f"http://owner:{quote(PASSWORD, safe='')}@127.0.0.1:{gateway.port}/tollbook"
    assert migrate_clickhouse(address, read_migrations("clickhouse"))
    client = gateway.connect(database="tollbook")
    fill_tables(client, {MINE: "mine", RIVAL: HIDDEN}, ROWS)
    yield client
    client.close()


def test_each_table_is_open_closed_or_limited_to_a_tenant(database: Any) -> None:
    tables = database.query(
        "SELECT name, engine = 'View', has(groupArray(c.name), 'tenant') FROM system.tables AS t"
        " LEFT JOIN system.columns AS c ON c.database = t.database AND c.table = t.name"
        " WHERE t.database = 'tollbook' GROUP BY ALL"
    ).result_rows
    named = {*READABLE, *CLOSED_TABLES}
    assert {name for name, *_ in tables} == named, "say in infra/analysts.py who may read it"
    assert {name for name, is_view, _ in tables if is_view} == {*VIEWS, *SIZED_VIEWS}
    with_tenant = {name for name, is_view, has_tenant in tables if has_tenant and not is_view}
    assert with_tenant == set(TENANT_TABLES)


def test_views_read_tables_of_tenants_only(database: Any) -> None:
    for view in (*VIEWS, *SIZED_VIEWS):
        found = database.query(
            f"SELECT as_select FROM system.tables WHERE database = 'tollbook' AND name = '{view}'"
        )
        query = found.result_rows[0][0].replace("{seconds:UInt32}", "60")
        tree = database.query(f"EXPLAIN QUERY TREE {query}").result_rows
        lines = "\n".join(row[0] for row in tree)
        read = set(re.findall(r"table_(?:function_)?name: tollbook\.(\w+)", lines))
        assert read
        assert read <= set(TENANT_TABLES)


def test_every_table_and_column_says_what_it_is(database: Any) -> None:
    silent = database.query(
        "SELECT name, '' FROM system.tables WHERE database = 'tollbook' AND comment = ''"
        " UNION ALL"
        " SELECT table, name FROM system.columns WHERE database = 'tollbook' AND comment = ''"
        " ORDER BY ALL"
    ).result_rows
    assert [f"{table}.{column}" for table, column in silent] == []


def test_each_allowed_function_is_one_of_the_engine(database: Any) -> None:
    lines = FUNCTIONS.read_text().splitlines()
    listed = {name for line in lines if not line.startswith("#") for name in line.split()}
    assert len(listed) > 1000
    known = database.query("SELECT name FROM system.functions WHERE alias_to = ''").result_rows
    assert listed - {row[0] for row in known} == set()


def test_a_server_gets_statements_that_its_parser_takes(database: Any) -> None:
    statements = [*rights("tollbook", [MINE, RIVAL]), *user_statements(KEY)]
    for statement in statements:
        assert database.query(f"EXPLAIN AST {statement}").result_rows
    for table in TENANT_TABLES:
        for tenant in (MINE, RIVAL):
            wanted = (
                f"CREATE ROW POLICY OR REPLACE `tollbook_analyst_{tenant}` ON `tollbook`.{table}"
                f" AS RESTRICTIVE FOR SELECT USING tenant = '{tenant}'"
                f" TO `tollbook_analyst_{tenant}`"
            )
            assert wanted in statements
    granted = [s for s in statements if s.startswith("GRANT SELECT") and MINE in s]
    assert len(granted) == len(READABLE)


def test_a_servers_rights_show_one_tenant_and_change_nothing(
    gateway: GatewayProcess, database: Any
) -> None:
    """The engine's own grants, row policies and profile, as the statements say them.

    Embedded, it takes them from a file for its one user, instead of from statements.
    """
    assert database.command("SELECT count() FROM usage_events") == 2 * ROWS
    gateway.stop()
    _limit(gateway.data_dir)
    limited = _Limited(gateway.data_dir)
    for name in (*TENANT_TABLES, *VIEWS):
        limited.expect(f"SELECT DISTINCT tenant FROM tollbook.{name}", f"{MINE}\n")
        trap = f"intDiv(10, tenant = '{MINE}') = 10"
        limited.expect(f"SELECT uniqExact(tenant) FROM tollbook.{name} WHERE {trap}", "1\n")
        limited.show(f"SELECT * FROM tollbook.{name}")
    limited.expect("SELECT uniqExact(id) FROM merge('tollbook', 'usage_events')", f"{ROWS}\n")
    limited.show("SELECT * FROM merge('tollbook', '^usage_(events|windows)')")
    limited.expect("SELECT max(next_offset) > 0 FROM tollbook.usage_progress", "0\n")
    for refused in (
        "SELECT * FROM mergeTreeIndex('tollbook', 'usage_events')",
        "SELECT * FROM tollbook.usage_identities",
        "SELECT (SELECT any(hex(identity)) FROM tollbook.usage_identities)",
        "SELECT 1 WHERE ('', 0, 0, 0, 0, '') IN tollbook.usage_identities",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM remote('127.0.0.1', tollbook.usage_events)",
        "SELECT count() FROM tollbook.usage_events SETTINGS readonly = 0",
        "SELECT count() FROM tollbook.usage_events SETTINGS max_memory_usage = 0",
        "SET readonly = 0",
        "CREATE TEMPORARY TABLE x AS SELECT 1",
        "INSERT INTO tollbook.usage_events (tenant) VALUES ('x')",
        "ALTER TABLE tollbook.usage_events DELETE WHERE 1",
        "DROP TABLE tollbook.usage_events",
        "SELECT name FROM system.users",
    ):
        limited.refuse(refused)
    limited.run()


class _Limited:
    """Collects what is asked, runs it at once in a process of its own, and compares."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.asked: list[tuple[str, str | None]] = []

    def expect(self, query: str, answer: str) -> None:
        self.asked.append((query, answer))

    def show(self, query: str) -> None:
        self.asked.append((query, None))

    def refuse(self, query: str) -> None:
        self.asked.append((query, "refused: "))

    def run(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.conformance.limited_engine", self.data_dir],
            input=json.dumps([query for query, _ in self.asked]),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        for (query, wanted), answer in zip(self.asked, json.loads(done.stdout), strict=True):
            assert HIDDEN not in answer, query
            if wanted is None:
                assert "mine" in answer, query
            elif wanted == "refused: ":
                assert answer.startswith(wanted), query
            else:
                assert answer == wanted, query


def _limit(data_dir: Path) -> None:
    """Write the statements of a tenant's rights as the file that an embedded engine reads."""
    grants, policies = [], {}
    for statement in rights("tollbook", [MINE]):
        if statement.startswith("GRANT SELECT"):
            grants.append(f"<query>{statement.rpartition(' TO ')[0]}</query>")
        found = re.search(r"ON `tollbook`\.(\w+) AS RESTRICTIVE .* USING (.*) TO", statement)
        if found:
            policies[found[1]] = f"<{found[1]}><filter>{escape(found[2])}</filter></{found[1]}>"
    assert set(policies) == set(TENANT_TABLES)
    bounds = "".join(f"<{name}>{text}</{name}>" for name, text in BOUNDS.items())
    users = (
        f"<clickhouse><profiles><default/><limited><readonly>1</readonly>{bounds}</limited>"
        "</profiles><quotas><default/></quotas><users><default><password></password>"
        "<networks><ip>::/0</ip></networks><profile>limited</profile><quota>default</quota>"
        f"<grants>{''.join(grants)}</grants>"
        f"<databases><tollbook>{''.join(policies.values())}</tollbook></databases>"
        "</default></users></clickhouse>"
    )
    (data_dir / "limited-users.xml").write_text(users)
    path = escape(str(data_dir / "limited-users.xml"))
    (data_dir / "limited.xml").write_text(
        f"<clickhouse><users_config>{path}</users_config></clickhouse>"
    )
    assert quote_text(MINE) in users
