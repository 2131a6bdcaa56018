"""Hears whether a part still lives: a process may hang, or be stopped, without ending."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.part import Part

_LOOKS = 10
"""So often a part is listened to before its silence counts as its end."""


@dataclass(slots=True)
class Watch:
    """Listens to one process of a part."""

    part: Part
    silent_seconds_max: float
    silent_seconds: float = 0.0
    """For how long nothing was heard, as far as somebody listened."""
    _looked_at: float = field(default_factory=time.monotonic)
    _pulse: int = 0

    @property
    def pause_seconds(self) -> float:
        """How long to wait before listening again."""
        return self.silent_seconds_max / _LOOKS

    @property
    def is_over(self) -> bool:
        """True where nothing was heard for too long."""
        return self.silent_seconds >= self.silent_seconds_max

    async def listen(self) -> None:
        """Listen once."""
        lives = await self._lives()
        now = time.monotonic()
        # Who listens may have been stopped too: that was no silence of the part.
        passed = min(now - self._looked_at, 2 * self.pause_seconds)
        self._looked_at = now
        self.silent_seconds = 0.0 if lives else self.silent_seconds + passed

    async def _lives(self) -> bool:
        if self.part.probe is not None:
            return await self.part.probe.answers()
        if not self.part.pulse:
            return True
        last, self._pulse = self._pulse, _touched_at(Path(self.part.pulse))
        return self._pulse != last


def _touched_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
