"""Asks servers whether they are ready, in a few bytes of their own protocols: no drivers needed."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from infra.embedded.config import DATABASE, HOST, OWNER

_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to a server of this machine, and the answer of one that is ready."""

    port: int
    question: bytes
    answer_bytes: int
    means_ready: Callable[[bytes], bool]

    async def is_ready(self) -> bool:
        """Tell whether the server may be used."""
        return self.means_ready(await self._ask())

    async def answers(self) -> bool:
        """Tell whether the server says anything, such as that it is too busy: it does not hang."""
        return bool(await self._ask())

    async def _ask(self) -> bytes:
        """Ask, and return the answer's first bytes; none where nobody answers."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                try:
                    writer.write(self.question)
                    return await reader.readexactly(self.answer_bytes)
                except asyncio.IncompleteReadError as error:
                    return error.partial
                finally:
                    writer.close()
        return b""


def kafka_probe(port: int) -> Probe:
    """Ask for the cluster's brokers: a broker is listed once it may serve."""
    client = b"tollbook"
    # Metadata, version 1, of no topics.
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)

    def lists_a_broker(answer: bytes) -> bool:
        return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0

    return Probe(port, struct.pack(">i", len(body)) + body, 12, lists_a_broker)


def redis_probe(port: int, password: str) -> Probe:
    """Log in and ping."""
    question = f"AUTH {password}\r\nPING\r\n".encode()
    return Probe(port, question, 12, lambda answer: answer == b"+OK\r\n+PONG\r\n")


def postgres_probe(port: int) -> Probe:
    """Begin to log in: a server that still recovers refuses before it asks for a password."""
    names = f"user\0{OWNER}\0database\0{DATABASE}\0\0".encode()
    body = struct.pack(">i", 196_608) + names
    question = struct.pack(">i", len(body) + 4) + body
    return Probe(port, question, 1, lambda answer: answer == b"R")


def http_probe(port: int, path: str) -> Probe:
    """Ask for a page and look for status 200."""
    question = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    return Probe(port, question.encode(), 12, lambda answer: answer == b"HTTP/1.1 200")
