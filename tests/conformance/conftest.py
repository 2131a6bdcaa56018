"""Servers that the conformance suites share, one per module."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.gateway_process import GatewayProcess


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway") / "data").start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def client(gateway: GatewayProcess) -> Iterator[Any]:
    connected = gateway.connect()
    yield connected
    connected.close()
