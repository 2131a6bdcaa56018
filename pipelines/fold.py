"""What an event is worth: the one place where events become quantities.

Workers, straddled segments and raw edges all call `fold_all`; there is no second implementation.
A fold is columnar: a table of events in, one row per (subject, dimensions, item, window) out.
What a row holds is linear: rows of one key add up, in any order, and a negated fold takes back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import values
from pipelines.decimals import column_of, limbs_of
from pipelines.derived import Derived, Faults
from pipelines.extract import Column, Kind, extract
from pipelines.meter import MeterDefinition, is_path
from pipelines.values import EXACT, MISSING, TEXT_LENGTH_MAX, Codes, Names

if TYPE_CHECKING:
    from pipelines.plain_members import PlainMember

_CODES_MAX = 1 << 62
_TOO_LONG = f"longer than {TEXT_LENGTH_MAX} characters"


@dataclass(frozen=True, slots=True)
class ActiveMeter:
    """A meter definition as stored: whose it is, and which version."""

    definition_id: int
    tenant: str = field(compare=False)
    version: int = field(compare=False)
    definition: MeterDefinition = field(compare=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An accepted event whose value one meter cannot use."""

    meter: ActiveMeter
    offset: int
    index: int
    reason: str


WindowKey = tuple[str, str, str, int]
"""(subject, dimensions as JSON, item, window start in microseconds since 1970)"""
Worth = tuple[int, Decimal]
"""(count, sum)"""


@dataclass(frozen=True, slots=True)
class Fold:
    """What a table of events adds to one meter: per row one window; and what it could not use.

    `subjects`, `dimensions` and `items` are coded; `windows` are starts in microseconds since
    1970; `sums` are `VALUE_TYPE`, or None where the meter adds no values up.
    """

    meter: ActiveMeter
    rejections: list[Rejection]
    subjects: Names
    dimensions: Codes
    items: Codes
    windows: Any
    counts: Any
    sums: Any = None

    def worth_by_key(self) -> dict[WindowKey, Worth]:
        """Return the rows one by one."""
        nothing, names = [Decimal(0)] * len(self.windows), self.subjects.texts.to_pylist()
        sums = nothing if self.sums is None else self.sums.to_pylist()
        keys = zip(
            [names[code] for code in self.subjects.codes],
            [self.dimensions.values[code] for code in self.dimensions.codes],
            [self.items.values[code] for code in self.items.codes],
            self.windows.tolist(),
            strict=True,
        )
        return dict(zip(keys, zip(self.counts.tolist(), sums, strict=True), strict=True))


def combine(left: Worth, right: Worth) -> Worth:
    """Return the worth of two sets of events of one window together."""
    return left[0] + right[0], EXACT.add(left[1], right[1])


def negated(fold: Fold) -> Fold:
    """Return what takes a fold back; it rejects nothing."""
    sums = None if fold.sums is None else pc.negate(fold.sums)
    return replace(fold, rejections=[], counts=-fold.counts, sums=sums)


def fold_signed(signed: Any, meters: Sequence[ActiveMeter]) -> list[Fold]:
    """Fold a table of `SIGNED_SCHEMA`: what corrections take back is taken back."""
    signs = signed.column("sign")
    added = fold_all(signed.filter(pc.greater(signs, 0)), meters)
    taken = fold_all(signed.filter(pc.less(signs, 0)), meters)
    return [*added, *map(negated, taken)]


def fold_all(events: Any, meters: Iterable[ActiveMeter]) -> list[Fold]:
    """Fold a table of `COUNTED_SCHEMA` into every meter that its events may count for.

    Where the table has a column `cell`, its numbers take the place of the windows.
    """
    by_stream: dict[tuple[str, tuple[str, ...]], list[ActiveMeter]] = {}
    for meter in meters:
        by_stream.setdefault((meter.tenant, meter.definition.types), []).append(meter)
    folds: list[Fold] = []
    for (tenant, types), of_stream in by_stream.items():
        is_type = pc.is_in(events.column("type"), value_set=pa.array(types, pa.string()))
        mask = pc.and_(pc.equal(events.column("tenant"), tenant), is_type)
        stream = events if pc.all(mask).as_py() else events.filter(mask)
        if stream.num_rows:
            read = _Stream.read(stream, of_stream)
            folds += [_fold_meter(read, meter) for meter in of_stream]
    return folds


@dataclass(frozen=True, slots=True)
class _Groups:
    """Which of the kept rows share a window: a number per row, and one row of each group."""

    of_row: Any
    rows: Any


