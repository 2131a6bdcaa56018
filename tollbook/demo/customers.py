"""The sixteen airlines as YAML for `tollbook apply`: who pays for which aircraft's flights."""

import duckdb

from tollbook.demo.lounge import SUBSCRIPTIONS

_SUBJECTS_PER_LINE = 6

_CUSTOMERS = """
WITH subjects AS (
    SELECT DISTINCT carrier, concat(carrier, ':', coalesce(tailnum, 'unknown')) AS subject
    FROM reports
)
SELECT carrier, name, list(subject ORDER BY subject)
FROM subjects JOIN airlines USING (carrier) GROUP BY carrier, name ORDER BY carrier
"""


def customers_yaml(tables: duckdb.DuckDBPyConnection) -> str:
    """Return the airlines with all their subjects since ever, and what they agreed to.

    An aircraft that flies for two airlines is two subjects, so no flight has two payers.
    """
    airlines = tables.execute(_CUSTOMERS).fetchall()
    customers = [_customer(code, name, subjects) for code, name, subjects in airlines]
    subscriptions = [_subscription(code) for code, *_ in airlines]
    return "\n".join(
        ["customers:", *customers, "", "subscriptions:", *subscriptions, SUBSCRIPTIONS]
    )


def _customer(code: str, name: str, subjects: list[str]) -> str:
    lines = [
        ", ".join(f'"{subject}"' for subject in subjects[at : at + _SUBJECTS_PER_LINE])
        for at in range(0, len(subjects), _SUBJECTS_PER_LINE)
    ]
    return (
        f'- key: "{code}"\n'
        f'  name: "{name}"\n'
        "  legal_entity: main\n"
        "  currency: USD\n"
        "  time_zone: America/New_York\n"
        "  payment_terms_days: 30\n"
        "  subjects: [\n    " + ",\n    ".join(lines) + "]"
    )


def _subscription(code: str) -> str:
    return (
        f'- {{key: "{code}-2013", customer: "{code}", start: 2013-01-01, anchor: calendar,\n'
        "   items: [{key: main, price_book: airport, version: follow}]}"
    )
