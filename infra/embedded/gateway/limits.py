"""Every bound the gateway keeps, in one place, so that no peer can make it grow without end."""

from dataclasses import dataclass

from infra.analysts import BOUNDS

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on connections, sizes and times; the defaults suit one machine."""

    connections_max: int = 256
    queries_max: int = 32
    analyst_queries_max: int = 4
    analyst_seconds_max: int = int(BOUNDS["max_execution_time"])
    query_wait_seconds: float = 60.0
    sessions_max: int = 1024
    kept_max: int = 16
    session_timeout_seconds_max: int = 3600
    url_bytes_max: int = MIB
    header_bytes_max: int = 256 * 1024
    headers_max: int = 128
    header_seconds: float = 30.0
    idle_seconds: float = 120.0
    body_seconds: float = 60.0
    send_seconds: float = 300.0
    linger_seconds: float = 3.0
    drain_seconds: float = 20.0
    statement_bytes_max: int = 16 * MIB
    insert_bytes_max: int = 4096 * MIB
    form_bytes_max: int = 64 * MIB
    held_bytes: int = MIB
    memory_bytes_max: int = 2048 * MIB
