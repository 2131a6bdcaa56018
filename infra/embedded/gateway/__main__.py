"""Starts the gateway: python -m infra.embedded.gateway --data-dir D --port P."""

import os

os.environ["TZ"] = "UTC"

import argparse
import fcntl
import logging
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO

from infra.embedded.gateway.analyst import open_analysts
from infra.embedded.gateway.chdb_engine import Engine
from infra.embedded.gateway.handler import Handler
from infra.embedded.gateway.kept import KeptConnections
from infra.embedded.gateway.limits import MIB, Limits
from infra.embedded.gateway.login import Logins
from infra.embedded.gateway.postgres_keys import open_keys
from infra.embedded.gateway.server import Server
from infra.embedded.gateway.sessions import Sessions

PASSWORD_VARIABLE = "TOLLBOOK_CLICKHOUSE_PASSWORD"
KEYS_VARIABLE = "TOLLBOOK_POSTGRES_DSN"
"""Where the keys of analysts are; without it only the owner is let in."""
ANALYST_VARIABLE = "TOLLBOOK_ANALYST_SECONDS_MAX"
"""How long a query of an analyst may take, where that differs from what is usual."""


def main() -> int:
    """Runs the gateway until SIGTERM or SIGINT; returns its exit status."""
    arguments = _parse_arguments()
    logging.basicConfig(
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password:
        return _refuse(f"set {PASSWORD_VARIABLE}: the gateway does not run without a password")
    data_dir = arguments.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock_directory(data_dir)
    if lock is None:
        return _refuse(f"{data_dir} is in use by another gateway; stop it or choose another")
    with lock:
        try:
            listener = socket.create_server(("127.0.0.1", arguments.port), backlog=256)
        except OSError as error:
            return _refuse(f"port {arguments.port} of 127.0.0.1 cannot be opened: {error.strerror}")
        dsn = os.environ.get(KEYS_VARIABLE)
        logins = Logins(password, open_keys(dsn) if dsn else None)
        _serve(listener, data_dir, logins, _read_limits(arguments))
    return 0


def _serve(listener: socket.socket, data_dir: Path, logins: Logins, limits: Limits) -> None:
    spool_dir = data_dir / "spool"
    spool_dir.mkdir(exist_ok=True)
    engine = Engine(data_dir, limits.memory_bytes_max)
    sessions = Sessions(engine, limits)
    kept = KeptConnections(engine, limits.kept_max)
    handler = Handler(
        engine,
        sessions,
        kept,
        limits,
        logins,
        open_analysts(engine, limits.analyst_seconds_max),
        spool_dir,
        slots=threading.BoundedSemaphore(limits.queries_max),
        analyst_slots=threading.BoundedSemaphore(limits.analyst_queries_max),
    )
    server = Server(handler, listener)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.is_stopping.set())
    logging.getLogger("tollbook.clickhouse").info(
        "ready port=%d engine=%s", listener.getsockname()[1], engine.version
    )
    is_clean = server.serve()
    if not is_clean:
        # Requests still run in the engine; closing it would wait for them. Disks hold what was
        # acknowledged, as they do after a crash.
        os._exit(2)
    sessions.close_all()
    kept.close_all()
    engine.close()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.gateway", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--memory-mib", type=int, default=2048, help="cap of the engine's memory")
    parser.add_argument("--connections-max", type=int, default=256)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    return parser.parse_args()


def _read_limits(arguments: argparse.Namespace) -> Limits:
    limits = Limits(
        memory_bytes_max=arguments.memory_mib * MIB, connections_max=arguments.connections_max
    )
    seconds = os.environ.get(ANALYST_VARIABLE)
    return limits if seconds is None else replace(limits, analyst_seconds_max=int(seconds))


def _lock_directory(data_dir: Path) -> IO[bytes] | None:
    """Returns the held lock file, or None where another process holds it."""
    lock = (data_dir / "gateway.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _refuse(reason: str) -> int:
    print(f"gateway: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
