"""A question laid over a meter's windows: what is read whole, and what is folded from raw events.

A window that a bound of the interval, of a local window or of a span divides is an edge: its raw
events are folded, and it is left out of what is read whole. Samples carry their exact time, so
that meters that keep them have no edges.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from ingest.event import microseconds
from pipelines.cut import AsOf, EffectiveMeter
from pipelines.local_windows import Grid, LocalWindows, local_windows
from pipelines.meter import MeterDefinition
from pipelines.question import TooMuchError, UnknownNameError, UsageQuestion
from pipelines.usage import Span

EARLIEST_US = microseconds(datetime(1900, 1, 1, tzinfo=UTC))
LATEST_US = microseconds(datetime(2200, 1, 1, tzinfo=UTC))
"""What can be asked lies between."""


class Owned(Struct, frozen=True):
    """A span clipped to what is asked, in microseconds; its whole windows are those between."""

    owner: str
    subject: str
    start_us: int
    end_us: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a meter's usage answers a question, in microseconds since 1970.

    Whole windows start in `[first_us, last_us)` and in none of `divided`, which counts in windows
    of `size_us`, the largest of any version; without whole windows `first_us` equals `last_us`.
    Samples are read from `first_us`, but for what is carried into it, until before `last_us`.
    """

    tenant: str
    versions: Sequence[EffectiveMeter]
    question: UsageQuestion
    windows: LocalWindows
    as_of: AsOf | None
    start_us: int
    end_us: int
    size_us: int
    first_us: int
    last_us: int
    divided: frozenset[int]
    owned: tuple[Owned, ...] | None
    bounds: tuple[int, ...]
    """Where spans start and end inside the interval."""
    owned_by_subject: Mapping[str, Sequence[Owned]] = field(repr=False)

    @property
    def definition(self) -> MeterDefinition:
        """The latest version's definition: how the answer adds up."""
        return self.versions[-1].meter.definition

    @property
    def subjects(self) -> Sequence[str] | None:
        """The subjects that can be in the answer, or None for all."""
        return self.question.named_subjects if self.owned is None else sorted(self.owned_by_subject)

    @property
    def has_whole(self) -> bool:
        """Tell whether whole windows may answer some of it."""
        return self.first_us < self.last_us

    def is_whole(self, window_us: int, first_us: int, last_us: int) -> bool:
        """Tell whether a window is read whole where whole windows start in `[first, last)`."""
        return self.has_whole and first_us <= window_us < last_us and window_us not in self.divided


def select(
    tenant: str,
    versions: Sequence[EffectiveMeter],
    question: UsageQuestion,
    as_of: AsOf | None,
    interval: tuple[int, int],
    until_us: int,
) -> Selection:
    """Return how an interval that is not empty is read; nothing is carried over `until`.

    Raises:
        TooMuchError: it has too many windows.
    """
    start_us, end_us = interval
    try:
        windows = local_windows(question.window, question.zone, start_us, end_us)
    except ValueError as error:
        raise TooMuchError(str(error)) from error
    size_us = largest_window_us(versions)
    first_us, last_us, divided = start_us, end_us, frozenset[int]()
    if not versions[-1].meter.definition.keeps_samples:
        first_us, last_us, divided = _whole(windows, start_us, end_us, size_us)
    elif versions[-1].meter.definition.is_carried:
        last_us = max(start_us, min(end_us, until_us))
    owned = None
    if question.spans is not None:
        owned = tuple(_owned(question, interval, size_us))
    by_subject: dict[str, list[Owned]] = {}
    bounds: set[int] = set()
    for one in owned or ():
        by_subject.setdefault(one.subject, []).append(one)
        bounds.update((one.start_us, one.end_us))
    return Selection(
        tenant=tenant,
        versions=versions,
        question=question,
        windows=windows,
        as_of=as_of,
        start_us=start_us,
        end_us=end_us,
        size_us=size_us,
        first_us=first_us,
        last_us=last_us,
        divided=divided,
        owned=owned,
        bounds=tuple(sorted(bound for bound in bounds if start_us < bound < end_us)),
        owned_by_subject=by_subject,
    )


def largest_window_us(versions: Sequence[EffectiveMeter]) -> int:
    """Return the length of the largest windows of some versions, in microseconds."""
    size = max(version.meter.definition.window_size for version in versions)
    return size // timedelta(microseconds=1)


def check_names(question: UsageQuestion, definition: MeterDefinition) -> None:
    """Raise UnknownNameError where a question names a dimension that the meter lacks."""
    named = [("group_by", name) for name in question.group_by]
    named += [("filter", name) for name, _ in question.where]
    for parameter, name in named:
        if name not in definition.dimensions:
            reason = f"meter {definition.key} has no dimension {name}"
            raise UnknownNameError(parameter, reason)


def _whole(
    windows: LocalWindows, start_us: int, end_us: int, size_us: int
) -> tuple[int, int, frozenset[int]]:
    """Return between which starts windows are whole, and which ones inside are divided."""
    if isinstance(windows, Grid) and not windows.is_made_of(size_us):
        return start_us, start_us, frozenset()
    inner: Iterable[int] = windows.marks if not isinstance(windows, Grid) else ()
    first_us, last_us = aligned(start_us, end_us, size_us)
    divided = {mark // size_us * size_us for mark in inner if mark % size_us}
    return first_us, last_us, frozenset(at for at in divided if first_us <= at < last_us)


def aligned(start_us: int, end_us: int, size_us: int) -> tuple[int, int]:
    """Return between which starts the windows lie that are wholly in `[start, end)`."""
    first_us = -(-start_us // size_us) * size_us
    return first_us, max(first_us, end_us // size_us * size_us)


def _owned(question: UsageQuestion, asked: tuple[int, int], size_us: int) -> Iterator[Owned]:
    """Yield the spans of subjects that are asked for, clipped."""
    for span in question.spans or ():
        if question.subjects and span.subject not in question.subjects:
            continue
        start_us, end_us = _clipped(span, asked)
        if start_us < end_us:
            first_us, last_us = aligned(start_us, end_us, size_us)
            yield Owned(span.owner, span.subject, start_us, end_us, first_us, last_us)


def _clipped(span: Span, asked: tuple[int, int]) -> tuple[int, int]:
    start_us, end_us = asked
    if span.start is not None:
        start_us = max(start_us, microseconds(span.start))
    if span.end is not None:
        end_us = min(end_us, microseconds(span.end))
    return start_us, end_us
