"""A real gateway process for the conformance suite: its own directory, a free port."""

import http.client
import os
import re
import subprocess
import sys
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect

PASSWORD = "a password: with & signs/é"
LOGIN = {"Authorization": "Basic " + b64encode(f"owner:{PASSWORD}".encode()).decode()}
_READY = re.compile(r"ready port=(\d+)")


@dataclass
class GatewayProcess:
    """Starts, kills and restarts one gateway over one data directory."""

    data_dir: Path
    arguments: tuple[str, ...] = ()
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def log_path(self) -> Path:
        return self.data_dir.with_suffix(".log")

    def start(self) -> "GatewayProcess":
        begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        command = (sys.executable, "-m", "infra.embedded.gateway", "--data-dir", self.data_dir)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", "0", *self.arguments],
                env={**os.environ, "TOLLBOOK_CLICKHOUSE_PASSWORD": PASSWORD},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := _READY.search(self.log_text()[begin:]):
                self.port = int(found.group(1))
                return self
            time.sleep(0.02)
        raise AssertionError(f"the gateway did not start: {self.log_text()}")

    def log_text(self) -> str:
        return self.log_path.read_bytes().decode("utf-8", errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def connect(self, **options: Any) -> Any:
        return clickhouse_connect.get_client(**self.address() | options)

    async def connect_async(self, **options: Any) -> Any:
        return await clickhouse_connect.get_async_client(**self.address() | options)

    def address(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "username": "owner",
            "password": PASSWORD,
            "database": "default",
            "tz_mode": "aware",
        }


def ask(
    gateway: GatewayProcess,
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    **params: Any,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Sends one request without the driver; returns the answer and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    try:
        target = f"{path}?{urlencode(params)}" if params else path
        connection.request(method, target, body, LOGIN if headers is None else headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()
