"""Hands events on to ingest, byte for byte, so that one address serves clients that know one.

Ingest checks the key, and says everything that is said; nothing is decided here.
"""

from collections.abc import AsyncIterator, Callable

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask

from tollbook.api.problem import problem

_SECONDS = 60.0
_CONNECTIONS_MAX = 100
_OF_A_HOP = {
    "connection", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip


def add_relay(router: APIRouter, ingest_url: Callable[[], str]) -> None:
    """Add `POST /events`, which answers what ingest answers."""
    clients: list[httpx.AsyncClient] = []

    @router.post("/events", status_code=204, responses={400: {}, 413: {}, 429: {}})
    async def send_events(request: Request) -> Response:
        """Take events as CloudEvents, one or many; 204 when Kafka has them all."""
        if not clients:
            limits = httpx.Limits(max_connections=_CONNECTIONS_MAX)
            clients.append(httpx.AsyncClient(timeout=_SECONDS, limits=limits, trust_env=False))
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if name.decode("latin-1") not in _OF_A_HOP
        ]
        query = f"?{request.url.query}" if request.url.query else ""
        url = f"{ingest_url()}/v1/events{query}"
        asked = clients[0].build_request("POST", url, headers=headers, content=_body(request))
        try:
            answer = await clients[0].send(asked, stream=True)
        except httpx.HTTPError as error:
            detail = f"ingest does not answer: {type(error).__name__}; sending again is harmless"
            return problem(503, detail, {"Retry-After": "1"})
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers={n: v for n, v in answer.headers.items() if n.lower() not in _OF_A_HOP},
            background=BackgroundTask(answer.aclose),
        )


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
