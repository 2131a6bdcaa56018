"""One ingest process with short deadlines, shared by the suite."""

from collections.abc import Iterator

import pytest

from tests.conformance.ingest.ingest_process import IngestProcess, TopicReader, make_key, running
from tests.embedded_stack import EmbeddedStack
from tollbook.stack_file import Stack

TENANT = "http-suite"
LIMITS = {
    "head_seconds_max": 1,
    "body_seconds_max": 2,
    "idle_seconds_max": 3,
    "write_seconds_max": 2,
    "connections_max": 400,
    "body_bytes_max": 2_000_000,
    "event_bytes_max": 1_000_000,
    "delivery_seconds_max": 2,
    "keys_refresh_seconds": 1,
}


@pytest.fixture(scope="session")
def addresses(stack: EmbeddedStack) -> Stack:
    return stack.read()


@pytest.fixture(scope="session")
def key(addresses: Stack) -> str:
    return make_key(addresses, TENANT)


@pytest.fixture(scope="module")
def ingest(
    addresses: Stack, key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IngestProcess]:
    directory = tmp_path_factory.mktemp("an ingest")
    with running(IngestProcess(addresses, directory, key, LIMITS)) as process:
        yield process


@pytest.fixture
def topic(addresses: Stack) -> Iterator[TopicReader]:
    reader = TopicReader(addresses)
    yield reader
    reader.close()
