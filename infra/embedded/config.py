"""What one stack is: its folder, ports, secrets and sizes, kept over `down` and `up`."""

import base64
import importlib.util
import json
import os
import random
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from infra.embedded.errors import StackError

HOST = "127.0.0.1"
DATABASE = "tollbook"
OWNER = "owner"
TENANT = "default"
WORKER = "worker-"
"""How the names of dataflow workers begin."""

SILENT_SECONDS_MAX = 30.0
"""A part that has not answered for so long hangs: a busy one answers within that time."""

PORT_NAMES = (
    "ingest", "api", "clickhouse", "postgres", "redis", "kafka", "kafka-controller",
)  # fmt: skip
"""What listens; also the names that `--port NAME=NUMBER` takes."""

_SCALE_FILE = "scale.json"
_LOWEST_PORT = 15_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made once per stack; a copy of `secrets.json`, which only its owner can read."""

    postgres_password: str
    redis_password: str
    clickhouse_password: str
    api_key: str
    kafka_cluster_id: str


@dataclass(frozen=True, slots=True)
class StackConfig:
    """Everything that the parts of one stack are started from."""

    data_dir: Path
    ports: Mapping[str, int]
    secrets: Secrets
    workers: int = 2
    ingest_processes: int = 1
    partitions: int = 4
    silent_seconds_max: float = SILENT_SECONDS_MAX

    @property
    def kafka_bootstrap(self) -> str:
        """Kafka's address."""
        return f"{HOST}:{self.ports['kafka']}"

    @property
    def redis_url(self) -> str:
        """Redis' address, password included."""
        return f"redis://:{self.secrets.redis_password}@{HOST}:{self.ports['redis']}/0"

    @property
    def postgres_dsn(self) -> str:
        """Postgres' address, password included."""
        address = f"{HOST}:{self.ports['postgres']}/{DATABASE}"
        return f"postgresql://{OWNER}:{self.secrets.postgres_password}@{address}"

    @property
    def clickhouse_url(self) -> str:
        """ClickHouse's address as a clickhouse-connect DSN, password included."""
        address = f"{HOST}:{self.ports['clickhouse']}/{DATABASE}"
        return f"http://{OWNER}:{self.secrets.clickhouse_password}@{address}"

    @property
    def ingest_url(self) -> str:
        """Where events are sent."""
        return f"http://{HOST}:{self.ports['ingest']}"

    @property
    def api_url(self) -> str:
        """Where everything else is asked."""
        return f"http://{HOST}:{self.ports['api']}"


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step; only its owner can read it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


def write_private(path: Path, value: object) -> None:
    """Replace a JSON file in one step; only its owner can read it."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def open_secrets(data_dir: Path) -> Secrets:
    """Return the stack's secrets, made on first use."""
    path = data_dir / "secrets.json"
    if path.exists():
        known = json.loads(path.read_text())
        return Secrets(**{field.name: known[field.name] for field in fields(Secrets)})
    made = Secrets(
        postgres_password=secrets.token_urlsafe(24),
        redis_password=secrets.token_urlsafe(24),
        clickhouse_password=secrets.token_urlsafe(24),
        api_key=f"tb_{secrets.token_urlsafe(32)}",
        kafka_cluster_id=base64.urlsafe_b64encode(_cluster_id()).rstrip(b"=").decode(),
    )
    write_private(path, asdict(made))
    return made


def choose_ports(data_dir: Path, told: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each name: as told, else as last time where free, else a free one.

    Raises:
        StackError: a told port is taken.
    """
    path = data_dir / "ports.json"
    last: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    ports: dict[str, int] = {}
    for name, port in told.items():
        other = next((known for known, taken in ports.items() if taken == port), None)
        if other is not None:
            raise StackError(
                f"port {port} is asked for twice, for {other} and {name}",
                f"Choose another with --port {name}=NUMBER.",
            )
        if not is_free(port):
            raise StackError(
                f"port {port}, asked for {name}, is taken{port_holder(port)}",
                f"Stop what listens there, or choose another with --port {name}=NUMBER.",
            )
        ports[name] = port
    for name in PORT_NAMES:
        if name not in ports:
            remembered = last.get(name, 0)
            usable = remembered > 0 and remembered not in ports.values() and is_free(remembered)
            ports[name] = remembered if usable else _free_port(ports.values())
    write_private(path, ports)
    return ports


def write_scale(data_dir: Path, workers: int) -> None:
    """Write down how many workers are wanted, for the supervisor to read at SIGUSR1."""
    write_private(data_dir / _SCALE_FILE, {"workers": workers})


def read_scale(data_dir: Path) -> int | None:
    """Return how many workers are wanted, or None where nobody has said so."""
    try:
        return int(json.loads((data_dir / _SCALE_FILE).read_text())["workers"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def package_folder(name: str) -> Path:
    """Return where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StackError(f"the package {name} is not installed", "Run `make setup`.")
    return Path(spec.origin).parent


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of this machine's loopback address."""
    with socket.socket() as probe:
        # As servers do, so that connections which have just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _free_port(taken: Iterable[int]) -> int:
    """Return a free port below those that the kernel gives to clients.

    A client that keeps trying a dead server's port could otherwise be given that very port to call
    from, and would keep the server from coming back.
    """
    first_ephemeral = int(_EPHEMERAL_RANGE.read_text().split()[0])
    highest = first_ephemeral if first_ephemeral > _LOWEST_PORT + 1000 else 65_535
    used = set(taken)
    dice = random.SystemRandom()
    for _ in range(1000):
        port = dice.randrange(_LOWEST_PORT, highest)
        if port not in used and is_free(port):
            return port
    raise StackError("no free port was found", "Give them with --port NAME=NUMBER.")


def port_holder(port: int) -> str:
    """Say who listens on a port, where that can be known."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""


def _cluster_id() -> bytes:
    """Return 16 random bytes; Kafka refuses ids whose text begins with a dash."""
    while (made := secrets.token_bytes(16))[0] >> 2 == 62:  # 62 is base64's dash
        pass
    return made
