"""The stack that all tests share: real servers, up once for the whole run."""

from collections.abc import Iterator

import pytest

from tests.embedded_stack import EmbeddedStack

BAD_EVENTS_MAX = 50
"""So many bad events quarantine a source here: fewer than by default for all to wade through."""
ANALYST_SECONDS_MAX = 8
"""So long a query of an analyst may take here: less than by default, to wait for one that does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=("shared", "none"),
        help="Only modules of which tests share the stack, or only the others: either by itself.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--stack")
    if wanted is None:
        return
    # A module stays together: what it starts for itself is started once.
    sharing = {item.path for item in items if "stack" in getattr(item, "fixturenames", ())}
    chosen = [item for item in items if (item.path in sharing) == (wanted == "shared")]
    config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
    items[:] = chosen


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Yield a full stack in a directory of its own; a test that hurts it waits until it healed."""
    home = tmp_path_factory.mktemp("a shared stack")
    bounds = {
        "TOLLBOOK_BAD_EVENTS_MAX": str(BAD_EVENTS_MAX),
        "TOLLBOOK_ANALYST_SECONDS_MAX": str(ANALYST_SECONDS_MAX),
    }
    shared = EmbeddedStack(home, environment=bounds)
    shared.up()
    yield shared
    shared.down()
