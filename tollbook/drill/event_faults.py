"""What is sent: copies, skew, and values that break naive parsers, while nothing else fails."""

from tollbook.drill.case import Fault, Strike
from tollbook.drill.workloads import copies, hostile, skew

_SMALL_SLICES = {"TOLLBOOK_SLICE_EVENTS": "300", "TOLLBOOK_SLICES_MAX": "2"}
"""So that copies soon lie behind the horizon of what Redis holds."""


def _wait_for_feed(strike: Strike) -> None:
    strike.feed_ended.wait()
    strike.note("sent")


EVENT_FAULTS = [
    Fault(
        "copies",
        "copies x1 to x1000, behind the horizon too; conflicts; ids that look alike",
        strike=_wait_for_feed,
        workload=copies,
        settings=_SMALL_SLICES,
        rolls_segments=True,
        stretch_s=0.0,
    ),
    Fault(
        "skew",
        "one subject has nine of ten events, the others follow a power law",
        strike=_wait_for_feed,
        workload=skew,
        stretch_s=0.0,
    ),
    Fault(
        "hostile",
        "numbers, names and bytes that break naive parsers",
        strike=_wait_for_feed,
        workload=hostile,
        stretch_s=0.0,
    ),
]
