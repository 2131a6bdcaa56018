"""`python -m infra.embedded`: the supervisor process of one stack; `tollbook up` starts it."""

import argparse
import asyncio
import fcntl
import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import IO

from infra.embedded.board import Board
from infra.embedded.cleaning import clean_up, count_of
from infra.embedded.config import SILENT_SECONDS_MAX, StackConfig, choose_ports, open_secrets
from infra.embedded.errors import StackError
from infra.embedded.plan import plan_parts, plan_workers
from infra.embedded.supervisor import Supervisor

_LOCK_SECONDS = 2.0


def main() -> int:
    """Run a stack until SIGTERM; return the exit status."""
    options = _read_options()
    data_dir = options.data_dir.resolve()
    with _own(data_dir):
        left = clean_up(data_dir)
        config = StackConfig(
            data_dir=data_dir,
            ports=choose_ports(data_dir, _told_ports(options.port)),
            secrets=open_secrets(data_dir),
            workers=options.workers,
            ingest_processes=options.ingest_processes,
            partitions=options.partitions,
            silent_seconds_max=options.silent_seconds_max,
        )
        board = Board(config, os.getpid())
        if left:
            board.tell(f"ended {count_of(left)} left over from a stack that was killed")
        return asyncio.run(_run(config, board))


async def _run(config: StackConfig, board: Board) -> int:
    workers_of = functools.partial(plan_workers, config)
    return await Supervisor(config, plan_parts(config), board, workers_of).run()


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.embedded", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ingest-processes", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--silent-seconds-max", type=float, default=SILENT_SECONDS_MAX)
    return parser.parse_args()


def _told_ports(words: list[str]) -> dict[str, int]:
    return {name: int(number) for name, _, number in (word.partition("=") for word in words)}


def _own(data_dir: Path) -> IO[bytes]:
    """Take the folder for this process alone, until it ends in whatever way."""
    file = (data_dir / "supervisor.lock").open("ab")
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StackError(
                    f"another supervisor runs the stack in {data_dir}",
                    "End it with `tollbook down`.",
                ) from None
            time.sleep(0.05)
        else:
            return file


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        # One line of JSON, for `up` to read from the log.
        sys.exit(json.dumps({"problem": error.problem, "remedy": error.remedy}))
