"""What is done to Kafka, Redis, ClickHouse, Postgres and ingest."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable

import redis

from ingest.topic import TOPIC_SETTINGS
from tollbook.drill.arena import wait_until
from tollbook.drill.case import Fault, Strike, roll_segments
from tollbook.drill.insert_proxy import Deal, Insert, pass_all
from tollbook.drill.topic import set_topic

_REFILL_TOKEN = b":t\r\n"
_MEMORY_FILLER = 64 * 1024
_REFUSALS = 3


def kill(part: str) -> Callable[[Strike], None]:
    """Return what kills a part, as often as a drill's scale says."""

    def strike_it(strike: Strike) -> None:
        answered = strike.feed.account.statuses
        wait_until(lambda: answered.total() > 0, "requests are under way")
        for _ in range(strike.scale.rounds):
            time.sleep(strike.rnd.uniform(0.1, 0.4))
            strike.arena.kill(part)
            strike.note(f"{part} killed")

    return strike_it


def _keep_down(part: str) -> Callable[[Strike], None]:
    """Return what kills a part whenever it starts, for some time."""

    def strike_it(strike: Strike) -> None:
        until = time.monotonic() + strike.scale.outage_s
        while time.monotonic() < until:
            os.kill(strike.arena.pid(part), signal.SIGKILL)
            strike.note(f"{part} killed")
            time.sleep(0.1)

    return strike_it


def _redis(strike: Strike) -> "redis.Redis":
    return redis.Redis.from_url(strike.arena.stack.redis_url)


def _arm_flush_in_refill(strike: Strike) -> None:
    """Empty Redis whenever a refill has written its first pieces, a few times."""
    after = [0]
    left = [strike.scale.rounds * 2]
    lock = threading.Lock()

    def watch(piece: bytes) -> None:
        with lock:
            if _REFILL_TOKEN in piece and b"SET" in piece[:40]:
                after[0] = 1
                return
            after[0] += 1 if after[0] else 0
            if after[0] != 2 or not left[0]:
                return
            after[0] = 0
            left[0] -= 1
        _redis(strike).flushall()
        strike.note("emptied in a refill")

    strike.arena.memory.watch = watch


def _flush_again_and_again(strike: Strike) -> None:
    while not strike.feed.mostly_sent.wait(0.3):
        _redis(strike).flushall()
        strike.note("emptied")


def _restore_older(strike: Strike) -> None:
    """Take a snapshot, go on, and start Redis from that snapshot."""
    client = _redis(strike)
    time.sleep(0.3)
    # The snapshot has to be on disk before more is claimed.
    client.save()
    home = strike.arena.data_dir / "redis"
    shutil.copy(home / "dump.rdb", home / "older.rdb")
    for _ in range(strike.scale.rounds):
        time.sleep(0.8)
        shutil.copy(home / "older.rdb", home / "dump.rdb")
        strike.arena.kill("redis")
        strike.note("started from an older snapshot")
        strike.arena.wait_healthy()
    (home / "dump.rdb").unlink(missing_ok=True)


def _evict(strike: Strike) -> None:
    """Let Redis evict, and leave it too little memory, while workers trust what it holds."""
    client = _redis(strike)
    before = str(client.config_get("maxmemory")["maxmemory"])
    client.config_set("maxmemory-policy", "allkeys-random")
    try:
        for _ in range(strike.scale.rounds):
            time.sleep(0.5)
            held = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", int(held * 0.9))
            client.set("drill:filler", b"x" * _MEMORY_FILLER)
            client.config_set("maxmemory", before)
        evicted = int(client.info("stats")["evicted_keys"])
        strike.struck["keys evicted"] += evicted
    finally:
        client.config_set("maxmemory", before)
        client.config_set("maxmemory-policy", "noeviction")


def _slow_memory(strike: Strike) -> None:
    strike.arena.memory.delay_s = 1.0
    strike.feed.mostly_sent.wait()
    time.sleep(strike.scale.fault_s)
    strike.arena.memory.delay_s = 0.0
    strike.note("slow")


