"""`python -m tollbook.api`: serves the API on uvicorn."""

import gc
import os
import sys

import uvicorn

from ingest.without_pandas import keep_out_pandas
from tollbook.api.application import build_app

_SWITCH_SECONDS = 0.0005
"""A thread that makes an answer keeps those who wait for theirs no longer than this at a time."""


def main() -> None:
    """Serve until told to stop."""
    keep_out_pandas()
    app = build_app(os.environ)
    # The routes and their schemas stay for ever: no collection looks through them again.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)
    uvicorn.run(
        app,
        host=os.environ.get("TOLLBOOK_API_HOST", "127.0.0.1"),
        port=int(os.environ["TOLLBOOK_API_PORT"]),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
