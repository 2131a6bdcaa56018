"""A stack of the drills' own: they start, hurt and end its workers themselves."""

from collections.abc import Iterator

import pytest

from infra.embedded import control
from tollbook.drill.arena import Arena


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Yield a stack without workers, for no longer than the drills take."""
    made = Arena(tmp_path_factory.mktemp("a drill stack"))
    made.open(lambda options: control.start(options, lambda _: None))
    yield made
    made.close()
