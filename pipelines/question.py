"""What can be asked of a meter, and the rows that answer it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from pipelines.local_windows import WindowSize
from pipelines.usage import Span

UTC_ZONE = ZoneInfo("UTC")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TooMuchError(ValueError):
    """An answer would take more raw events, or rows, than one request may."""


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


@dataclass(frozen=True, slots=True, order=True)
class UsageKey:
    """What one row of an answer is about; empty where it was not asked."""

    start_us: int
    owner: str = ""
    subject: str = ""
    dimensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageRow:
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
