"""Numbered migrations: applied in order, once, and never changed afterwards."""

import pytest

from infra.provision.migrations import Migration, MigrationError, pending, read_migrations

ONE, TWO, THREE = (Migration(f"00{n}_x.sql", f"SELECT {n};\n") for n in (1, 2, 3))


def _applied(*migrations: Migration) -> dict[str, str]:
    return {migration.name: migration.checksum for migration in migrations}


def test_what_is_not_applied_is_pending_in_order() -> None:
    assert pending([ONE, TWO, THREE], {}) == [ONE, TWO, THREE]
    assert pending([ONE, TWO, THREE], _applied(ONE, TWO)) == [THREE]
    assert pending([ONE], _applied(ONE)) == []


def test_a_changed_migration_is_refused() -> None:
    changed = Migration(ONE.name, "SELECT 99;\n")
    with pytest.raises(MigrationError, match=r"001_x\.sql has changed"):
        pending([changed, TWO], _applied(ONE))


def test_a_migration_slipped_in_before_the_last_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"002_x\.sql has a number below 003"):
        pending([ONE, TWO, THREE], _applied(ONE, THREE))


def test_statements_end_at_a_semicolon_at_the_end_of_a_line() -> None:
    text = "-- a; comment\nSELECT ';' AS a;\n\nSELECT 2\n;\n-- the end\n"
    assert Migration("001_x.sql", text).statements() == [
        "-- a; comment\nSELECT ';' AS a",
        "SELECT 2",
    ]


def test_what_views_have_in_common_stands_in_each_with_its_own_word() -> None:
    text = next(each.text for each in read_migrations("clickhouse") if "VIEW" in each.text)
    assert "-- include" not in text
    assert "SECONDS" not in text
    for seconds in ("{seconds:UInt32}", "1", "3600", "86400"):
        assert text.count(f"toStartOfInterval(window_start, toIntervalSecond({seconds}))") == 1


@pytest.mark.parametrize("database", ["postgres", "clickhouse"])
def test_the_trees_migrations_are_numbered_without_gaps(database: str) -> None:
    numbers = [int(migration.name[:3]) for migration in read_migrations(database)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers
