"""Who an event is, and what makes another one its copy."""

from typing import Any

import pyarrow as pa

from pipelines.identity import body_hashes, identities
from pipelines.record import POSITIONED_SCHEMA
from tests.unit.pipelines.test_fold import NOON, events


def changed(**fields: Any) -> Any:
    (row,) = events(b'{"a":1}').to_pylist()
    return pa.Table.from_pylist([row | fields], schema=POSITIONED_SCHEMA)


def identity(seed: int = 7, **fields: Any) -> bytes:
    return bytes(identities(changed(**fields), seed).tobytes())


def body(seed: int = 7, **fields: Any) -> bytes:
    return bytes(body_hashes(changed(**fields), seed).tobytes())


def test_an_identity_is_tenant_source_and_id_and_nothing_else() -> None:
    for field, value in dict[str, Any]({"tenant": "u", "source": "z", "id": "9"}).items():
        assert identity(**{field: value}) != identity()
    for field, other in dict[str, Any](
        {"subject": "z", "data": b"1", "time": NOON.replace(hour=1)}
    ).items():
        assert identity(**{field: other}) == identity()


def test_characters_that_move_between_source_and_id_make_another_identity() -> None:
    assert identity(source="a", id="b-c") != identity(source="a-b", id="c")
    assert identity(source="a1", id="b") != identity(source="a", id="1b")


def test_ids_that_differ_in_case_or_unicode_form_are_different_events() -> None:
    forms = ["\u00e9", "e\u0301", "\u00c9", "e"]
    assert len({identity(id=form) for form in forms}) == len(forms)


def test_the_seed_is_part_of_both_hashes() -> None:
    assert identity(seed=1) != identity(seed=2)
    assert body(seed=1) != body(seed=2)


def test_any_change_of_what_was_sent_is_another_body() -> None:
    changes: dict[str, Any] = {
        "type": "z",
        "subject": "z",
        "data": b'{"a":2}',
        "extensions": b'{"x":"y"}',
        "time": NOON.replace(microsecond=1),
    }
    for field, value in changes.items():
        assert body(7, **{field: value}) != body(), field


def test_a_stamped_time_is_no_part_of_the_body() -> None:
    later = NOON.replace(hour=13)
    assert body(time_stamped=True) == body(time_stamped=True, time=later)
    assert body(time_stamped=True) != body()


def test_hashes_do_not_depend_on_the_other_events_of_a_batch() -> None:
    rows = [
        *changed().to_pylist(),
        *changed(tenant="u", source="q", type="z", subject="w", extensions=b'{"x":1}').to_pylist(),
        *changed(source="r").to_pylist(),
    ]
    whole = pa.Table.from_pylist(rows, schema=POSITIONED_SCHEMA)
    alone = [pa.Table.from_pylist([row], schema=POSITIONED_SCHEMA) for row in rows]
    assert identities(whole, 7).tolist() == [identities(row, 7)[0].tolist() for row in alone]
    assert body_hashes(whole, 7).tolist() == [body_hashes(row, 7)[0].tolist() for row in alone]
