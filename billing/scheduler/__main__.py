"""Does what falls due by the world's clock: `python -m billing.scheduler`.

Any number may run: each work is done once, in order. Ends with status 0 on SIGTERM, after the work
at hand, and with another status on any fault, for its supervisor to start it again.
"""

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime

import psycopg

from billing.postgres_due_work import do_due_work

_LOOK_SECONDS = 1.0


def main() -> int:
    """Do what is due until told to stop."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with psycopg.connect(os.environ["TOLLBOOK_POSTGRES_DSN"], autocommit=True) as connection:
        _say("ready: does what falls due")
        while not stopping.wait(_LOOK_SECONDS):
            done = do_due_work(connection, datetime.now(UTC), stops=stopping.is_set)
            if done:
                _say(f"done work={done}")
    return 0


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{now} scheduler pid={os.getpid()} {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
