-- What analysts read: final values, merged over segments and partitions; no FINAL needed.

CREATE VIEW IF NOT EXISTS events AS
SELECT tenant, id, source, type, subject, time, data, extensions, ingested_at, log, partition,
    offset, `index`
FROM usage_events FINAL
COMMENT 'Accepted events, each once';

-- One row per window, dimensions and item, whatever segments added to it.
CREATE VIEW IF NOT EXISTS usage_by_item AS
SELECT tenant, meter, meter_version, aggregation, subject, dimensions, item, window_start,
    window_end, sum(count) AS events, sum(sum) AS total, max(max) AS greatest
FROM usage_windows FINAL
GROUP BY tenant, meter, meter_version, aggregation, subject, dimensions, item, window_start,
    window_end
COMMENT 'Windows merged over the log; unique_count has one row per counted item';

CREATE VIEW IF NOT EXISTS usage_minutely AS
SELECT tenant, meter, meter_version, subject,
    JSONExtract(dims, 'Map(String, String)') AS dimensions, window_start,
    window_ends AS window_end,
    multiIf(aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'max', toDecimal128(peak, 12),
            aggregation = 'unique_count', toDecimal128(items, 12),
            toDecimal128(events, 12)) AS value,
    events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, starts AS window_start,
        max(ends) AS window_ends, sum(counted) AS events, sum(total) AS amount,
        max(greatest) AS peak, uniqExactIf(item, counted > 0) AS items
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            window_start AS starts, window_end AS ends, events AS counted, total, greatest
        FROM usage_by_item
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, window_start
)
COMMENT 'Usage per window of the meter itself, from one minute up';

CREATE VIEW IF NOT EXISTS usage_hourly AS
SELECT tenant, meter, meter_version, subject,
    JSONExtract(dims, 'Map(String, String)') AS dimensions, window_start,
    addHours(window_start, 1) AS window_end,
    multiIf(aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'max', toDecimal128(peak, 12),
            aggregation = 'unique_count', toDecimal128(items, 12),
            toDecimal128(events, 12)) AS value,
    events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, toDateTime64(toStartOfHour(starts), 3, 'UTC') AS window_start,
        max(ends) AS window_ends, sum(counted) AS events, sum(total) AS amount,
        max(greatest) AS peak, uniqExactIf(item, counted > 0) AS items
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            window_start AS starts, window_end AS ends, events AS counted, total, greatest
        FROM usage_by_item
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, window_start
)
COMMENT 'Usage per hour';

CREATE VIEW IF NOT EXISTS usage_daily AS
SELECT tenant, meter, meter_version, subject,
    JSONExtract(dims, 'Map(String, String)') AS dimensions, window_start,
    addDays(window_start, 1) AS window_end,
    multiIf(aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'max', toDecimal128(peak, 12),
            aggregation = 'unique_count', toDecimal128(items, 12),
            toDecimal128(events, 12)) AS value,
    events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, toDateTime64(toStartOfDay(starts), 3, 'UTC') AS window_start,
        max(ends) AS window_ends, sum(counted) AS events, sum(total) AS amount,
        max(greatest) AS peak, uniqExactIf(item, counted > 0) AS items
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            window_start AS starts, window_end AS ends, events AS counted, total, greatest
        FROM usage_by_item
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, window_start
)
COMMENT 'Usage per day in UTC';
