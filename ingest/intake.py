"""Decides about requests: who sends, what the body holds, what goes into the log, what goes back.

An answer that accepts events is given only once every record they are in has its delivery
report. An unknown outcome is a 503: the same request, sent again, is counted once.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from ingest import answers, head
from ingest import problem as problems
from ingest.answers import Answer
from ingest.bodies import MALFORMED, TOO_MANY, Body, Verdict
from ingest.body import PLAIN, BodyTooLargeError, CorruptBodyError, decompress
from ingest.counters import Counters
from ingest.event import EPOCH, Reception
from ingest.flow import Flow
from ingest.head import Head
from ingest.keys import ApiKey, KeyRing
from ingest.limits import EventLimits, RequestLimits

_MILLISECOND = timedelta(milliseconds=1)
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Intake:
    """The rules of the ingest routes."""

    def __init__(
        self,
        *,
        keys: KeyRing,
        flow: Flow,
        counters: Counters,
        request_limits: RequestLimits,
        event_limits: EventLimits,
        request_refresh: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._flow = flow
        self._counters = counters
        self._limits = request_limits
        self._event_limits = event_limits
        self._request_refresh = request_refresh
        self._last_reception = Reception(EPOCH, limits=event_limits)
        self.is_draining = False

    def judge_head(self, request: Head) -> Answer | None:
        """Return the answer where the head decides it, so that the body need not be read."""
        refusal = head.check_route(request)
        if refusal is not None or request.path not in head.EVENT_PATHS:
            return refusal
        return (
            self._judge_sender(request)
            or head.check_content(request)
            or self.judge_load(request.content_length)
        )

    def judge_known_head(self, request: Head) -> Answer | None:
        """Judge a head whose form was found good before: who sends and the load may change."""
        return self._judge_sender(request) or self.judge_load(request.content_length)

    def _judge_sender(self, request: Head) -> Answer | None:
        authorization = request.headers.get(b"authorization")
        if authorization is None:
            return answers.unauthorized("send Authorization: Bearer KEY")
        key = self._keys.find(authorization)
        if key is None:
            self._request_refresh()
            return answers.unauthorized("the key is not known")
        if not key.may_ingest:
            return answers.refuse(403, "forbidden", "the key is revoked or may not send events")
        return None

    def judge_load(self, size: int) -> Answer | None:
        """Return the answer where so many more bytes may not wait, or the log is away."""
        if not self._flow.has_room(size):
            return answers.busy("queue-full", "too much is waiting for the log; send it again")
        if not self._flow.takes_more():
            why = self._flow.refused_because or "the log does not answer"
            return answers.busy("log-away", f"{why}; send it again", 2)
        return None

    def status(self, request: Head, gauges: dict[str, int]) -> Answer:
        """Return the answer of a status route."""
        if request.path == b"/metrics":
            return Answer(200, self._counters.exposition(gauges), _TEXT)
        if request.path == b"/healthz":
            return Answer(200, b"ok\n", b"text/plain")
        if self._flow.refused_because is not None:
            return answers.busy("not-ready", self._flow.refused_because)
        if self.is_draining or self._flow.is_broker_away or not self._keys.is_loaded:
            return answers.busy("not-ready", "draining, or the log does not answer")
        return Answer(200, b"ready\n", b"text/plain")

    def receive(
        self,
        request: Head,
        pieces: list[bytes | memoryview],
        now: datetime,
        answer_later: Callable[[Answer], None],
    ) -> Answer | None:
        """Take a request's events; None means that the answer comes by `answer_later`."""
        key = self._keys.find(request.headers[b"authorization"])
        if key is None or not key.may_ingest:
            return answers.unauthorized("the key was withdrawn")
        size = sum(map(len, pieces))
        self._counters.body_bytes += size
        if request.encoding not in PLAIN:
            limit = self._limits.body_bytes_max
            try:
                pieces = [decompress(b"".join(pieces), request.encoding, limit)]
            except BodyTooLargeError:
                return head.too_large(limit)
            except CorruptBodyError as error:
                return answers.refuse(400, MALFORMED, str(error))
            size = len(pieces[0])
        busy = self.judge_load(size)
        if busy is not None:
            return busy
        tenant, reception = key.tenant.encode(), self._reception(key, now)
        body = Body(pieces, size, request.shape, tenant, reception, request.is_partial)

        def settle(verdict: Verdict, error: str | None) -> None:
            self._counters.events_accepted += verdict.accepted * (error is None)
            answer_later(self._answer(request, verdict, error))

        self._flow.submit(body, settle)
        return None

    def _reception(self, key: ApiKey, now: datetime) -> Reception:
        """Return what events that come now are judged by; requests of a millisecond share it."""
        last = self._last_reception
        if (
            last.open_for_history == key.open_for_history
            and timedelta(0) <= now - last.received_at < _MILLISECOND
        ):
            return last
        self._last_reception = Reception(now, key.open_for_history, self._event_limits)
        return self._last_reception

    def _answer(self, request: Head, verdict: Verdict, error: str | None) -> Answer:
        """Return the answer to a request whose events have a verdict, and whose fate is known."""
        if error is not None:
            return answers.busy(
                "outcome-unknown",
                f"the log did not confirm in time ({error}); send the same request again",
                2,
            )
        if verdict.refusals:
            return self._refuse(request, verdict)
        if verdict.fault:
            return self._refuse_body(verdict)
        if request.wants_verdicts:
            return Answer(
                200,
                problems.verdicts(verdict.accepted),
                b"application/json",
                b"Preference-Applied: return=representation\r\n",
            )
        return answers.NO_CONTENT

    def _refuse(self, request: Head, verdict: Verdict) -> Answer:
        refused = len({refusal.index for refusal in verdict.refusals})
        self._counters.events_refused += refused
        document = problems.refused_events(
            verdict.refusals,
            total=refused + len(verdict.indexes),
            accepted=verdict.indexes if request.is_partial and verdict.indexes else None,
        )
        return Answer(400, document, problems.MEDIA_TYPE)

    def _refuse_body(self, verdict: Verdict) -> Answer:
        if verdict.fault == TOO_MANY:
            events_max = self._limits.request_events_max
            return answers.refuse(
                413, verdict.fault, f"a request holds at most {events_max} events"
            )
        if verdict.fault == MALFORMED:
            return answers.refuse(400, verdict.fault, verdict.detail)
        return answers.INTERNAL
