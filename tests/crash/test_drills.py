"""Whatever is done to the parts, and whatever is sent: what is counted equals the recount.

The cases of `tollbook drill`, on one stack, with one seed. Each compares what the API answers, per
meter, subject and hour, with a naive recount of what was written down beforehand, and accounts for
every event that was sent.
"""

import pytest

from tollbook.drill.arena import Arena
from tollbook.drill.case import BRIEF, play
from tollbook.drill.faults import FAULTS
from tollbook.drill.fleet import Crew

SEED = 7
ELSEWHERE = {
    "workers-changed", "redis-slow", "clickhouse-killed", "clickhouse-too-many-parts",
    "postgres-killed", "parts-paused",
}  # fmt: skip
"""Left to `tollbook drill`, as the long ones are: others of their kind are played here."""
PLAYED = [name for name, fault in FAULTS.items() if not fault.is_long and name not in ELSEWHERE]
# Those that want other workers come last, and together: workers start anew for them.
PLAYED.sort(key=lambda name: FAULTS[name].crew != Crew())


@pytest.mark.parametrize("name", PLAYED)
def test_what_is_counted_equals_the_recount_after(arena: Arena, name: str) -> None:
    outcome = play(arena, FAULTS[name], BRIEF, SEED)
    assert not outcome.failures, "\n".join(outcome.failures)
