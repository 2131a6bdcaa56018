"""What keeps a stack from starting is told in one line with its remedy; nothing is left behind."""

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.cleaning import leftovers
from infra.embedded.jars import MIRROR_VARIABLE
from tests.embedded_stack import run_tollbook
from tests.forks import REPOSITORY

_FOLDER_ON_A_SMALL_DISK = """
mount -t tmpfs -o size={size} small "$1" || exit 99
exec "$2" -P -m tollbook.cli up --detach --data-dir "$1"
"""


def _up_on_a_disk_of(size: str, folder: Path, **environment: str) -> str:
    """Run `up` in a mount namespace where `folder` is a disk of that size; return its error."""
    folder.mkdir()
    script = _FOLDER_ON_A_SMALL_DISK.format(size=size)
    as_root = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        ["/usr/bin/unshare", *as_root, "/bin/sh", "-c", script, "sh", folder, sys.executable],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert leftovers(folder) == []
    return done.stderr


def test_a_full_disk_is_refused_before_anything_starts(tmp_path: Path) -> None:
    error = _up_on_a_disk_of("100m", tmp_path / "disk")
    assert "the disk is full: 100 MB are free" in error
    assert "--data-dir" in error


def test_a_disk_that_fills_during_the_start_is_named(tmp_path: Path) -> None:
    error = _up_on_a_disk_of("24m", tmp_path / "disk", TOLLBOOK_FREE_BYTES_MIN="0")
    assert "the disk is full" in error
    assert "Free some space" in error
    assert "Traceback" not in error


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        where = ("--data-dir", str(tmp_path), "--port", f"kafka={port}")
        done = run_tollbook("up", "--detach", *where)
    assert done.returncode == 1
    assert f"port {port}, asked for kafka, is taken by" in done.stderr
    assert f"(process {os.getpid()})" in done.stderr
    assert "--port kafka=NUMBER" in done.stderr
    assert leftovers(tmp_path) == []


def test_a_port_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    done = run_tollbook("up", "--data-dir", str(tmp_path), "--port", "kafka=many")
    assert done.returncode == 2
    assert "NAME=NUMBER" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = run_tollbook("up", "--detach", "--data-dir", str(tmp_path / "file" / "below"))
    assert done.returncode == 1
    assert "cannot be used as a data folder" in done.stderr
    assert "--data-dir" in done.stderr


@contextmanager
def _mirror(status: int, body: bytes) -> Iterator[str]:
    """Run a Maven mirror that answers everything alike, its own checksums included."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = hashlib.sha1(body).hexdigest().encode()  # noqa: S324 - Maven's checksum
            content = content if self.path.endswith(".sha1") else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _up_with_empty_cache(folder: Path, mirror: str) -> str:
    environment = {"XDG_CACHE_HOME": str(folder / "cache"), MIRROR_VARIABLE: mirror}
    done = run_tollbook(
        "up", "--detach", "--data-dir", str(folder / "data"), environment=environment
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert list((folder / "cache" / "tollbook" / "jars").iterdir()) == []
    assert leftovers(folder / "data") == []
    return done.stderr


def test_a_refused_download_is_named(tmp_path: Path) -> None:
    with _mirror(403, b"no") as mirror:
        error = _up_with_empty_cache(tmp_path, mirror)
    assert "the download of" in error
    assert "was refused" in error
    assert "HTTPS_PROXY" in error


def test_a_machine_without_network_is_told_what_it_can_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = _up_with_empty_cache(tmp_path, f"http://127.0.0.1:{port}")
    assert "the download of" in error
    assert "from a machine that has it" in error


def test_a_jar_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    with _mirror(200, b"not a jar") as mirror:
        error = _up_with_empty_cache(tmp_path, mirror)
    assert "arrived with checksum" in error
    assert "Nothing was kept" in error
