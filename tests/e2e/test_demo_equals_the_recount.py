import json
from pathlib import Path

from infra.embedded.board import read_state
from tests.embedded_stack import run_tollbook


def test_two_months_of_flights_equal_the_recount_row_by_row(tmp_path: Path) -> None:
    folder = tmp_path / "a demo"
    done = run_tollbook("demo", "--months", "2", "--json", "--data-dir", str(folder), seconds=280)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["differences"] == 0
    compared = {check["name"]: check["compared"] for check in figures["checks"]}
    assert compared["events stored"] > 52_000
    assert compared["lines of corrections"] > 30
    assert compared["invoice totals"] > 60
    assert compared["lines of credits of changes"] == 2
    assert "kill -9 worker-0" in done.stderr
    assert "kill -9 close" in done.stderr
    state = read_state(folder)
    assert state is None or not state.is_up


def test_the_demo_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = run_tollbook("demo", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "is not empty" in done.stderr
