"""What is sent: copies, skew, stepping clocks, and values that break naive parsers."""

from ingest.topic import TOPIC_SETTINGS
from tollbook.drill.case import Fault, Strike
from tollbook.drill.fleet import Crew
from tollbook.drill.hostile import hostile
from tollbook.drill.topic import set_topic
from tollbook.drill.workloads import clocks, copies, skew

_SMALL_SLICES = Crew(settings={"TOLLBOOK_SLICE_EVENTS": "100", "TOLLBOOK_SLICES_MAX": "2"})
"""So that copies soon lie behind the horizon of what Redis holds."""
_TRUSTING = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
"""A topic that takes a producer's word for its own time, as if that were the broker's clock."""


def _note_sent(strike: Strike) -> None:
    strike.wait_for_feed()
    strike.note("sent")


def _arm_clock(strike: Strike) -> None:
    set_topic(strike.arena.stack, strike.feed.topic, dict(_TRUSTING))


def _step_clock(strike: Strike) -> None:
    strike.wait_for_feed()
    before = {name: TOPIC_SETTINGS.get(name) for name in _TRUSTING}
    set_topic(strike.arena.stack, strike.feed.topic, before)
    strike.note("clock stepped")


EVENT_FAULTS = [
    Fault(
        "copies",
        "copies x1 to x1000, behind the horizon too; same id, other body; ids that look alike",
        _note_sent,
        workload=copies,
        crew=_SMALL_SLICES,
        rolls_segments=True,
        stretch_s=0.0,
    ),
    Fault(
        "clock-steps",
        "the broker's clock steps by 5 min and 1 h, back, and over ends of months and years",
        _step_clock,
        arm=_arm_clock,
        workload=clocks,
        crew=_SMALL_SLICES,
        is_last=True,
        rolls_segments=True,
        stretch_s=0.0,
    ),
    Fault(
        "skew",
        "one subject has nine of ten events, the others follow a power law or are new each time",
        _note_sent,
        workload=skew,
        stretch_s=0.0,
    ),
    Fault(
        "hostile",
        "numbers, names and bytes that break naive parsers",
        _note_sent,
        workload=hostile,
        stretch_s=0.0,
    ),
]
