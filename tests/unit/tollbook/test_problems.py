"""What a refused request is told."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from tollbook.api.problem import install_problems


class Wanted(BaseModel):
    number: int


def refused(body: str) -> dict[str, Any]:
    app = FastAPI()
    install_problems(app)

    @app.post("/")
    def take(wanted: Wanted) -> int:
        return wanted.number

    answer = TestClient(app).post("/", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert answer.json()["detail"].endswith(f"{fault['field']}: {fault['reason']}")
    return dict(fault)


@pytest.mark.parametrize(("body", "place"), [("{bad", 2), ('{"number":\n 1', 14)])
def test_a_body_that_is_no_json_is_told_from_which_character(body: str, place: int) -> None:
    fault = refused(body)
    assert (fault["field"], fault["pointer"]) == ("body", "")
    assert fault["reason"].startswith(f"no JSON from character {place} on: ")


def test_a_member_that_does_not_fit_is_told_by_its_name() -> None:
    fault = refused('{"number": "x"}')
    assert (fault["field"], fault["pointer"]) == ("body.number", "/number")
