-- One row per owner and window of SECONDS, or of the meter's own size where that is larger.
SELECT tenant, meter, meter_version, subject, JSONExtract(dims, 'Map(String, String)') AS dimensions,
    window_start, window_end, answer.1 AS value, answer.2 AS events
FROM (
    SELECT tenant, meter, meter_version, aggregation, subject, dims, start_of AS window_start,
        greatest(max(ends), addSeconds(start_of, SECONDS)) AS window_end,
        -- An item of which as much was taken back as added no longer counts.
        sumIf(counted, counted > 0) AS events,
        sumIf(total, counted > 0) AS amount,
        countIf(counted > 0) AS items,
        argMaxIf((total, counted), item, counted > 0) AS last,
        arraySort(groupArrayIf((number, counted),
            counted > 0 AND startsWith(aggregation, 'percentile'))) AS ranked,
        multiIf(
            aggregation = 'sum', toDecimal128(amount, 12),
            aggregation = 'avg', toDecimal128(
                round(divideDecimal(amount, toDecimal256(events, 0), 13), 12), 12),
            aggregation = 'min', minIf(number, counted > 0),
            aggregation = 'max', maxIf(number, counted > 0),
            aggregation = 'unique_count', toDecimal128(items, 12),
            aggregation = 'latest', toDecimal128(
                round(divideDecimal(last.1, toDecimal256(last.2, 0), 13), 12), 12),
            startsWith(aggregation, 'percentile'),
                ranked[arrayFirstIndex(reached -> reached * 100
                    >= toDecimal64OrZero(extract(aggregation, '\\d[\\d.]*'), 3) * events,
                    arrayCumSum(ranked.2))].1,
            toDecimal128(events, 12)) AS answered,
        -- A window where nothing counts any longer has no row.
        if(events > 0, [(answered, events)], []) AS answers
    FROM (
        SELECT tenant, meter, meter_version, aggregation, subject, dimensions AS dims, item,
            toStartOfInterval(window_start, toIntervalSecond(SECONDS)) AS start_of,
            max(window_end) AS ends, sum(count) AS counted, sum(sum) AS total,
            toDecimal128OrZero(item, 12) AS number
        FROM usage_windows FINAL
        -- What a gauge adds to a window begins with the last sample before it.
        WHERE NOT startsWith(aggregation, 'weighted_sum')
        GROUP BY tenant, meter, meter_version, aggregation, subject, dims, item, start_of
    )
    GROUP BY tenant, meter, meter_version, aggregation, subject, dims, start_of
)
ARRAY JOIN answers AS answer
