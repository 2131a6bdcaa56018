"""One ingest process: connects the parts, serves until SIGTERM, drains, and says if it cut."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import uvloop

from ingest.bodies import Bodies
from ingest.counters import Counters
from ingest.flow import Flow
from ingest.httptools_protocol import HttpProtocol
from ingest.httptools_server import SWEEP_SECONDS, HttpServer
from ingest.intake import Intake
from ingest.kafka_producer import BrokerAwayError, RecordProducer, TopicError, verify_settings
from ingest.keys import KeyRing
from ingest.limits import EventLimits, FlowLimits, RequestLimits, from_environment
from ingest.linux_workers import MISCONFIGURED
from ingest.postgres_keys import KeysUnavailableError, read_keys
from ingest.postgres_log import read_log
from ingest.rehearsal import rehearse
from ingest.usage_log import LogAlarmError
from ingest.uvloop_follower import LogFollower

log = logging.getLogger("ingest")

_START_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Where one worker listens and what it connects to."""

    host: str
    port: int
    kafka_bootstrap: str
    postgres_dsn: str
    requests: RequestLimits
    events: EventLimits
    flow: FlowLimits

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "WorkerSettings":
        """Read the settings; a missing one raises KeyError, a bad one ValueError."""
        return cls(
            host=environment.get("TOLLBOOK_INGEST_HOST", "127.0.0.1"),
            port=int(environment["TOLLBOOK_INGEST_PORT"]),
            kafka_bootstrap=environment["TOLLBOOK_KAFKA_BOOTSTRAP"],
            postgres_dsn=environment["TOLLBOOK_POSTGRES_DSN"],
            requests=from_environment(RequestLimits, environment),
            events=from_environment(EventLimits, environment),
            flow=from_environment(FlowLimits, environment),
        )


class KeyRefresher:
    """Keeps the key ring fresh, in the background and when an unknown key comes."""

    def __init__(self, keys: KeyRing, dsn: str, loop: asyncio.AbstractEventLoop) -> None:
        self._keys = keys
        self._dsn = dsn
        self._loop = loop
        self._wanted = asyncio.Event()
        self._is_away = False

    def request(self) -> None:
        """Ask for a refresh, of which there is at most one a second."""
        if self._keys.is_refresh_due(self._loop.time()):
            self._wanted.set()

    async def refresh(self) -> bool:
        """Read the keys; says whether that worked."""
        self._keys.note_attempt(self._loop.time())
        try:
            found = await asyncio.to_thread(read_keys, self._dsn)
        except KeysUnavailableError as error:
            if not self._is_away:
                log.warning("keys: Postgres is away, those in memory stay in force: %s", error)
            self._is_away = True
            return False
        self._is_away = False
        self._keys.replace(found, self._loop.time())
        return True

    async def run(self, every_seconds: float) -> None:
        """Refresh for ever."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), every_seconds)
            self._wanted.clear()
            await self.refresh()


def run_worker(settings: WorkerSettings) -> int:
    """Serve until SIGTERM; returns 0 where no request was cut."""
    try:
        return uvloop.run(_serve(settings))
    except TopicError as error:
        sys.stderr.write(f"ingest: {error}\n")
        return MISCONFIGURED
    except (BrokerAwayError, KeysUnavailableError, LogAlarmError, OSError) as error:
        sys.stderr.write(f"ingest: {error}\n")
        return 1


async def _serve(settings: WorkerSettings) -> int:
    loop = asyncio.get_running_loop()
    rehearse(datetime.now(UTC))
    # What is loaded by now stays; requests leave few cycles, so they need few collections.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    keys = KeyRing()
    refresher = KeyRefresher(keys, settings.postgres_dsn, loop)
    if not await refresher.refresh():
        raise KeysUnavailableError("Postgres does not answer, so no API key is known")
    usage_log = await asyncio.to_thread(read_log, settings.postgres_dsn)
    producer = RecordProducer(
        settings.kafka_bootstrap, loop, settings.flow.delivery_seconds_max, usage_log.topic
    )
    bodies = Bodies(settings.events, settings.requests.request_events_max)
    flow = Flow(loop, bodies, producer, usage_log.partitions, settings.flow)
    producer.may_wait = flow.is_quiet
    follower = LogFollower(flow, settings.kafka_bootstrap, settings.postgres_dsn, usage_log)
    await _wait_for_broker(follower)
    await asyncio.to_thread(verify_settings, settings.kafka_bootstrap, usage_log.topic)
    counters = Counters()
    intake = Intake(
        keys=keys,
        flow=flow,
        counters=counters,
        request_limits=settings.requests,
        event_limits=settings.events,
        request_refresh=refresher.request,
    )
    server = HttpServer(
        loop=loop,
        intake=intake,
        flow=flow,
        counters=counters,
        limits=settings.requests,
        wall_clock=lambda: datetime.now(UTC),
    )
    tasks = [
        asyncio.create_task(refresher.run(settings.flow.keys_refresh_seconds)),
        asyncio.create_task(follower.run(settings.flow.keys_refresh_seconds)),
        asyncio.create_task(_sweep(server)),
        asyncio.create_task(_summarize(counters)),
    ]
    # Until here there is nothing to drain, and a signal simply ends the process.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = await loop.create_server(
        lambda: HttpProtocol(server), sock=_listening_socket(settings), backlog=1024
    )
    await stop.wait()
    listener.close()
    status = await _drain(server, producer, settings.flow.drain_seconds_max)
    for task in tasks:
        task.cancel()
    return status


async def _drain(server: HttpServer, producer: RecordProducer, seconds_max: float) -> int:
    """Answer what is under way; returns 0 where no request was cut."""
    cut = await server.drain(seconds_max)
    left = producer.close(1.0)
    line = server.counters.summary()
    sys.stderr.write(f"{line or 'ingest'} drained cut={cut} undelivered={left}\n")
    return 1 if cut or left else 0


async def _wait_for_broker(follower: LogFollower) -> None:
    """Look at the log, within bounds, until Kafka answers."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS_MAX
    while True:
        try:
            await follower.look()
        except BrokerAwayError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.5)
        else:
            return


def _listening_socket(settings: WorkerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Inherited by every connection it accepts: answers are small and must not wait.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind((settings.host, settings.port))
    return listening


async def _sweep(server: HttpServer) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        server.sweep()


async def _summarize(counters: Counters) -> None:
    while True:
        await asyncio.sleep(1.0)
        line = counters.summary()
        if line is not None:
            sys.stderr.write(line + "\n")
