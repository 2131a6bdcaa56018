"""In what form usage is answered, by what is accepted."""

import pytest
from starlette.requests import Request

from tollbook.api.usage import ARROW, CSV, JSON, wants


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv", CSV),
        ("Text/CSV; charset=utf-8", CSV),
        (ARROW, ARROW),
        (f"{JSON}, {CSV}", CSV),
        (f"*/*, {ARROW}", ARROW),
        (f"{CSV};q=0.1, {JSON}", JSON),
        (f"{CSV};q=0, */*;q=0.1", JSON),
        (f"{JSON};q=0, */*", CSV),
        (f"text/html, {JSON};q=0.5", JSON),
        (f"{CSV};q=0.5, {ARROW};q=0.501", ARROW),
        ("application/xml", None),
        (f"{JSON};q=0", None),
        (f"{CSV};q=much", None),
    ],
)
def test_the_most_wanted_form_that_there_is_is_answered(
    accept: str | None, media_type: str | None
) -> None:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    assert wants(Request({"type": "http", "headers": headers})) == media_type
