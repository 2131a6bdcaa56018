"""What a part of the stack is: how it is prepared, started, asked if it is ready, and ended."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from infra.embedded.probes import Probe


class Run(Protocol):
    """Runs a command under a part's name and log, while the part is prepared."""

    async def __call__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        until: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Wait for the command's end, which is asked for once `until` says so.

        Raises:
            StackError: the command fails.
        """


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack, and all that the supervisor has to know of it."""

    name: str
    command: tuple[str, ...]
    address: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    """The part's own folder, where it has one."""
    after: tuple[str, ...] = ()
    """Parts that have to be ready before this one is started for the first time."""
    prepare: Callable[[Run], Awaitable[None]] | None = None
    """Makes the part's folder ready before its first start; may be called on a ready one."""
    probe: Probe | None = None
    """Asks the part whether it is ready, and later whether it still answers."""
    ready_text: str = ""
    """What the part says in its log once it works, where it cannot be asked."""
    pulse: str = ""
    """A file that such a part touches while it lives."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10
    refuses_root: bool = False
    runs_once: bool = False
    """A task: ready when it has ended well."""
