"""The statement that names what may differ between two cuts."""

_STARTS = "toUnixTimestamp64Milli(min(window_start)) * 1000 AS starts"
_ENDS = "toUnixTimestamp64Milli(max(window_end)) * 1000 AS ends"
_SERIES = "meter, subject, meter_version, dimensions"
_IS_CARRIED = "startsWith(aggregation, 'weighted_sum')"


def changed_sql(touched: str, until: str, open_us: tuple[int, int]) -> str:
    """Return SQL for (meter, subject, start, end) in microseconds since 1970, in order.

    `touched` are the segments that changed, `until` those before the later cut. A sample that is
    carried counts until the next one of its series, or until the end of `open_us`; and what was
    open at the start of that has grown since.
    """
    tenant = "tenant = {tenant:String}"
    plain = (
        f"SELECT meter, subject, {_STARTS}, {_ENDS} FROM usage_windows"
        f" WHERE {tenant} AND ({touched}) AND NOT {_IS_CARRIED}"
        " GROUP BY meter, subject, toStartOfMonth(window_start)"
    )
    series = (
        f"SELECT {_SERIES}, toStartOfMonth(window_start) AS month, {_STARTS}, {_ENDS}"
        f" FROM usage_windows WHERE {tenant} AND ({touched}) AND {_IS_CARRIED}"
        f" GROUP BY {_SERIES}, month"
    )
    following = (
        f"SELECT {_SERIES}, toUnixTimestamp64Milli(window_start) * 1000 AS next_starts,"
        " toUnixTimestamp64Milli(max(window_end)) * 1000 AS next_ends FROM usage_windows FINAL"
        f" WHERE {tenant} AND {_IS_CARRIED} AND ({until})"
        f" AND ({_SERIES}) IN (SELECT {_SERIES} FROM ({series}))"
        f" GROUP BY {_SERIES}, window_start HAVING sum(count) > 0"
    )
    first, last = (f"toInt64({at_us})" for at_us in open_us)
    carried = (
        "SELECT meter, subject, min(starts), max(reaches) FROM (SELECT meter, subject, month,"
        f" starts, greatest(ends, {last}) AS open_ends,"
        " minIf(next_ends, next_starts >= ends) AS closes,"
        " if(countIf(next_starts >= ends) > 0, closes, open_ends) AS reaches"
        f" FROM ({series}) AS touched LEFT JOIN ({following}) AS following USING ({_SERIES})"
        f" GROUP BY {_SERIES}, month, starts, ends) GROUP BY meter, subject, month"
    )
    grown = (
        f"SELECT DISTINCT meter, subject, {first}, {last} FROM usage_windows"
        f" WHERE {tenant} AND {_IS_CARRIED} AND ({until}) AND {first} < {last}"
    )
    return (
        "SELECT meter, subject, starts, ends FROM"
        f" ({plain} UNION ALL {carried} UNION ALL {grown}) ORDER BY meter, subject, starts, ends"
    )
