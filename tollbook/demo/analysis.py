"""An analyst's question, answered by ClickHouse from the raw events."""

QUESTION = "Which airport lets an airline wait longest?"

SQL = """
SELECT
    JSONExtractString(data, 'origin')                 AS airport,
    countIf(type = 'flight.departed')                 AS departures,
    countIf(type = 'flight.cancelled')                AS cancelled,
    countIf(delay >= 60)                              AS over_an_hour_late,
    round(quantileExactIf(0.95)(delay, departed), 1)  AS p95_minutes,
    round(100 * cancelled / count(), 2)               AS cancelled_percent
FROM
(
    SELECT *, type = 'flight.departed' AS departed, JSONExtractInt(data, 'dep_delay') AS delay
    FROM events
)
GROUP BY airport
ORDER BY p95_minutes DESC
"""