def _cut_memory(strike: Strike) -> None:
    for _ in range(strike.scale.rounds):
        time.sleep(0.3)
        strike.arena.memory.cut()
        time.sleep(strike.scale.fault_s)
        strike.arena.memory.mend()
        strike.note("gone")


def _tables_away(strike: Strike) -> None:
    time.sleep(0.3)
    strike.arena.inserts.away = True
    time.sleep(strike.scale.fault_s)
    strike.arena.inserts.away = False
    strike.note("away")


def _arm_lost_answers(strike: Strike) -> None:
    """Let every third insert succeed without an answer."""

    def rule(insert: Insert) -> Deal:
        if insert.number % 3 or strike.feed.mostly_sent.is_set():
            return Deal.LET
        strike.note("done, answer lost")
        return Deal.SWALLOW

    strike.arena.inserts.rule = rule


def _arm_too_many_parts(strike: Strike) -> None:
    def rule(_: Insert) -> Deal:
        strike.note("too many parts")
        return Deal.TOO_MANY_PARTS

    strike.arena.inserts.rule = rule


def _ease_parts(strike: Strike) -> None:
    strike.wait_for_feed()
    time.sleep(strike.scale.fault_s)
    strike.arena.inserts.rule = pass_all


def _restart_book(strike: Strike) -> None:
    for _ in range(strike.scale.rounds):
        strike.arena.kill("postgres")
        strike.arena.wait_healthy()
        roll_segments(strike.arena)
        strike.note("postgres killed")


def empty(strike: Strike) -> None:
    """Empty Redis, once it answers."""
    wait_until(lambda: _answers(strike), "Redis answers")
    _redis(strike).flushall()


def _answers(strike: Strike) -> bool:
    try:
        return bool(_redis(strike).ping())
    except redis.RedisError:
        return False


def _refuse_records(strike: Strike) -> None:
    """Have the broker refuse whatever is produced, for its size, until requests have met that."""
    stack, topic, setting = strike.arena.stack, strike.feed.topic, "max.message.bytes"
    set_topic(stack, topic, {setting: "1"})
    statuses = strike.feed.account.statuses
    wait_until(lambda: statuses[503] > _REFUSALS, "ingest answers 503")
    set_topic(stack, topic, {setting: TOPIC_SETTINGS[setting]})
    strike.note("records refused")


SERVER_FAULTS = [
    Fault("broker-restarted", "kill -9 of Kafka", kill("kafka")),
    Fault("broker-down", "Kafka is down for a minute", _keep_down("kafka"), is_long=True),
    Fault("broker-refuses", "Kafka takes no record for a while", _refuse_records),
    Fault("redis-flushed", "FLUSHALL again and again", _flush_again_and_again, is_long=True),
    Fault(
        "redis-flushed-in-refill",
        "FLUSHALL again and again, and in the middle of the refills that follow",
        _flush_again_and_again,
        arm=_arm_flush_in_refill,
    ),
    Fault("redis-restored", "Redis starts from an older snapshot", _restore_older),
    Fault("redis-evicting", "Redis evicts identities", _evict),
    Fault("redis-slow", "Redis answers a second late", _slow_memory),
    Fault("redis-gone", "Redis cannot be reached", _cut_memory),
    Fault("clickhouse-killed", "kill -9 of ClickHouse", kill("clickhouse")),
    Fault("clickhouse-away", "ClickHouse cannot be reached", _tables_away),
    Fault(
        "clickhouse-answers-lost",
        "inserts succeed, and their answers are lost",
        arm=_arm_lost_answers,
        stretch_s=0.1,
    ),
    Fault(
        "clickhouse-too-many-parts",
        "ClickHouse refuses inserts for too many parts",
        _ease_parts,
        arm=_arm_too_many_parts,
    ),
    Fault(
        "postgres-killed",
        "kill -9 of Postgres, and then new segments to agree on",
        _restart_book,
    ),
]
