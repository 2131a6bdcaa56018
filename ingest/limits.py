"""What ingest takes at most, and how long it waits: every bound in one place, each configurable.

Sizes are in bytes, times in seconds; a setting is the field's name in capitals behind
`TOLLBOOK_INGEST_`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

PREFIX = "TOLLBOOK_INGEST_"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What one event may be; the same for HTTP and for direct producers."""

    event_bytes_max: int = MIB
    """Data and extension attributes together, without insignificant white space."""
    nesting_max: int = 32
    future_seconds_max: int = 300
    past_seconds_max: int = 400 * 86_400
    """Not asked of a tenant that is open for history."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request and one connection may be."""

    body_bytes_max: int = 16 * MIB
    """On the wire and again after decompression."""
    request_events_max: int = 20_000
    head_bytes_max: int = 16 * 1024
    headers_max: int = 64
    head_seconds_max: int = 10
    body_seconds_max: int = 60
    idle_seconds_max: int = 75
    write_seconds_max: int = 30
    connections_max: int = 4096
    pipeline_depth_max: int = 16


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """How events are gathered into records, and how much may wait."""

    linger_ms: int = 3
    linger_busy_ms: int = 20
    """At most, while records are under way: fewer and larger ones cost less."""
    batch_bytes_max: int = 4 * MIB
    record_bytes_max: int = 4 * MIB
    """Of a record before compression, where it holds more than one event."""
    waiting_bytes_max: int = 256 * MIB
    """Bodies being read plus events without a delivery report; above it requests get 503."""
    delivery_seconds_max: int = 15
    drain_seconds_max: int = 25
    keys_refresh_seconds: int = 3


LimitsT = TypeVar("LimitsT", EventLimits, RequestLimits, FlowLimits)


def from_environment(kind: type[LimitsT], environment: Mapping[str, str]) -> LimitsT:
    """Return the limits of one kind, with what the environment overrides.

    Raises:
        ValueError: a setting is not a positive whole number; names the variable.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):
        variable = PREFIX + field.name.upper()
        text = environment.get(variable)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ValueError(f"{variable} must be a positive whole number, not {text!r}")
        values[field.name] = int(text)
    return kind(**values)
