"""The states of a subscription, the moves between them, and what its terms make fall due.

The database holds the same table of moves and refuses every other one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from billing.customer import Subscription
from billing.period import midnight

State = Literal["draft", "trialing", "active", "past_due", "paused", "canceled"]
Kind = Literal["start", "try", "remind", "convert", "lapse", "resume", "pause", "phase", "end"]

MOVES: Mapping[State, frozenset[State]] = {
    "draft": frozenset({"trialing", "active", "canceled"}),
    "trialing": frozenset({"active", "past_due", "canceled"}),
    "active": frozenset({"past_due", "paused", "canceled"}),
    "past_due": frozenset({"active", "paused", "canceled"}),
    "paused": frozenset({"active", "past_due", "canceled"}),
    "canceled": frozenset(),
}
"""Where a subscription may go from each state; `canceled` is the end."""

ORDER: tuple[Kind, ...] = (
    *("start", "try", "remind", "convert", "lapse"),
    *("resume", "pause", "phase", "end"),
)
"""What is done first of what falls due at one instant."""

REASONS: Mapping[Kind, str] = {
    "start": "it starts",
    "try": "its trial starts",
    "remind": "its trial ends soon",
    "convert": "its trial has ended",
    "lapse": "its trial has ended without a payment",
    "resume": "its pause has ended",
    "pause": "it is paused",
    "phase": "a change of its terms takes effect",
    "end": "it ends",
}
_MOVED: Mapping[tuple[Kind, State], State] = {
    ("start", "draft"): "active",
    ("try", "draft"): "trialing",
    ("convert", "trialing"): "active",
    ("lapse", "trialing"): "past_due",
    ("pause", "active"): "paused",
    ("pause", "past_due"): "paused",
    ("resume", "paused"): "active",
}
TOLD: Mapping[Kind, frozenset[State]] = {
    "remind": frozenset({"trialing"}),
    "phase": frozenset({"trialing", "active", "past_due", "paused"}),
}
"""What leads to an event without a move, and in which states."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done to a subscription at an instant."""

    key: str
    due_at: datetime
    kind: Kind

    @property
    def ordinal(self) -> int:
        """Its place among what falls due at the same instant."""
        return ORDER.index(self.kind)


def first_state(subscription: Subscription, zone: ZoneInfo, at: datetime) -> State:
    """Return the state in which a subscription begins that becomes known at an instant."""
    if at < midnight(subscription.start, zone):
        return "draft"
    return "trialing" if at < midnight(subscription.billed_from, zone) else "active"


def end_of(subscription: Subscription, zone: ZoneInfo) -> datetime | None:
    """Return the instant at which a subscription ends, where it does."""
    return subscription.end_at(zone)


def ends_by(subscription: Subscription, zone: ZoneInfo, at: datetime) -> bool:
    """Return whether a subscription's terms end it at or before an instant."""
    end = end_of(subscription, zone)
    return end is not None and end <= at


def work_of(subscription: Subscription, zone: ZoneInfo, state: State) -> list[Work]:
    """Return what is still to be done to a subscription in a state, in order."""
    key, trial = subscription.key, subscription.trial
    found = []
    if state == "draft":
        kind: Kind = "start" if trial is None else "try"
        found.append(Work(key, midnight(subscription.start, zone), kind))
    if trial is None and state == "trialing":
        found.append(Work(key, midnight(subscription.start, zone), "convert"))
    if trial is not None and state in ("draft", "trialing"):
        ends_on = subscription.billed_from
        reminders = {ends_on - timedelta(days=days) for days in trial.remind_days}
        begun = [on for on in sorted(reminders) if on >= subscription.start]
        found += [Work(key, midnight(on, zone), "remind") for on in begun]
        if trial.outcome != "canceled":
            kind = "convert" if trial.outcome == "active" else "lapse"
            found.append(Work(key, midnight(ends_on, zone), kind))
    end = end_of(subscription, zone)
    if state != "canceled":
        for paused_at, resumed_at in subscription.paused(zone):
            found.append(Work(key, paused_at, "pause"))
            if resumed_at is not None:
                found.append(Work(key, resumed_at, "resume"))
        found += [Work(key, at, "phase") for at in _phases(subscription, zone)]
    if end is not None and state != "canceled":
        found.append(Work(key, end, "end"))
    return found


def _phases(subscription: Subscription, zone: ZoneInfo) -> list[datetime]:
    """Return when items, versions and seats change after the start and before the end."""
    moments = {
        moment
        for item in subscription.items
        for moment in (
            item.start,
            item.end,
            *(pin.start for pin in item.pins),
            *(one.start for changes in item.quantities.values() for one in changes),
        )
        if moment is not None
    }
    start, end = midnight(subscription.start, zone), end_of(subscription, zone)
    found = {subscription.point(moment, zone) for moment in moments}
    return sorted(at for at in found if start < at and (end is None or at < end))


def moved_by(kind: Kind, state: State) -> State:
    """Return the state that due work leads to; the same where there is nothing left to do."""
    if kind == "end":
        return "canceled"
    return _MOVED.get((kind, state), state)
