"""Compiles, at setup, the loops that a stack's first start would else wait for."""

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from ingest.rehearsal import rehearse

_COMPILED = (
    "siphash", "body_hash", "code_by_text", "plain_numbers", "plain_members", "identity_entries",
    "identity_filter", "rows", "sums", "window_order",
)  # fmt: skip


_PACKAGES = Path(__file__).parent.parent


def main() -> None:
    """Compile everything anew by running it once; what came of it is kept beside the modules."""
    for package in ("compiled", "ingest", "pipelines"):
        for kept in (_PACKAGES / package / "__pycache__").glob("*.nb[ci]"):
            kept.unlink()
    for name in _COMPILED:
        import_module(f"pipelines.{name}")  # they compile as they are imported
    rehearse(datetime(2025, 1, 1, tzinfo=UTC))


if __name__ == "__main__":
    main()
