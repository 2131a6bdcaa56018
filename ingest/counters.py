"""What one worker process has done, as counters for /metrics and for the line of each second."""

from bisect import bisect_left
from collections import Counter

_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


class Counters:
    """Counts since the start, and durations since the last summary."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.events_accepted = 0
        self.events_refused = 0
        self.body_bytes = 0
        self.connections_opened = 0
        self.connections_turned_away = 0
        self.requests_timed_out = 0
        self.requests_cut = 0
        """Requests that got no answer because the connection or the process ended."""
        self._durations_ms: list[float] = []
        self._histogram = [0] * (len(_BUCKETS_MS) + 1)
        self._duration_sum_ms = 0.0
        self._reported: dict[str, int] = {}

    def note_answer(self, status: int, duration_ms: float) -> None:
        """Count one answered request."""
        self.answers[status] += 1
        self._durations_ms.append(duration_ms)

    def _fold_durations(self) -> list[float]:
        durations, self._durations_ms = sorted(self._durations_ms), []
        for duration in durations:
            self._histogram[bisect_left(_BUCKETS_MS, duration)] += 1
        self._duration_sum_ms += sum(durations)
        return durations

    def summary(self) -> str | None:
        """Return the line about the time since the last one, or None where nothing happened."""
        durations = self._fold_durations()
        totals = {
            "requests": self.answers.total(),
            "accepted": self.events_accepted,
            "refused": self.events_refused,
            "bytes": self.body_bytes,
            "timed_out": self.requests_timed_out,
            **{f"answers_{status}": count for status, count in sorted(self.answers.items())},
        }
        steps = {name: total - self._reported.get(name, 0) for name, total in totals.items()}
        self._reported = totals
        if not any(steps.values()):
            return None
        fields = [f"{name}={step}" for name, step in steps.items() if step]
        if durations:
            rank = min(len(durations) - 1, len(durations) * 99 // 100)
            fields.append(f"p99_ms={durations[rank]:.1f}")
        return "ingest " + " ".join(fields)

    def exposition(self, gauges: dict[str, int]) -> bytes:
        """Return everything in Prometheus's text format."""
        self._fold_durations()
        lines = ["# TYPE tollbook_ingest_requests_total counter"]
        lines += [
            f'tollbook_ingest_requests_total{{status="{status}"}} {count}'
            for status, count in sorted(self.answers.items())
        ]
        for name in (
            "events_accepted",
            "events_refused",
            "body_bytes",
            "connections_opened",
            "connections_turned_away",
            "requests_timed_out",
            "requests_cut",
        ):
            metric = f"tollbook_ingest_{name}_total"
            lines += [f"# TYPE {metric} counter", f"{metric} {getattr(self, name)}"]
        for name, value in gauges.items():
            metric = f"tollbook_ingest_{name}"
            lines += [f"# TYPE {metric} gauge", f"{metric} {value}"]
        lines += self._histogram_lines()
        return "\n".join([*lines, ""]).encode()

    def _histogram_lines(self) -> list[str]:
        metric = "tollbook_ingest_request_duration_milliseconds"
        lines = [f"# TYPE {metric} histogram"]
        total = 0
        for bound, count in zip((*_BUCKETS_MS, "+Inf"), self._histogram, strict=True):
            total += count
            lines.append(f'{metric}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{metric}_sum {self._duration_sum_ms:.3f}", f"{metric}_count {total}"]
