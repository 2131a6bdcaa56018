"""Events out of files: NDJSON lines as they are, CSV rows by a mapping of columns.

Every event knows the byte offset after it, so that sending may resume behind what is
acknowledged. CSV values stay text in `data`, digit for digit.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO
from zoneinfo import ZoneInfo

import msgspec

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ROW_NUMBER = "#"


class MappingError(ValueError):
    """A column that the options name is not in the file."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event of a file: its JSON on one line, its line number, and the offset after it."""

    event: bytes
    line: int
    end: int
    text: bytes


@dataclass(frozen=True, slots=True)
class CsvMapping:
    """How a row becomes an event: each a column, a template like `{carrier}:{tail}`, or a text.

    `{#}` is the number of the row. id, subject and time name columns; type and source are texts.
    """

    id: str
    subject: str
    type: str
    source: str
    time: str | None = None
    data: Sequence[str] = ()
    """Columns that go into data; all that the others do not name, where empty."""
    time_zone: str = "UTC"
    """Of times that carry no offset."""


def read_ndjson(file: BinaryIO, offset: int, line: int) -> Iterator[Record]:
    """Yield the lines of an NDJSON file behind an offset; empty lines are passed over."""
    file.seek(offset)
    for text in file:
        offset += len(text)
        line += 1
        bare = text.strip()
        if bare:
            yield Record(bare, line, offset, bare)


class CsvReader:
    """Reads rows of a CSV file as events."""

    def __init__(self, file: BinaryIO, mapping: CsvMapping, delimiter: str = ",") -> None:
        self._file = file
        self._mapping = mapping
        self._delimiter = delimiter
        self._zone = ZoneInfo(mapping.time_zone)
        file.seek(0)
        header, self.data_offset, self._header_lines = self._next_row(0)
        self._columns = [name.strip().lstrip("\ufeff") for name in header]
        self._check_columns()
        self._data_columns = self._chosen_data_columns()

    def records(self, offset: int, line: int, row: int) -> Iterator[tuple[Record, int]]:
        """Yield events, each with its row number, behind an offset (0 is the first row)."""
        if offset == 0:
            offset, line = self.data_offset, self._header_lines
        self._file.seek(offset)
        while True:
            values, size, lines = self._next_row(offset)
            if not size:
                return
            text_end = offset + size
            line += lines
            offset = text_end
            if not values:
                continue
            row += 1
            event = self._event(values, row)
            yield Record(event, line, offset, event), row

    def _next_row(self, offset: int) -> tuple[list[str], int, int]:
        """Return the values of the next row, how many bytes it took, and how many lines."""
        del offset
        text = self._file.readline()
        lines = int(bool(text))
        # A quoted value may hold line ends: the row goes on while its quotes are open.
        while text.count(b'"') % 2:
            more = self._file.readline()
            if not more:
                break
            text += more
            lines += 1
        decoded = text.decode("utf-8", errors="surrogateescape")
        rows = list(csv.reader(io.StringIO(decoded, newline=""), delimiter=self._delimiter))
        return rows[0] if rows else [], len(text), lines

    def _event(self, values: list[str], row: int) -> bytes:
        by_column = dict(zip(self._columns, values, strict=False))
        mapping = self._mapping
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": self._fill(mapping.id, by_column, row),
            "source": self._fill(mapping.source, by_column, row, is_text=True),
            "type": self._fill(mapping.type, by_column, row, is_text=True),
            "subject": self._fill(mapping.subject, by_column, row),
            "data": {name: by_column[name] for name in self._data_columns if by_column.get(name)},
        }
        if len(values) > len(self._columns):
            # No attribute may be called so: ingest refuses the event, and names the fault.
            event[f"{len(values)} values for {len(self._columns)} columns"] = True
        if mapping.time is not None:
            event["time"] = self._time(self._fill(mapping.time, by_column, row))
        try:
            return msgspec.json.encode(event)
        except UnicodeEncodeError:
            # Sent as it is, so that ingest refuses it by name.
            return repr(values).encode("utf-8", errors="replace")

    def _fill(
        self, template: str, values: dict[str, str], row: int, *, is_text: bool = False
    ) -> str:
        if "{" not in template:
            return template if is_text else values.get(template, "")

        def value(match: re.Match[str]) -> str:
            name = match[1]
            return str(row) if name == _ROW_NUMBER else values.get(name, "")

        return _PLACEHOLDER.sub(value, template)

    def _time(self, text: str) -> str:
        """Return a time with its offset; what cannot be read goes as it is, to be refused."""
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            return text
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone)
        return moment.isoformat()

    def _check_columns(self) -> None:
        mapping = self._mapping
        for option in (mapping.id, mapping.subject, mapping.time):
            if option is not None and "{" not in option:
                self._require(option)
        for template in (mapping.id, mapping.subject, mapping.time, mapping.type, mapping.source):
            for name in _PLACEHOLDER.findall(template or ""):
                if name != _ROW_NUMBER:
                    self._require(name)
        for name in mapping.data:
            self._require(name)

    def _require(self, column: str) -> None:
        if column not in self._columns:
            raise MappingError(f"no column {column!r}; there are {', '.join(self._columns)}")

    def _chosen_data_columns(self) -> list[str]:
        mapping = self._mapping
        if mapping.data:
            return list(mapping.data)
        named = {mapping.id, mapping.subject, mapping.time}
        for template in (mapping.id, mapping.subject, mapping.time, mapping.type, mapping.source):
            named.update(_PLACEHOLDER.findall(template or ""))
        return [name for name in self._columns if name not in named]
