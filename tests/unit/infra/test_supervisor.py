"""The supervisor's rules, on parts that are a line of shell."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra.embedded import board as board_module
from infra.embedded.board import Board, StackState, read_state
from infra.embedded.cleaning import leftovers
from infra.embedded.config import PORT_NAMES, Secrets, StackConfig
from infra.embedded.kafka_server import _property
from infra.embedded.part import Part
from infra.embedded.supervisor import Supervisor, _levels, pause_seconds


def _config(folder: Path) -> StackConfig:
    ports = {name: number for number, name in enumerate(PORT_NAMES, 1)}
    return StackConfig(folder, ports, Secrets("p", "r", "c", "tb_k", "id"))


def _shell(name: str, line: str, *after: str, runs_once: bool = False) -> Part:
    # The last line keeps the shell from giving its place to the command before.
    command = ("/bin/sh", "-c", f"{line}\n:")
    return Part(name=name, command=command, after=after, ready_text="ready", runs_once=runs_once)


def _run(
    folder: Path, parts: list[Part], act: Callable[[StackState], Awaitable[None]]
) -> tuple[int, StackState]:
    """Run parts; once all are ready, act, then stop. Return exit status and last state."""
    board = Board(_config(folder), os.getpid())

    async def all_of_it() -> int:
        running = asyncio.create_task(Supervisor(_config(folder), parts, board).run())
        await _until(lambda: board.state.phase != "starting" or running.done())
        if board.state.phase == "ready":
            await act(board.state)
            os.kill(os.getpid(), signal.SIGTERM)
        return await running

    status = asyncio.run(asyncio.wait_for(all_of_it(), 20))
    state = read_state(folder)
    assert state is not None
    assert leftovers(folder) == []
    return status, state


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - the state is watched as `up` watches it
        await asyncio.sleep(0.01)


async def _nothing(_: StackState) -> None:
    return


def test_parts_start_when_those_they_wait_for_are_ready(tmp_path: Path) -> None:
    server = _shell("server", "sleep 0.2; echo up >> order; echo ready; sleep 60")
    task = _shell("task", "echo task >> order", "server", runs_once=True)
    user = _shell("user", "echo user >> order; echo ready; sleep 60", "task")
    status, state = _run(tmp_path, [user, task, server], _nothing)
    assert status == 0
    assert (tmp_path / "order").read_text().split() == ["up", "task", "user"]
    assert {part.state for part in state.parts.values()} == {"stopped", "done"}


def test_a_part_that_dies_is_started_again_and_its_leftovers_are_ended(tmp_path: Path) -> None:
    async def kill_it(state: StackState) -> None:
        first = state.parts["x"].pid
        os.kill(first, signal.SIGKILL)
        part = state.parts["x"]
        await _until(lambda: part.pid not in {0, first} and part.state == "ready")

    part = _shell("x", "sleep 61 & echo ready; sleep 60")
    status, state = _run(tmp_path, [part], kill_it)
    assert status == 0
    assert state.parts["x"].restarts == 1
    assert any("x was ended by SIGKILL" in text for _, _, text in state.events)


def test_a_part_that_never_starts_ends_the_stack_and_is_named(tmp_path: Path) -> None:
    good = _shell("good", "echo ready; sleep 60")
    bad = _shell("bad", "echo the reason; exit 3")
    status, state = _run(tmp_path, [good, bad], _nothing)
    assert status == 1
    assert state.phase == "failed"
    assert state.problem == "bad does not start: its last words were: the reason"
    assert "bad.log" in state.remedy
    assert not (tmp_path / "stack.json").exists()


def test_a_full_disk_ends_the_stack_at_the_first_try(tmp_path: Path) -> None:
    bad = _shell("bad", "echo try >> tries; echo No space left on device; exit 1")
    status, state = _run(tmp_path, [bad], _nothing)
    assert status == 1
    assert "the disk is full" in state.problem
    assert (tmp_path / "tries").read_text().split() == ["try"]


def test_a_part_that_does_not_listen_is_killed_in_the_end(tmp_path: Path) -> None:
    deaf = Part(
        name="deaf",
        command=("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"),
        ready_text="ready",
        stop_seconds=0.2,
    )
    status, state = _run(tmp_path, [deaf], _nothing)
    assert status == 0
    assert any("deaf did not stop" in text for _, _, text in state.events)


def test_pauses_double_and_end_at_ten_seconds() -> None:
    assert [pause_seconds(n) for n in (1, 2, 3, 7, 50)] == [0.2, 0.4, 0.8, 10.0, 10.0]


def test_parts_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        _levels([_shell("a", "", "b"), _shell("b", "", "a")])


def test_paths_reach_javas_properties_whole() -> None:
    assert _property(Path("/a b/c")) == "/a b/c"
    assert _property(Path("/ü\\日")) == "/\\u00fc\\u005c\\u65e5"


def test_the_addresses_are_there_before_the_state_says_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a command that waits for the state finds no stack."""
    written: list[str] = []
    monkeypatch.setattr(board_module, "write_private", lambda path, _: written.append(path.name))
    Board(_config(tmp_path), os.getpid()).enter("ready")
    assert written == ["stack.json", "state.json"]
