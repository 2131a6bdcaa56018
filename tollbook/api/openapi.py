"""The description of the API at `/openapi.json`, as its clients and its tests read it."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from tollbook.api.problem import MEDIA_TYPE, Problem

TAGS = {
    "customers": "Who pays, and for whose usage.",
    "catalog": "Price books and what they charge.",
    "subscriptions": "What a customer has agreed to, and how that changes.",
    "clocks": "The time of a test tenant.",
    "wallets": "Credits that were paid for or given.",
    "invoices": "Bill runs, invoices, credit notes and what corrected them.",
    "ledger": "The double-entry books, and which months are closed.",
    "meters": "What is measured.",
    "usage": "What was used, and where each event is.",
    "openmeter": "Paths and shapes of OpenMeter, for its clients.",
    "health": "Whether the service works.",
}
_DESCRIPTION = """\
Meters, customers, prices, subscriptions, invoices and the ledger of the tenant whose key asks.

* Keys go into `Authorization: Bearer KEY`. An owner reads and writes, an analyst reads.
* Amounts are integers of minor units, in members that end in `_minor`. Prices, quantities and
  amounts in words are decimal text.
* Lists come in pages: `next` of one is the `cursor` of the following.
* A write with an `Idempotency-Key` is made once; the same request again is answered as the first.
* What has a version comes with an `ETag`; a change names the one it was made of in `If-Match`.
* Errors are RFC 9457 problems; `errors` says what is wrong where.
"""
_READS = ("get", "head")


def describe(app: FastAPI) -> None:
    """Let an application describe itself in full."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation: its function's, and who else's where that is not one."""
    own = route.name.rstrip("_")
    return f"openmeter_{own}" if route.path_format.startswith("/api/") else own


def _described(app: FastAPI) -> dict[str, Any]:
    content = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = content.setdefault("components", {}).setdefault("schemas", {})
    own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(own.pop("$defs", {}), Problem=own)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for method, operation in _operations(content):
        if method in _READS:
            operation["parameters"] = [
                each
                for each in operation.get("parameters", [])
                if each["name"].lower() != "idempotency-key"
            ]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                response["content"] = {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}
                }
    return content


def _operations(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in content["paths"].values():
        yield from path.items()
