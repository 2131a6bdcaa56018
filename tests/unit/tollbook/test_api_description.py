import json
from collections.abc import Iterator
from typing import Any

import pytest

from tollbook.api.application import build_app
from tollbook.api.openapi import TAGS

OPEN = {"/healthz", "/readyz", "/api/v1/events"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return build_app({"TOLLBOOK_POSTGRES_DSN": ""}).openapi()


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_operation_has_a_name_of_its_own_a_sentence_and_a_known_subject(
    described: dict[str, Any],
) -> None:
    names = [each["operationId"] for _, _, each in operations(described)]
    assert len(names) == len(set(names)) > 50
    for _, _, each in operations(described):
        assert each["description"].strip()
        assert set(each["tags"]) <= set(TAGS)


def test_every_operation_needs_a_key_and_says_how_it_refuses(described: dict[str, Any]) -> None:
    for path, _, each in operations(described):
        assert bool(each.get("security")) == (path not in OPEN), path
        if each.get("security"):
            assert {"401", "403", "503"} <= set(each["responses"]), path
        for status, response in each["responses"].items():
            if status >= "400":
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}


def test_only_writes_take_an_idempotency_key(described: dict[str, Any]) -> None:
    for path, method, each in operations(described):
        names = {parameter["name"].lower() for parameter in each.get("parameters", [])}
        assert ("idempotency-key" in names) == (method != "get" and path not in OPEN), path


def test_what_is_referred_to_is_described(described: dict[str, Any]) -> None:
    text = json.dumps(described)
    known = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    asked = {part.split(chr(34))[0] for part in text.split("$ref" + chr(34) + ": " + chr(34))[1:]}
    assert asked <= known
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
