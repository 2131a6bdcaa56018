"""Compares what is stored and answered with the truth, and lists every difference."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from tollbook.drill.check import Check
from tollbook.drill.feeding import Account
from tollbook.drill.recount import SHAPES, Place, meter_key, recounted, text, usable
from tollbook.drill.truth import Fate, Key, Planned, Truth, parsed
from tollbook.usage_wiring import open_clickhouse


@dataclass(frozen=True, slots=True)
class Checker:
    """Reads a stack as its users do: the API, and the tables of analysts."""

    truth: Truth
    account: Account
    api_url: str
    clickhouse_url: str
    key_by_tenant: Mapping[str, str]
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, trust_env=False))

    def run(self) -> list[Check]:
        """Return what was checked."""
        sent = Check("I8", "sent = acknowledged + refused + unknown")
        sent.compare("events", True, self.account.adds_up)
        counted, stored = self._stored()
        with self._http:
            answers = self._answers(counted)
        checks = [sent, *stored, answers, *self._aside(counted)]
        return [*checks, self._rejected(counted)]

    def _stored(self) -> tuple[dict[Key, bytes], list[Check]]:
        """Compare the stored events with those sent; return the ones that have to count.

        As analysts see them: without copies that an audit has taken back.
        """
        must = {each.key: each.body for each in self.account.settled if _counts(each)}
        may = {each.key: each.body for each in self.account.given_up if _counts(each)}
        found = self._rows(
            "SELECT tenant, source, id, count() FROM events"
            " WHERE type = {type:String} GROUP BY tenant, source, id"
        )
        count_by_key = {(tenant, source, name): count for tenant, source, name, count in found}
        once = Check("I1", "every acknowledged event is stored exactly once")
        for key in must:
            once.compare(f"copies of {key}", 1, count_by_key.get(key, 0))
        unknown = Check("I8", "an event of unknown outcome is stored once or not at all")
        unknown.looked_at = 1
        for key in may.keys() - must.keys():
            found_count = count_by_key.get(key, 0)
            unknown.compare(f"copies of {key}", min(found_count, 1), found_count)
        none = Check("I2", "nothing that was not sent is stored")
        none.compare("other events", set(), set(count_by_key) - must.keys() - may.keys())
        known = may | must
        return {key: known[key] for key in count_by_key if key in known}, [once, none, unknown]

    def _answers(self, counted: Mapping[Key, bytes]) -> Check:
        check = Check("I4", "every aggregate equals the recount, per hour and in all")
        for tenant in self.truth.tenants():
            expected = recounted(body for key, body in counted.items() if key[0] == tenant)
            for name in SHAPES:
                found = self._answer(tenant, name)
                of_meter = expected.get(name, {})
                for place in sorted(of_meter.keys() | found.keys()):
                    value = found.get(place)
                    allowed = of_meter.get(place, {None})
                    where = f"{tenant} {name} {place}"
                    check.compare(where, value if value in allowed else allowed, value)
        return check

    def _answer(self, tenant: str, name: str) -> dict[Place, Decimal]:
        groups = ["subject", "region"] if name == "calls" else ["subject"]
        found: dict[Place, Decimal] = {}
        for window in ("", "1h"):
            for row in self._query(tenant, name, groups, window):
                start = row["window_start"] if window else ""
                region = row["dimensions"].get("region", "")
                found[start, row["subject"], region] = Decimal(row["value"])
        return found

    def _query(
        self, tenant: str, name: str, groups: list[str], window: str
    ) -> list[dict[str, Any]]:
        """Return all rows of an answer, page by page."""
        key = meter_key(self.truth.event_type, name)
        parameters: dict[str, Any] = {"group_by": groups, "limit": "10000"}
        if window:
            parameters["window"] = window
        rows: list[dict[str, Any]] = []
        while True:
            answer = self._http.get(
                f"{self.api_url}/v1/meters/{key}/query",
                params=parameters,
                headers={"Authorization": f"Bearer {self.key_by_tenant[tenant]}"},
            )
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.url} answered {answer.status_code}: {answer.text}")
            content = answer.json()
            rows += content["rows"]
            if content["next"] is None:
                return rows
            parameters["cursor"] = content["next"]

    def _aside(self, counted: Mapping[Key, bytes]) -> list[Check]:
        """Compare what was not taken: conflicts, dead letters, copies, refusals."""
        letters = Check("I3", "every dead letter is kept, with its bytes and a reason")
        kept = self._rows(
            "SELECT kind, hex(body), reason != '' FROM usage_dead_letters FINAL"
            " WHERE position(body, {type:String}) > 0 GROUP BY log, partition, offset, index,"
            " kind, body, reason"
        )
        found = Counter(
            (kind, bytes.fromhex(body)) for kind, body, has_reason in kept if has_reason
        )
        dead = Counter(("malformed", each.body) for each in self._settled(Fate.DEAD))
        letters.compare("malformed", dead, Counter({k: n for k, n in found.items() if k in dead}))
        conflicts = {_essence(each.body) for each in self._settled(Fate.CONFLICT)}
        told = {_essence(body) for kind, body in found if kind == "conflict"}
        letters.compare("conflicts", conflicts, told)
        strange = {(kind, body) for kind, body in found if kind == "malformed"} - dead.keys()
        letters.compare("others", set(), strange)
        copies = Check("I3", "every copy is told from its event")
        planned = len(self._settled(Fate.COUNTED)) + len(self._settled(Fate.COPY)) - len(counted)
        # A copy in another partition or log than its event is found by the audit of a cut.
        rows = self._rows(
            "SELECT (SELECT count() FROM usage_duplicates FINAL"
            " WHERE startsWith(id, {type:String})) + (SELECT count() FROM usage_audit_voids FINAL"
            " WHERE startsWith(id, {type:String}) AND revision = 0 AND NOT is_conflict)"
        )
        # A request whose answer was lost may have been sent again: further copies.
        least = planned - len(self.account.given_up)
        is_exact = not self.account.unknown
        copies.compare("copies", least, rows[0][0] if is_exact else min(rows[0][0], least))
        refused = Check("I3", "every refused event was answered with its reason")
        planned = len(self.truth.of(Fate.REFUSED))
        given_up = sum(each.fate is Fate.REFUSED for each in self.account.given_up)
        refused.compare("refused", planned - given_up, self.account.refused)
        return [letters, copies, refused]

    def _settled(self, fate: Fate) -> list[Planned]:
        return [each for each in self.account.settled if each.fate is fate]

    def _rejected(self, counted: Mapping[Key, bytes]) -> Check:
        """Compare, per meter, the events whose value it cannot use."""
        check = Check("I3", "every value that a meter cannot use is told")
        rows = self._rows(
            "SELECT DISTINCT r.meter, e.tenant, e.source, e.id FROM usage_rejections AS r"
            " INNER JOIN usage_events AS e ON e.log = r.log AND e.partition = r.partition"
            " AND e.offset = r.offset AND e.index = r.index WHERE e.type = {type:String}"
        )
        found = {(meter, (tenant, source, name)) for meter, tenant, source, name in rows}
        expected = set()
        for key, body in counted.items():
            data = parsed(body).get("data") or {}
            for name, shape in SHAPES.items():
                meter = meter_key(self.truth.event_type, name)
                value = data.get(str(shape.get("value", "")).removeprefix("$."))
                is_bad = not text(value) if name == "who" else usable(value) is None
                if is_bad and name != "calls":
                    expected.add((meter, key))
        check.compare("rejections", set(), expected ^ found)
        return check

    def _rows(self, sql: str) -> Any:
        client = open_clickhouse(self.clickhouse_url)
        return client.query(sql, parameters={"type": self.truth.event_type}).result_rows


def _counts(planned: Planned) -> bool:
    return planned.fate in {Fate.COUNTED, Fate.COPY}


def _essence(body: bytes) -> tuple[str, str, str]:
    """Return what tells one conflicting event from another, however it is spelled."""
    content = parsed(body)
    return content["source"], content["id"], repr(content.get("data"))
