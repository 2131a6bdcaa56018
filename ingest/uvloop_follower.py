"""Follows the newest log while requests are served: another log is another topic to write to."""

import asyncio
import logging
from contextlib import suppress

from ingest.flow import Flow
from ingest.kafka_producer import BrokerAwayError, TopicError, verify_settings, verify_topic
from ingest.postgres_keys import KeysUnavailableError
from ingest.postgres_log import read_log
from ingest.usage_log import LogAlarmError, UsageLog

log = logging.getLogger(__name__)


class LogFollower:
    """Tells a flow which log to write to, and to refuse where the topic is not the one on record.

    The flow writes to `known` already. While Postgres or Kafka is away, all stays as it was.
    """

    def __init__(self, flow: Flow, bootstrap: str, dsn: str, known: UsageLog) -> None:
        self._flow = flow
        self._bootstrap = bootstrap
        self._dsn = dsn
        self._known = known

    async def run(self, every_seconds: float) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            with suppress(KeysUnavailableError, BrokerAwayError):
                await self.look()

    async def look(self) -> None:
        """Look once.

        Raises:
            KeysUnavailableError: Postgres is away.
            BrokerAwayError: Kafka is away.
        """
        try:
            newest = await asyncio.to_thread(read_log, self._dsn)
            await asyncio.to_thread(verify_topic, self._bootstrap, newest)
            if newest.topic_id != self._known.topic_id:
                await asyncio.to_thread(verify_settings, self._bootstrap, newest.topic)
        except (LogAlarmError, TopicError) as error:
            if self._flow.refused_because is None:
                log.error("alarm: %s", error)  # noqa: TRY400 - for a person
            self._flow.refused_because = str(error)
            return
        if self._flow.refused_because is not None:
            log.warning("alarms end")
            self._flow.refused_because = None
        if newest != self._known:
            self._flow.follow(newest)
            log.warning("events go into log %d now: topic %s", newest.log, newest.topic)
            self._known = newest
