"""The stack that all tests share: real servers, up once for the whole run."""

from collections.abc import Iterator

import pytest

from tests.embedded_stack import EmbeddedStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Yield a full stack in a directory of its own; a test that hurts it waits until it healed."""
    shared = EmbeddedStack(tmp_path_factory.mktemp("a shared stack"))
    shared.up()
    yield shared
    shared.down()
