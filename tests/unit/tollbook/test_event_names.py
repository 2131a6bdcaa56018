"""The address of an event: source and id, each percent-encoded."""

import pytest

from tollbook.api.traces import event_names


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (b"/v1/events/web/1", ("web", "1")),
        (b"/v1/events/a%2Fb/c%2fd?x=1", ("a/b", "c/d")),
        (b"/v1/events/%C3%B6/100%25", ("ö", "100%")),
        (b"/v1/events/a+b/%20", ("a+b", " ")),
        (b"/v1/events//v1/x", None),
        (b"/v1/events/a/b/c", None),
        (b"/v1/events/a", None),
        (b"/v1/events/a/", None),
        (b"/v1/events/%FF/a", None),
        (b"/v1/events/a/%00", None),
        (b"/v1/events/a/" + b"x" * 257, None),
    ],
)
def test_source_and_id_are_read_as_they_were_sent(
    path: bytes, names: tuple[str, str] | None
) -> None:
    if names is not None:
        assert event_names(path) == names
        return
    with pytest.raises(ValueError, match=r"."):
        event_names(path)
