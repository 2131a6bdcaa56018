"""`python -m tollbook.api`: serves the API on uvicorn."""

import os

import uvicorn

from tollbook.api.application import build_app


def main() -> None:
    """Serve until told to stop."""
    uvicorn.run(
        build_app(os.environ),
        host=os.environ.get("TOLLBOOK_API_HOST", "127.0.0.1"),
        port=int(os.environ["TOLLBOOK_API_PORT"]),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
