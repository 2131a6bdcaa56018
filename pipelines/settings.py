"""Settings of a worker, and of the auditor, from TOLLBOOK_* in their environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipelines.quarantine import BAD_EVENTS_MAX
from pipelines.segment import SLICE_EVENTS, SLICES_MAX


class WorkerSettings(BaseSettings):
    """Where the servers are, and how far verdicts look back."""

    model_config = SettingsConfigDict(env_prefix="TOLLBOOK_", hide_input_in_errors=True)

    kafka_bootstrap: str
    postgres_dsn: str
    clickhouse_url: str
    redis_url: str
    pulse_file: str = ""
    """Touched twice a second while the worker gets on, for who starts it again when it hangs."""
    slice_events: int = Field(default=SLICE_EVENTS, ge=1)
    """Events of a partition per slice of the memory of identities."""
    slices_max: int = Field(default=SLICES_MAX, ge=1, le=16)
    """Slices that verdicts look back over; all workers of a deployment must agree."""
    bad_events_max: int = Field(default=BAD_EVENTS_MAX, ge=1)
    """So many bad events of a source in a partition become dead letters before, where they are most
    of what it sends, it is quarantined; all workers of a deployment must agree."""


class AuditorSettings(BaseSettings):
    """Where the servers are, and how often every tenant is audited."""

    model_config = SettingsConfigDict(env_prefix="TOLLBOOK_", hide_input_in_errors=True)

    kafka_bootstrap: str
    postgres_dsn: str
    clickhouse_url: str
    audit_seconds: int = Field(default=86_400, ge=1)
