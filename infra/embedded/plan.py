"""The parts of a stack, what each is started with, and what each waits for."""

import sys
from pathlib import Path

from infra.embedded.config import HOST, TENANT, WORKER, StackConfig
from infra.embedded.kafka_server import kafka_part
from infra.embedded.part import Part
from infra.embedded.postgres_server import postgres_part
from infra.embedded.probes import http_probe
from infra.embedded.redis_server import redis_part

REPOSITORY = Path(__file__).resolve().parents[2]


# Each flush takes as much memory as the one before it. What is given back in between is zeroed
# anew, page by page, which costs a worker a tenth of its CPU; and one pool for Arrow's memory and
# all other needs less of it than two.
_KEPT_MEMORY = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}


def plan_parts(config: StackConfig) -> list[Part]:
    """Return the parts to start, each after those that it waits for."""
    return [
        kafka_part(config),
        redis_part(config),
        postgres_part(config),
        _clickhouse(config),
        _provision(config),
        _ingest(config),
        *plan_workers(config, config.workers),
        _job(config, "pipelines", "seeder"),
        _job(config, "pipelines", "auditor"),
        _job(config, "billing", "scheduler"),
        _api(config),
    ]


def plan_workers(config: StackConfig, workers: int) -> list[Part]:
    """Return so many workers, who share the partitions."""
    return [_worker(config, index, workers) for index in range(workers)]


def _python(*arguments: str) -> tuple[str, ...]:
    # -P: a part's own folder must not be searched for modules.
    return (sys.executable, "-P", *arguments)


def _addresses(config: StackConfig) -> dict[str, str]:
    return {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "TOLLBOOK_KAFKA_BOOTSTRAP": config.kafka_bootstrap,
        "TOLLBOOK_POSTGRES_DSN": config.postgres_dsn,
        "TOLLBOOK_CLICKHOUSE_URL": config.clickhouse_url,
        "TOLLBOOK_REDIS_URL": config.redis_url,
    }


def _clickhouse(config: StackConfig) -> Part:
    port = config.ports["clickhouse"]
    home = config.data_dir / "clickhouse"
    where = ("--data-dir", str(home), "--port", str(port))
    return Part(
        name="clickhouse",
        command=_python("-m", "infra.embedded.gateway", *where),
        address=f"{HOST}:{port}",
        environment={
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "TOLLBOOK_CLICKHOUSE_PASSWORD": config.secrets.clickhouse_password,
            "TOLLBOOK_POSTGRES_DSN": config.postgres_dsn,
        },
        home=str(home),
        probe=http_probe(port, "/ping"),
    )


def _provision(config: StackConfig) -> Part:
    return Part(
        name="provision",
        command=_python("-m", "infra.provision"),
        environment=_addresses(config)
        | {
            "TOLLBOOK_TENANT": TENANT,
            "TOLLBOOK_API_KEY": config.secrets.api_key,
            "TOLLBOOK_PARTITIONS": str(config.partitions),
        },
        after=("kafka", "redis", "postgres", "clickhouse"),
        runs_once=True,
    )


def _ingest(config: StackConfig) -> Part:
    port = config.ports["ingest"]
    return Part(
        name="ingest",
        command=_python("-m", "ingest"),
        address=f"{HOST}:{port}",
        environment=_addresses(config)
        | {
            "TOLLBOOK_INGEST_HOST": HOST,
            "TOLLBOOK_INGEST_PORT": str(port),
            "TOLLBOOK_INGEST_WORKERS": str(config.ingest_processes),
        },
        after=("provision",),
        # One that may not write, since its topic is not as on record, has raised an alarm.
        probe=http_probe(port, "/healthz"),
        stop_seconds=20,
    )


def _worker(config: StackConfig, index: int, workers: int) -> Part:
    name = f"{WORKER}{index}"
    which = ("--worker", str(index), "--workers", str(workers))
    pulse = str(config.data_dir / f"{name}.pulse")
    return Part(
        name=name,
        command=_python("-m", "pipelines", *which),
        environment=_addresses(config) | _KEPT_MEMORY | {"TOLLBOOK_PULSE_FILE": pulse},
        after=("provision",),
        ready_text=" ready: ",
        pulse=pulse,
        stop_seconds=20,
    )


def _job(config: StackConfig, package: str, name: str) -> Part:
    """Return a process that works by itself and is asked nothing."""
    return Part(
        name=name,
        command=_python("-m", f"{package}.{name}"),
        environment=_addresses(config),
        after=("provision",),
        ready_text=" ready: ",
        stop_seconds=20,
    )


def _api(config: StackConfig) -> Part:
    port = config.ports["api"]
    return Part(
        name="api",
        command=_python("-m", "tollbook.api"),
        address=f"{HOST}:{port}",
        environment=_addresses(config)
        | {
            "TOLLBOOK_API_HOST": HOST,
            "TOLLBOOK_API_PORT": str(port),
            "TOLLBOOK_INGEST_URL": config.ingest_url,
        },
        after=("provision",),
        probe=http_probe(port, "/healthz"),
    )
