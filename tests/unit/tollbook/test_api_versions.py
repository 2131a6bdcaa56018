import asyncio
import json

import pytest

from tollbook.api.problem import ProblemError
from tollbook.api.versions import if_match


def refused(given: str | None, current: int) -> tuple[int, int]:
    with pytest.raises(ProblemError) as caught:
        asyncio.run(if_match(given)).check(current)
    answer = caught.value.answer
    assert answer.headers["etag"] == f'"{current}"'
    return answer.status_code, json.loads(bytes(answer.body))["current_version"]


@pytest.mark.parametrize("given", ['"3"', '"2", "3"', 'W/"3"', "*", ' "3" '])
def test_who_names_the_current_version_may_change_it(given: str) -> None:
    asyncio.run(if_match(given)).check(3)


@pytest.mark.parametrize("given", ['"2"', "3", "", '"three"', '"', '"3', "\x00", '"-3"'])
def test_a_stale_writer_is_refused_and_told_the_current_version(given: str) -> None:
    assert refused(given, 3) == (409, 3)


def test_who_names_no_version_is_asked_for_one() -> None:
    assert refused(None, 3) == (428, 3)
