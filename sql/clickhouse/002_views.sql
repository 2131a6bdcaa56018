-- What analysts read: final values, merged over segments and partitions; no FINAL needed.

CREATE VIEW IF NOT EXISTS events AS
SELECT tenant, id, source, type, subject, time, data, extensions, ingested_at, log, partition,
    offset, `index`
FROM usage_events FINAL
COMMENT 'Accepted events, each once';

-- One row per window, dimensions and item, whatever segments added to it.
CREATE VIEW IF NOT EXISTS usage_by_item AS
SELECT tenant, meter, meter_version, aggregation, subject, dimensions, item, window_start,
    window_end, sum(count) AS events, sum(sum) AS total
FROM usage_windows FINAL
GROUP BY tenant, meter, meter_version, aggregation, subject, dimensions, item, window_start,
    window_end
COMMENT 'Windows merged over the log; aggregations that keep items have one row per item';

CREATE VIEW IF NOT EXISTS usage_minutely AS
SELECT tenant, meter, meter_version, subject,
    JSONExtract(dims, 'Map(String, String)') AS dimensions, window_start,
    window_ends AS window_end,
    multiIf(aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'avg', toDecimal128(round(divideDecimal(amount, toDecimal256(events, 0), 13), 12), 12),
            aggregation = 'min', toDecimal128(low, 12),
            aggregation = 'max', toDecimal128(high, 12),
            aggregation = 'unique_count', toDecimal128(items, 12),
            aggregation = 'latest', toDecimal128(round(divideDecimal(last.1, toDecimal256(last.2, 0), 13), 12), 12),
            startsWith(aggregation, 'percentile'),
                ranked[arrayFirstIndex(reached -> reached * 100
                    >= toDecimal64OrZero(extract(aggregation, '\\d[\\d.]*'), 3) * events,
                    arrayCumSum(ranked.2))].1,
            toDecimal128(events, 12)) AS value,
    events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, start_of AS window_start,
        max(ends) AS window_ends, sum(counted) AS events, sum(total) AS amount,
        count() AS items, min(number) AS low, max(number) AS high,
        argMax((total, counted), item) AS last,
        arraySort(groupArrayIf((number, counted), startsWith(aggregation, 'percentile'))) AS ranked
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            window_start AS start_of, max(window_end) AS ends, sum(events) AS counted,
            sum(total) AS total, toDecimal128OrZero(item, 12) AS number
        FROM usage_by_item
        GROUP BY tenant, meter, meter_version, aggregation, subject, dims, item, start_of
        HAVING counted > 0
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, window_start
)
COMMENT 'Usage per window of the meter itself, from one minute up';

CREATE VIEW IF NOT EXISTS usage_hourly AS
SELECT tenant, meter, meter_version, subject,
    JSONExtract(dims, 'Map(String, String)') AS dimensions, window_start,
    addHours(window_start, 1) AS window_end,
    multiIf(aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'avg', toDecimal128(round(divideDecimal(amount, toDecimal256(events, 0), 13), 12), 12),
            aggregation = 'min', toDecimal128(low, 12),
            aggregation = 'max', toDecimal128(high, 12),
            aggregation = 'unique_count', toDecimal128(items, 12),
            aggregation = 'latest', toDecimal128(round(divideDecimal(last.1, toDecimal256(last.2, 0), 13), 12), 12),
            startsWith(aggregation, 'percentile'),
                ranked[arrayFirstIndex(reached -> reached * 100
                    >= toDecimal64OrZero(extract(aggregation, '\\d[\\d.]*'), 3) * events,
                    arrayCumSum(ranked.2))].1,
            toDecimal128(events, 12)) AS value,
    events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, start_of AS window_start,
        max(ends) AS window_ends, sum(counted) AS events, sum(total) AS amount,
        count() AS items, min(number) AS low, max(number) AS high,
        argMax((total, counted), item) AS last,
        arraySort(groupArrayIf((number, counted), startsWith(aggregation, 'percentile'))) AS ranked
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            toDateTime64(toStartOfHour(window_start), 3, 'UTC') AS start_of, max(window_end) AS ends, sum(events) AS counted,
            sum(total) AS total, toDecimal128OrZero(item, 12) AS number
        FROM usage_by_item
        GROUP BY tenant, meter, meter_version, aggregation, subject, dims, item, start_of
        HAVING counted > 0
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, window_start
)
COMMENT 'Usage per hour';

CREATE VIEW IF NOT EXISTS usage_daily AS
SELECT tenant, meter, meter_version, subject,
    JSONExtract(dims, 'Map(String, String)') AS dimensions, window_start,
    addDays(window_start, 1) AS window_end,
    multiIf(aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'avg', toDecimal128(round(divideDecimal(amount, toDecimal256(events, 0), 13), 12), 12),
            aggregation = 'min', toDecimal128(low, 12),
            aggregation = 'max', toDecimal128(high, 12),
            aggregation = 'unique_count', toDecimal128(items, 12),
            aggregation = 'latest', toDecimal128(round(divideDecimal(last.1, toDecimal256(last.2, 0), 13), 12), 12),
            startsWith(aggregation, 'percentile'),
                ranked[arrayFirstIndex(reached -> reached * 100
                    >= toDecimal64OrZero(extract(aggregation, '\\d[\\d.]*'), 3) * events,
                    arrayCumSum(ranked.2))].1,
            toDecimal128(events, 12)) AS value,
    events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, start_of AS window_start,
        max(ends) AS window_ends, sum(counted) AS events, sum(total) AS amount,
        count() AS items, min(number) AS low, max(number) AS high,
        argMax((total, counted), item) AS last,
        arraySort(groupArrayIf((number, counted), startsWith(aggregation, 'percentile'))) AS ranked
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            toDateTime64(toStartOfDay(window_start), 3, 'UTC') AS start_of, max(window_end) AS ends, sum(events) AS counted,
            sum(total) AS total, toDecimal128OrZero(item, 12) AS number
        FROM usage_by_item
        GROUP BY tenant, meter, meter_version, aggregation, subject, dims, item, start_of
        HAVING counted > 0
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, window_start
)
COMMENT 'Usage per day in UTC';
