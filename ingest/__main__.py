"""`python -m ingest`: a small parent and its workers on one port.

Settings come from the environment: `TOLLBOOK_INGEST_HOST`, `_PORT`, `_WORKERS`,
`TOLLBOOK_KAFKA_BOOTSTRAP`, `TOLLBOOK_POSTGRES_DSN`, and the limits of `ingest.limits`.
"""

import logging
import os
import sys

from ingest import linux_workers
from ingest.without_pandas import keep_out_pandas


def main() -> int:
    """Run the parent, or a worker where the parent started this process."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s %(levelname)s %(message)s")
    parent = os.environ.get("TOLLBOOK_INGEST_PARENT")
    if parent is None:
        return _run_parent()
    linux_workers.die_with_parent(int(parent))
    keep_out_pandas()
    # The parent stays small: only workers load the servers' machinery.
    from ingest.uvloop_worker import WorkerSettings, run_worker  # noqa: PLC0415

    try:
        settings = WorkerSettings.from_environment(os.environ)
    except KeyError as error:
        sys.stderr.write(f"ingest: {error.args[0]} is not set\n")
        return linux_workers.MISCONFIGURED
    except ValueError as error:
        sys.stderr.write(f"ingest: {error}\n")
        return linux_workers.MISCONFIGURED
    return run_worker(settings)


def _run_parent() -> int:
    host = os.environ.get("TOLLBOOK_INGEST_HOST", "127.0.0.1")
    try:
        port = int(os.environ.get("TOLLBOOK_INGEST_PORT", "0"))
        count = max(1, int(os.environ.get("TOLLBOOK_INGEST_WORKERS", "1")))
        reserved = linux_workers.reserve_port(host, port)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"ingest: {error}\n")
        return linux_workers.MISCONFIGURED
    port = reserved.getsockname()[1]
    sys.stderr.write(f"ingest on http://{host}:{port}, {count} workers\n")
    environment = {**os.environ, "TOLLBOOK_INGEST_PORT": str(port)}
    # As this one was started: with -P, what the current directory holds is not imported.
    command = [sys.executable, *["-P"] * sys.flags.safe_path, "-m", "ingest"]
    return linux_workers.Workers(command, count, environment).run()


if __name__ == "__main__":
    sys.exit(main())
