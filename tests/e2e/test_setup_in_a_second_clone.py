"""A second clone sets up without a network, in a path with a space, and then works."""

import os
import subprocess
import sys
from pathlib import Path

from tests.tidy.tree import ROOT, file_names

_NO_NETWORK = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


def test_a_second_clone_sets_up_without_a_network(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    for name in file_names():
        copy = clone / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    environment = {**os.environ, **_NO_NETWORK, "TOLLBOOK_PYTHON": sys.executable}
    environment.pop("PYTHONPATH", None)

    def make(*targets: str) -> str:
        done = subprocess.run(
            ["/usr/bin/env", "make", *targets],
            cwd=clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert "setup" in make(), "make alone prints its targets"
    make("setup")
    assert "Nothing to be done" in make("setup")
    command = [str(clone / ".venv" / "bin" / "tollbook"), "up", "--help"]
    helped = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "--data-dir" in helped.stdout
    where = [
        str(clone / ".venv" / "bin" / "python"),
        "-P",
        "-c",
        "import infra; print(infra.__file__)",
    ]
    found = subprocess.run(where, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(clone / "infra" / "__init__.py")
