"""What can be asked of a meter, and the rows that answer it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from msgspec import Struct

from pipelines.local_windows import WindowSize
from pipelines.usage import Span

UTC_ZONE = ZoneInfo("UTC")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TooMuchError(ValueError):
    """A question has more windows than may be asked at once."""


class UnknownNameError(LookupError):
    """A question names something that is not there, in its part `parameter`."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(reason)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What is asked of a meter. `start` and `end` of None are those of the usage itself."""

    meter: str
    start: datetime | None = None
    end: datetime | None = None
    window: WindowSize | None = None
    zone: ZoneInfo = UTC_ZONE
    subjects: tuple[str, ...] = ()
    """Only these, where any are named."""
    spans: tuple[Span, ...] | None = None
    """Only what counts for their owners."""
    group_by: tuple[str, ...] = ()
    """Dimensions, in the order of the answer's."""
    by_subject: bool = False
    by_owner: bool = False
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(dimension, its values), all of which must hold."""
    cut: int | None = None
    """As of a fixed cut; None is live."""

    @property
    def named_subjects(self) -> list[str] | None:
        """The subjects that can be in the answer, or None for all."""
        if self.spans is None:
            return sorted(self.subjects) or None
        found = {span.subject for span in self.spans}
        return sorted(found.intersection(self.subjects) if self.subjects else found)


class UsageKey(Struct, frozen=True, order=True):
    """What one row of an answer is about; empty where it was not asked."""

    start_us: int
    owner: str = ""
    subject: str = ""
    dimensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows of an answer are wanted: so many, from after a key."""

    after: UsageKey | None = None
    limit: int | None = None


WHOLE_ANSWER = Page()


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Whose samples follow one another: each counts until the next one of its series."""

    meter_version: int
    subject: str
    dimensions: str
    """As JSON"""


class UsageRow(Struct, frozen=True):
    """One row of an answer: the usage of one local window, which may reach over what is asked."""

    key: UsageKey
    end_us: int
    value: Decimal

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The window, in UTC."""
        return _moment(self.key.start_us), _moment(self.end_us)


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
