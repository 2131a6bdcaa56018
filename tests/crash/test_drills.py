"""Whatever is done to the parts, and whatever is sent: what is counted equals the recount.

The same cases as `tollbook drill`, with less events and one seed. Each compares what the API
answers, per meter, subject and hour, with a naive recount of what was written down beforehand,
and accounts for every event that was sent.
"""

import pytest

from tollbook.drill.arena import Arena
from tollbook.drill.case import QUICK, Outcome, play
from tollbook.drill.event_faults import EVENT_FAULTS
from tollbook.drill.faults import FAULTS
from tollbook.drill.server_faults import SERVER_FAULTS
from tollbook.drill.worker_faults import WORKER_FAULTS

SEED = 7


def drilled(arena: Arena, name: str) -> Outcome:
    outcome = play(arena, FAULTS[name], QUICK, SEED)
    assert not outcome.failures, "\n".join(outcome.failures)
    return outcome


@pytest.mark.parametrize("name", [fault.name for fault in WORKER_FAULTS])
def test_totals_equal_the_recount_whatever_is_done_to_workers(arena: Arena, name: str) -> None:
    drilled(arena, name)


@pytest.mark.parametrize("name", [fault.name for fault in SERVER_FAULTS])
def test_totals_equal_the_recount_whatever_is_done_to_servers(arena: Arena, name: str) -> None:
    drilled(arena, name)


@pytest.mark.parametrize("name", [fault.name for fault in EVENT_FAULTS])
def test_totals_equal_the_recount_whatever_is_sent(arena: Arena, name: str) -> None:
    drilled(arena, name)
