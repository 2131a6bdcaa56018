-- One row per owner and window of SECONDS, or of the meter's own size where that is larger. Each
-- function is planned anew with each query, longer than it reads a month: there are as few as can be.
SELECT tenant, meter, meter_version, subject, JSONExtract(dims, 'Map(String, String)') AS dimensions,
    start_of AS window_start, greatest(max(ends), addSeconds(start_of, SECONDS)) AS window_end,
    multiIf(
        aggregation = 'sum', sum(total),
        aggregation IN ('avg', 'latest'), toDecimal128(
            round(divideDecimal((if(aggregation = 'latest', argMax((total, counted), item),
                (sum(total), sum(counted))) AS averaged).1, toDecimal256(averaged.2, 0), 13), 12), 12),
        aggregation = 'min', min(number),
        aggregation = 'max', max(number),
        startsWith(aggregation, 'percentile'),
            (arraySort(groupArrayIf((number, counted), startsWith(aggregation, 'percentile')))
                AS ranked)[arrayFirstIndex(reached -> reached * 100
                >= toDecimal64OrZero(extract(aggregation, '\\d[\\d.]*'), 3) * events,
                arrayCumSum(ranked.2))].1,
        toDecimal128(if(aggregation = 'unique_count', toInt64(count()), events), 12)) AS value,
    sum(counted) AS events
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
-- An item of which as much was taken back as added no longer counts, nor a window without any.
ARRAY JOIN if(counted > 0, [1], []) AS live
GROUP BY tenant, meter, meter_version, aggregation, subject, dims, start_of
