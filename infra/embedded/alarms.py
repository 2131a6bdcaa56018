"""The alarms that a part raises: lines of its log, from `alarm: ...` until `alarms end`.

An alarm asks for a person: the part goes on with all that the alarm does not name. A line
`note: ...` says how things stand; each replaces the one before.
"""

from dataclasses import dataclass, field
from pathlib import Path

_RAISED = "alarm: "
_OVER = "alarms end"
_NOTED = " note: "


@dataclass(slots=True)
class AlarmLog:
    """Reads what is new in one part's log."""

    path: Path
    alarms: list[str] = field(default_factory=list)
    note: str = ""
    _read_to: int = 0
    _rest: bytes = b""

    def skip(self) -> None:
        """Forget the alarms and all that was said until now: another process begins."""
        self.alarms = []
        self.note = ""
        self._rest = b""
        self._read_to = self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> bool:
        """Read on; tell whether the alarms, or the note, have changed."""
        before = [*self.alarms, self.note]
        try:
            with self.path.open("rb") as file:
                # A log that was turned over begins anew.
                start = self._read_to if self._read_to <= file.seek(0, 2) else 0
                file.seek(start)
                *lines, self._rest = (self._rest + file.read()).split(b"\n")
                self._read_to = file.tell()
        except FileNotFoundError:
            return False
        for line in lines:
            self._take(line.decode(errors="replace"))
        return [*self.alarms, self.note] != before

    def _take(self, line: str) -> None:
        if line.endswith(_OVER):
            self.alarms = []
        elif _NOTED in line:
            self.note = line.partition(_NOTED)[2]
        elif _RAISED in line:
            text = line.partition(_RAISED)[2]
            if text not in self.alarms:
                self.alarms.append(text)
