"""Logs turn over by size while a process writes on, and their last lines are explained."""

from pathlib import Path

import pytest

from infra.embedded import logs


def test_a_log_turns_over_when_it_is_large_and_three_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with logs.open_log(path) as writer:
        for number in range(6):
            writer.write(f"{number}".encode() * 10)
            writer.flush()
            assert logs.rotate(path, 5)
            assert path.stat().st_size == 0
        writer.write(b"on")
    assert path.read_bytes() == b"on"
    kept = {entry.name: entry.read_text()[0] for entry in tmp_path.iterdir()}
    assert kept == {"x.log": "o", "x.log.1": "5", "x.log.2": "4", "x.log.3": "3"}


def test_a_small_log_and_a_missing_one_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert not logs.rotate(path, 5)
    path.write_text("12345")
    assert not logs.rotate(path, 5)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("initdb: error: could not write: No space left on device", "the disk is full"),
        ("java.io.IOException: No space left on device", "the disk is full"),
        ("Could not create server TCP listening socket: bind: Address already in use", "its port"),
        ("java.net.BindException: Address already in use", "its port is taken"),
        ("There is insufficient memory for the Java Runtime Environment", "not enough memory"),
    ],
)
def test_known_words_of_servers_are_explained_with_a_remedy(line: str, problem: str) -> None:
    told, remedy = logs.explain(f"before\n{line}\nafter", Path("/d/logs/x.log"), Path("/d"))
    assert problem in told
    assert remedy
    assert logs.is_hopeless(line)


def test_unknown_words_are_passed_on_with_the_log_they_stand_in() -> None:
    told, remedy = logs.explain("one\n  two\n\n", Path("/d/logs/x.log"), Path("/d"))
    assert told == "its last words were: two"
    assert "/d/logs/x.log" in remedy
    assert not logs.is_hopeless("one two")


def test_the_tail_starts_where_a_start_began_unless_the_log_was_turned_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.log"
    path.write_text("before now")
    assert logs.tail(path, 7) == "now"
    assert logs.tail(path, 99) == "before now"
    assert logs.tail(tmp_path / "none.log") == ""
