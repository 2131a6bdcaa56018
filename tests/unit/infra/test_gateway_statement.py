"""The gateway finds an insert's data and a query's format, and is not fooled by strings."""

import pytest

from infra.embedded.gateway.errors import GatewayError
from infra.embedded.gateway.statement import first_word, read_statement


@pytest.mark.parametrize(
    ("text", "head", "name", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\x01", b"INSERT INTO t ", "Native", b"\x00\x01"),
        (b"insert into t (a) format CSV\r\n1;2", b"insert into t (a) ", "CSV", b"1;2"),
        (b"INSERT INTO t FORMAT TSV  \n\n1", b"INSERT INTO t ", "TSV", b"\n1"),
        (b'INSERT INTO t FORMAT JSONEachRow {"a": "; --"}', b"INSERT INTO t ", "JSONEachRow", None),
        (b"INSERT INTO t VALUES (1, 'FORMAT x')", b"INSERT INTO t ", "Values", b"(1, 'FORMAT x')"),
        (b"INSERT INTO format FORMAT CSV\n1", b"INSERT INTO format ", "CSV", b"1"),
        (b"INSERT INTO values VALUES (1)", b"INSERT INTO values ", "Values", b"(1)"),
        (b"INSERT INTO `values` VALUES (1)", b"INSERT INTO `values` ", "Values", b"(1)"),
        (b"/* FORMAT x */ INSERT INTO t SETTINGS a = 'FORMAT y' FORMAT TSV\n1", None, "TSV", b"1"),
        (b"-- VALUES\nINSERT INTO t (`format`) FORMAT TSV\n1", None, "TSV", b"1"),
    ],
)
def test_the_data_of_an_insert_begins_after_its_format(
    text: bytes, head: bytes | None, name: str, data: bytes | None
) -> None:
    statement = read_statement(text)
    assert statement.kind == "INSERT"
    assert statement.format == name
    assert head is None or statement.head == head
    assert statement.data == (data if data is not None else b'{"a": "; --"}')


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t SELECT * FROM values('a UInt8', 1)",
        b"INSERT INTO t WITH 1 AS values SELECT values",
        b"INSERT INTO t (a) SELECT 'FORMAT TSV'",
        b"INSERT INTO t SELECT a AS format FROM u",
        b"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
    ],
)
def test_an_insert_that_selects_has_no_data(text: bytes) -> None:
    statement = read_statement(text)
    assert (statement.kind, statement.data, statement.head) == ("INSERT", None, text)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        (b"SELECT 1", "SELECT", None),
        (b"select 1 format Native", "SELECT", "Native"),
        (b"SELECT a FROM t ORDER BY offset, index FORMAT Arrow", "SELECT", "Arrow"),
        (b"SELECT view FROM t GROUP BY view FORMAT TSV", "SELECT", "TSV"),
        (b"SELECT a FROM t ORDER BY offset FORMAT CSV", "SELECT", "CSV"),
        (b"SELECT 1\n FORMAT\tJSON ; -- done\n", "SELECT", "JSON"),
        (b"SELECT format('{}', 'FORMAT CSV') SETTINGS max_threads = 1", "SELECT", None),
        (b"(SELECT 1) UNION ALL (SELECT 2 ) FORMAT TSV", "SELECT", "TSV"),
        (b"WITH 1 AS x SELECT 'it''s; fine', \"a;b\", `c;d`, $t$ ; $t$ FORMAT TSV", "WITH", "TSV"),
        (b"SELECT 'back\\'slash; ' FORMAT CSV", "SELECT", "CSV"),
        (b"# comment\n#! other\nSHOW TABLES", "SHOW", None),
        (b"EXPLAIN SELECT 1 FORMAT TSV", "EXPLAIN", "TSV"),
        (b"SELECT 1 FORMAT TSV SETTINGS max_threads = 1", "SELECT", "TSV"),
        (b"SELECT 1 SETTINGS max_threads = 1 FORMAT TSV", "SELECT", "TSV"),
        (b"SELECT * FROM t FORMAT TSV", "SELECT", "TSV"),
        (b"SELECT * FROM t ORDER BY a DESC FORMAT TSV", "SELECT", "TSV"),
        (b"SELECT * FROM t ORDER BY a LIMIT 5 FORMAT TSV", "SELECT", "TSV"),
        (b"SELECT 1 AS format FROM t", "SELECT", None),
        (b"SELECT format FROM t", "SELECT", None),
        (b"SELECT a FROM t ORDER BY a, format DESC", "SELECT", None),
        (b"SELECT a FROM t ORDER BY format DESC", "SELECT", None),
        (b"SELECT a FROM format AS f FORMAT CSV", "SELECT", "CSV"),
        (b"SELECT format FROM t FORMAT CSV", "SELECT", "CSV"),
        (b"ALTER TABLE t DROP COLUMN format", "ALTER", None),
        (b"SELECT x.format FROM x", "SELECT", None),
        (b"  ", "", None),
    ],
)
def test_kind_and_format_are_read_outside_strings_and_comments(
    text: bytes, kind: str, name: str | None
) -> None:
    statement = read_statement(text)
    assert (statement.kind, statement.format) == (kind, name)
    assert statement.head == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SELECT 1; SELECT 2", 62),
        (b"SELECT 1;;", 62),
        (b"SELECT 1; /* x */ DROP TABLE t", 62),
        (b"INSERT INTO t SELECT 1; DROP TABLE t", 62),
        (b"SELECT 1 INTO /* x */ OUTFILE 'a'", 358),
        (b"(SELECT 1) into outfile 'a' FORMAT CSV", 358),
        (b"INSERT INTO t FROM\nINFILE 'a' FORMAT CSV", 344),
    ],
)
def test_several_statements_and_files_of_the_gateway_are_refused(text: bytes, code: int) -> None:
    with pytest.raises(GatewayError) as caught:
        read_statement(text)
    assert caught.value.code == code


def test_the_first_word_skips_comments() -> None:
    assert first_word(b" /* a */ -- b\n insert into t") == "INSERT"
    assert first_word(b"") == ""
