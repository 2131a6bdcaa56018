"""What the alternative without windows costs: counting anew from raw events at each question."""

from tollbook.bench.figure import Figure
from tollbook.bench.load import Shape
from tollbook.bench.metering import cpu_seconds
from tollbook.stack_file import Stack
from tollbook.usage_wiring import open_clickhouse

_SQL = """
SELECT subject, JSONExtractString(data, 'model') AS model, JSONExtractString(data, 'region') AS
    region, toStartOfMinute(time) AS minute, count(), sum(toDecimal128(JSONExtractRaw(data,
    'tokens'), 12))
FROM usage_events FINAL
WHERE tenant = %(tenant)s AND type = %(type)s
GROUP BY subject, model, region, minute
FORMAT Null
"""


def measure_recount(stack: Stack, shape: Shape) -> Figure:
    """Return what one question costs that ClickHouse answers from raw events alone."""
    clickhouse = open_clickhouse(stack.clickhouse_url)
    before = cpu_seconds(stack.pids)["clickhouse"]
    clickhouse.command(_SQL, {"tenant": stack.tenant, "type": shape.event_type})
    spent = cpu_seconds(stack.pids)["clickhouse"] - before
    return Figure(
        "recount in ClickHouse, per question",
        spent / shape.events * 1e6,
        "CPU-s per million events",
        f"both meters at once, {shape}",
    )
