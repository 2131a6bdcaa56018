"""One thing that must hold: how much was looked at, and what differs."""

from dataclasses import dataclass, field

_SHOWN = 3


@dataclass(slots=True)
class Check:
    """One thing that must hold: how much was looked at, and what differs."""

    invariant: str
    about: str
    looked_at: int = 0
    differences: list[str] = field(default_factory=list)

    def compare(self, where: str, expected: object, found: object) -> None:
        """Look at one value."""
        self.looked_at += 1
        if expected != found:
            self.differences.append(f"{where}: {expected} expected, {found} found")

    @property
    def holds(self) -> bool:
        """True where something was looked at and nothing differs."""
        return bool(self.looked_at) and not self.differences

    def __str__(self) -> str:
        if not self.looked_at:
            return f"{self.invariant} {self.about}: nothing was looked at"
        shown = "; ".join(self.differences[:_SHOWN])
        more = len(self.differences) - _SHOWN
        return f"{self.invariant} {self.about}: {shown}" + (f"; {more} more" if more > 0 else "")
