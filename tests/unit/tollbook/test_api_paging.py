import pytest

from tollbook.api.paging import Paging
from tollbook.api.problem import ProblemError

MARK = b"abcdef"


def paging(cursor: str | None, limit: int = 2, mark: bytes = MARK) -> Paging:
    return Paging(cursor, limit, mark)


def test_pages_join_to_the_whole_list_and_the_last_one_says_so() -> None:
    rows = [{"day": f"2013-01-{n // 2 + 1:02}", "id": n} for n in range(7)]
    shown, cursor = [], None
    for _ in range(4):
        asked = paging(cursor)
        after = asked.after(str, int) or ["", -1]
        rest = [row for row in rows if [row["day"], row["id"]] > after]
        page = asked.page(rest[: asked.fetch], "day", "id")
        shown += page["items"]
        cursor = page["next"]
    assert (shown, cursor) == (rows, None)


def test_a_full_page_with_nothing_behind_it_is_the_last() -> None:
    rows = [{"key": "a"}, {"key": "b"}]
    assert paging(None).page(rows, "key") == {"items": rows, "next": None}


@pytest.mark.parametrize("cursor", ["", "a", "%", "AAAA", "x" * 500, "\x00", "ö", "YWJjZGVm"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError):
        paging(cursor).after(str)


def test_a_cursor_of_another_list_or_of_other_types_is_refused() -> None:
    cursor = paging(None).cursor_at("a", 1)
    assert paging(cursor).after(str, int) == ["a", 1]
    for mark, kinds in ((b"ghijkl", (str, int)), (MARK, (str,)), (MARK, (int, str))):
        with pytest.raises(ProblemError):
            paging(cursor, mark=mark).after(*kinds)
