"""Asks servers whether they are ready, in a few bytes of their own protocols: no drivers needed."""

import asyncio
import struct
from contextlib import suppress

from infra.embedded.config import DATABASE, HOST, OWNER

_SECONDS = 1.0


async def _ask(port: int, question: bytes, answer_bytes: int) -> bytes:
    """Send bytes and return the answer's first ones; empty where nobody answers."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(question)
                return await reader.readexactly(answer_bytes)
            finally:
                writer.close()
    return b""


async def kafka_is_ready(port: int) -> bool:
    """Ask for the cluster's brokers: a broker is listed once it may serve."""
    client = b"tollbook"
    # Metadata, version 1, of no topics.
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    answer = await _ask(port, struct.pack(">i", len(body)) + body, 12)
    return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


async def redis_is_ready(port: int, password: str) -> bool:
    """Log in and ping."""
    answer = await _ask(port, f"AUTH {password}\r\nPING\r\n".encode(), 12)
    return answer == b"+OK\r\n+PONG\r\n"


async def postgres_is_ready(port: int) -> bool:
    """Begin to log in: a server that still recovers refuses before it asks for a password."""
    names = f"user\0{OWNER}\0database\0{DATABASE}\0\0".encode()
    body = struct.pack(">i", 196_608) + names
    return await _ask(port, struct.pack(">i", len(body) + 4) + body, 1) == b"R"


async def http_is_ready(port: int, path: str) -> bool:
    """Ask for a page and look for status 200."""
    question = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    return await _ask(port, question.encode(), 12) == b"HTTP/1.1 200"
