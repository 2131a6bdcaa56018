"""Every tenant is audited once a day, at once after a standstill, and overdue audits are told."""

from datetime import UTC, datetime, timedelta

from pipelines.daily_audit import LastAudit, alarms_of, due, note_of

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


def last(tenant: str, ago: timedelta, number: int = 1) -> LastAudit:
    return LastAudit(tenant, number, NOW - ago)


def test_a_tenant_is_due_a_day_after_its_last_audit_and_no_sooner() -> None:
    audits = [last("young", DAY - timedelta(seconds=1)), last("due", DAY)]
    assert [each.tenant for each in due(audits, NOW, DAY)] == ["due"]


def test_who_waits_longest_comes_first_after_a_standstill_and_each_once() -> None:
    audits = [last("b", 3 * DAY), last("c", 2 * DAY), last("a", 3 * DAY), last("new", 9 * DAY, 0)]
    assert [each.tenant for each in due(audits, NOW, DAY)] == ["new", "a", "b", "c"]


def test_a_day_too_long_is_an_alarm_with_what_stands_in_the_way() -> None:
    (alarm,) = alarms_of([last("a", 2 * DAY), last("b", DAY)], NOW, DAY, "partition 0/1 stands")
    assert "tenant a" in alarm
    assert "2026-03-27T12:00:00Z" in alarm
    assert "partition 0/1 stands" in alarm


def test_the_note_names_the_last_audit_and_what_all_last_ones_found() -> None:
    assert note_of([last("a", DAY, 0)], 0) == "no audit yet"
    assert note_of([last("a", DAY)], 1) == "last audit 2026-03-28T12:00:00Z, found 1 copy"
    two = [last("a", DAY), last("b", timedelta(0)), last("c", DAY, 0)]
    assert note_of(two, 1200) == (
        "last audit 2026-03-29T12:00:00Z, found 1,200 copies in the last audits of 2 tenants"
    )
