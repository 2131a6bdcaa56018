"""What somebody meets who has read nothing: help in words, and errors that say what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tollbook import cli, usage_commands


def run(*arguments: str) -> str:
    """Return what a command says that fails."""
    done = CliRunner().invoke(cli.build(), list(arguments), env={"COLUMNS": "400"})
    assert done.exit_code != 0
    text = f"{done.output} {done.exception}"
    assert "Traceback" not in text
    return " ".join(text.replace("│", " ").split())


def commands(app: typer.Typer, words: list[str]) -> Iterator[list[str]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield [*words, command.name or command.callback.__name__.replace("_", "-")]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, [*words, str(group.name)])


def test_every_value_of_every_command_has_a_name_in_capitals() -> None:
    seen = 0
    for words in commands(cli.build(), []):
        done = CliRunner().invoke(cli.build(), [*words, "--help"], env={"COLUMNS": "400"})
        assert done.exit_code == 0
        for line in done.output.splitlines():
            what = line.strip("│ *").split()
            if what and what[0].startswith("--") and what[0] != "--help":
                assert what[1] == "<bool>" or "|" in what[1] or what[1].isupper(), (words, line)
                seen += 1
            if "Usage:" in line:
                assert line.partition("[OPTIONS]")[2] == line.partition("[OPTIONS]")[2].upper()
    assert seen > 100


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("ingest=99999", "from 1 to 65535"),
        ("ingest=0", "from 1 to 65535"),
        ("ingest", "not NAME=NUMBER, such as ingest=8080"),
        ("=80", "not NAME=NUMBER"),
        ("ingest=²", "not NAME=NUMBER"),
    ],
)
def test_a_port_that_is_none_is_told_with_what_is_one(word: str, told: str, tmp_path: Path) -> None:
    assert told in run("up", "--detach", "--data-dir", str(tmp_path), "--port", word)


def test_a_file_that_is_not_there_is_named_once_and_before_the_stack(tmp_path: Path) -> None:
    missing, none = str(tmp_path / "no.yaml"), str(tmp_path / "none")
    assert run("price-book", "rate", missing, "--charge", "x").count(missing) == 1
    said = run("send", missing, "--data-dir", none)
    assert f"{missing} does not exist" in said
    assert "stack" not in said
    assert "is not a file" in run("send", str(tmp_path), "--data-dir", none)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--time-zone", "Mars/Base"), "--time-zone: not a time zone: Mars/Base"),
        (("--from", "soon"), "--from: not an instant"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "--to: not after --from"),
        (("--window", "7m"), "--window: not one of 1m, 1h"),
    ],
)
def test_what_cannot_be_asked_is_told_by_the_option_that_was_written(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_commands, "read_stack", lambda _: None)
    said = run("usage", "query", "calls", *words)
    assert told in said
    assert "window_time_zone" not in said


def test_nothing_to_end_is_no_reason_to_start(tmp_path: Path) -> None:
    said = run("down", "--data-dir", str(tmp_path))
    assert "no stack is up" in said
    assert "tollbook up" not in said


@pytest.mark.parametrize("reason", ["", " ", "x" * 1001])
def test_second_thoughts_need_a_reason(reason: str) -> None:
    days = ("--from", "2026-03-01T00:00:00Z", "--to", "2026-03-02T00:00:00Z", "--subject", "s")
    for words in (("event", "void", "web", "1"), ("replacement", "open", *days)):
        assert "'--reason': say why, in 1 to 1,000 characters" in run(*words, "--reason", reason)