@dataclass(slots=True)
class _Stream:
    """The events of one tenant and its types, and what their meters read of them."""

    table: Any
    plain: "Mapping[str, PlainMember]"
    """Members that could be read at once."""
    columns: Callable[[], Mapping[str, Column]]
    """Reads what stands at each path, once."""
    derived: Derived
    subjects: Names
    times_us: Any
    dimensions: dict[tuple[tuple[str, str], ...], tuple[Codes, Faults]] = field(
        default_factory=dict
    )
    groups: dict[tuple[timedelta, tuple[tuple[str, str], ...]], _Groups] = field(
        default_factory=dict
    )

    @classmethod
    def read(cls, table: Any, meters: Sequence[ActiveMeter]) -> "_Stream":
        # Loading what is compiled takes a second: commands that fold no events do without.
        from pipelines.plain_members import plain_members  # noqa: PLC0415

        kinds: dict[str, Kind] = {}
        for meter in meters:
            for path, kind in _paths(meter.definition):
                kinds[path] = kind if kinds.get(path, kind) == kind else "raw"
        encoded = table.column("subject").combine_chunks().dictionary_encode()

        @cache
        def columns() -> Mapping[str, Column]:
            return extract(table.column("data").to_pylist(), kinds) if kinds else {}

        return cls(
            table=table,
            plain=plain_members(table.column("data"), kinds),
            columns=columns,
            derived=Derived(table, columns),
            subjects=Names(encoded.indices.to_numpy().astype(np.int64), encoded.dictionary),
            times_us=table.column("time").cast(pa.int64()).to_numpy(),
        )

    def windows(self, size: timedelta) -> tuple[Any, int]:
        """Return the number of each event's window, and what to multiply it by for its start."""
        if "cell" in self.table.column_names:
            return self.table.column("cell").to_numpy(), 1
        size_us = size // timedelta(microseconds=1)
        return self.times_us // size_us, size_us

    def grouped(
        self, definition: MeterDefinition, keep: Any, dimensions: Codes, items: Codes
    ) -> _Groups:
        """Return which kept rows share subject, dimensions, item and window.

        Meters that count every event alike share the work.
        """
        from pipelines.rows import RowByKey  # noqa: PLC0415 - see `read`

        is_shared = len(keep) == self.table.num_rows and len(items.values) == 1
        shared = (definition.window_size, tuple(definition.dimensions.items()))
        if is_shared and shared in self.groups:
            return self.groups[shared]
        windows = self.windows(definition.window_size)[0][keep]
        key = self.subjects.codes[keep]
        for column in (dimensions, items):
            if len(column.values) > 1:
                key = _paired(key, column.codes[keep], len(column.values))
        if len(keep):
            first = windows.min()
            key = _paired(key, windows - first, int(windows.max() - first) + 1)
        numbers = RowByKey()
        of_row = numbers.rows(key)
        rows = np.zeros(numbers.count, np.int64)
        rows[of_row] = keep
        groups = _Groups(of_row, rows)
        if is_shared:
            self.groups[shared] = groups
        return groups

    def dimension_codes(self, dimensions: Mapping[str, str]) -> tuple[Codes, Faults]:
        """Return the dimensions as JSON objects, and why rows cannot have them.

        Meters that share dimensions share the work.
        """
        key = tuple(dimensions.items())
        if key not in self.dimensions:
            names, faults = list(dimensions), Faults()
            columns = [self._dimension(text, faults) for text in dimensions.values()]
            codes = Codes(np.zeros(self.table.num_rows, np.int64), ["{}"])
            if names:
                codes = values.combined(
                    columns,
                    lambda parts: msgspec.json.encode(
                        dict(zip(names, parts, strict=True))
                    ).decode(),
                )
            self.dimensions[key] = codes, faults
        return self.dimensions[key]

    def texts(self, text: str) -> tuple[Codes, Faults]:
        """Return what a path or an expression gives, as texts, and why rows have none."""
        if text in self.plain:
            return self.plain[text].texts(), {}
        if is_path(text):
            return values.texts(self.columns()[text]), {}
        return self.derived.texts(text)

    def numbers(self, text: str) -> tuple[Any, Faults]:
        """Return what a path or an expression gives as `VALUE_TYPE`, and why rows have none."""
        exact = self.plain[text].numbers() if text in self.plain else None
        if exact is not None:
            return exact
        if is_path(text):
            return values.numbers(self.columns()[text])
        return self.derived.numbers(text)

    def _dimension(self, text: str, faults: Faults) -> Codes:
        codes, why = self.texts(text)
        faults.update(why)
        is_long = [len(value) > TEXT_LENGTH_MAX for value in codes.values]
        if any(is_long):
            for row in np.flatnonzero(np.array(is_long)[codes.codes]).tolist():
                faults.setdefault(row, f"a dimension is {_TOO_LONG}")
        return codes


def _paths(definition: MeterDefinition) -> list[tuple[str, Kind]]:
    paths: list[tuple[str, Kind]] = [
        (text, "text") for text in definition.dimensions.values() if is_path(text)
    ]
    if definition.value is not None and is_path(definition.value):
        is_text = definition.aggregation == "unique_count"
        paths.append((definition.value, "text" if is_text else "number"))
    for expression in definition.expressions:
        paths += expression.kinds
    return paths


def _fold_meter(stream: _Stream, meter: ActiveMeter) -> Fold:
    definition = meter.definition
    rows = stream.table.num_rows
    counted = np.ones(rows, bool)
    reasons: dict[int, str] = {}
    if definition.filter is not None:
        counted, reasons = stream.derived.truths(definition.filter)
    dimensions, faults = stream.dimension_codes(definition.dimensions)
    reasons = faults | reasons
    items, exact = Codes(np.zeros(rows, np.int64), [""]), None
    if definition.aggregation == "unique_count":
        items, faults = stream.texts(definition.value or "")
        reasons = faults | reasons
        _reject_items(items, reasons)
    elif definition.value is not None:
        exact, faults = stream.numbers(definition.value)
        reasons = faults | reasons
        if definition.keeps_samples:
            items = _samples(stream)
        elif definition.keeps_items:
            items, exact = values.plain_texts(exact), None
    rejections = []
    if reasons:
        refused = sorted(row for row in reasons if counted[row])
        rejections = _rejections(stream.table, meter, refused, reasons)
        counted[list(reasons)] = False
    return _grouped(stream, meter, rejections, np.flatnonzero(counted), dimensions, items, exact)


def _reject_items(items: Codes, reasons: dict[int, str]) -> None:
    faults = [
        (MISSING if not text else f"the value is {_TOO_LONG}")
        if not text or len(text) > TEXT_LENGTH_MAX
        else None
        for text in items.values
    ]
    if any(faults):
        bad = np.array([fault is not None for fault in faults])[items.codes]
        for row in np.flatnonzero(bad).tolist():
            reasons.setdefault(row, faults[items.codes[row]] or MISSING)


def _samples(stream: _Stream) -> Codes:
    """Return each event as an item that sorts by time, then by identity.

    Corrections of one event may stand beside each other: they share an item.
    """
    identities = stream.table.column("identity").to_pylist()
    samples = [
        sample_item(time_us, identity)
        for time_us, identity in zip(stream.times_us.tolist(), identities, strict=True)
    ]
    return values.merged(np.arange(len(samples)), samples)


def sample_item(time_us: int, identity: bytes) -> str:
    """Return the item of an event in a meter that keeps samples."""
    return f"{time_us:016d}:{identity.hex()}"


def _rejections(
    table: Any, meter: ActiveMeter, rows: Sequence[int], reasons: Mapping[int, str]
) -> list[Rejection]:
    taken = table.select(["offset", "index"]).take(pa.array(rows, pa.int64()))
    return [
        Rejection(meter, offset, index, reasons[row])
        for row, offset, index in zip(
            rows, taken.column("offset").to_pylist(), taken.column("index").to_pylist(), strict=True
        )
    ]


def _grouped(
    stream: _Stream,
    meter: ActiveMeter,
    rejections: list[Rejection],
    keep: Any,
    dimensions: Codes,
    items: Codes,
    exact: Any,
) -> Fold:
    """Add up the kept rows per subject, dimensions, item and window."""
    from pipelines.sums import summed  # noqa: PLC0415 - see `_Stream.read`

    groups = stream.grouped(meter.definition, keep, dimensions, items)
    sums = None
    if exact is not None:
        kept = limbs_of(exact)
        kept = kept if len(keep) == len(kept) else kept[keep]
        sums = column_of(summed(kept, groups.of_row, len(groups.rows)))
    rows = groups.rows
    numbers, size = stream.windows(meter.definition.window_size)
    return Fold(
        meter,
        rejections,
        Names(stream.subjects.codes[rows], stream.subjects.texts),
        Codes(dimensions.codes[rows], dimensions.values),
        Codes(items.codes[rows], items.values),
        numbers[rows] * size,
        np.bincount(groups.of_row, minlength=len(rows)),
        sums,
    )


def _paired(codes: Any, others: Any, others_size: int) -> Any:
    """Return one code per distinct pair."""
    if len(codes) and (int(codes.max()) + 1) * others_size >= _CODES_MAX:
        codes = np.unique(codes, return_inverse=True)[1]
        size = len(np.unique(others))
        others = np.unique(others, return_inverse=True)[1]
        others_size = size
    return codes * others_size + others
