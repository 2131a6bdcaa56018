-- What analysts read: final values, merged over segments and partitions; no FINAL needed.
-- Conditions on the columns of a view reach the keys of the tables below it, so that a query reads
-- what it asks for: no clause here may stand in their way (a HAVING does, an ARRAY JOIN does not).

CREATE VIEW IF NOT EXISTS events
(
    tenant       LowCardinality(String)  COMMENT 'The company that runs its billing here',
    id           String                  COMMENT 'CloudEvents id; (tenant, source, id) is the identity',
    source       LowCardinality(String)  COMMENT 'CloudEvents source',
    type         LowCardinality(String)  COMMENT 'CloudEvents type',
    subject      String                  COMMENT 'Who used it, as the producer names it',
    time         DateTime64(6, 'UTC')    COMMENT 'Event time, as sent, or stamped by ingest',
    data         String                  COMMENT 'JSON text of the event''s data, without white space',
    extensions   String                  COMMENT 'JSON object of other CloudEvents attributes, or empty',
    ingested_at  DateTime64(3, 'UTC')    COMMENT 'Append time given by the broker',
    log          UInt16                  COMMENT 'Incarnation of the topic',
    partition    UInt16                  COMMENT 'Kafka partition',
    offset       UInt64                  COMMENT 'Offset of the record in the partition',
    `index`      UInt32                  COMMENT 'Index of the event in the record',
    revision     UInt32                  COMMENT 'How often the event was corrected; 0: as it was sent'
)
AS
SELECT tenant, id, source, type, subject, time, data, extensions, ingested_at, log, partition,
    offset, `index`, toUInt32(0) AS revision
FROM usage_events FINAL
WHERE replacement = '' AND (log, partition, offset, `index`) NOT IN (
    SELECT log, partition, offset, `index` FROM usage_corrections
    UNION ALL SELECT log, partition, offset, `index` FROM usage_audit_voids
)
UNION ALL
SELECT tenant, id, source, type, subject, time, data, extensions, ingested_at, log, partition,
    offset, `index`, revision
FROM usage_corrections FINAL
WHERE sign > 0 AND (log, partition, offset, `index`, revision) IN (
    SELECT log, partition, offset, `index`, max(revision) FROM usage_corrections
    GROUP BY log, partition, offset, `index`
) AND (log, partition, offset, `index`) NOT IN (
    SELECT log, partition, offset, `index` FROM usage_audit_voids
)
COMMENT 'Accepted events, each once, as corrections have left them; voided ones and copies are left out';

-- A view each, since the engine plans a view with a parameter twice: longer than it reads a month.
CREATE VIEW IF NOT EXISTS usage_by_window AS
-- include parts/usage_per_window.sql with SECONDS = {seconds:UInt32}
COMMENT 'Usage per window of the seconds given: usage_by_window(seconds = 3600)';

CREATE VIEW IF NOT EXISTS usage_minutely
(
    tenant         LowCardinality(String)  COMMENT 'The company that runs its billing here',
    meter          LowCardinality(String)  COMMENT 'Key of the meter',
    meter_version  UInt32                  COMMENT 'Version of its definition; each measures by itself',
    subject        String                  COMMENT 'Who used it, as the producer names it',
    dimensions     Map(String, String)     COMMENT 'The meter''s dimensions',
    window_start   DateTime64(3, 'UTC')    COMMENT 'Start of the window, included',
    window_end     DateTime64(3, 'UTC')    COMMENT 'End of the window, excluded',
    value          Decimal(38, 12)         COMMENT 'What the meter measured in the window',
    events         Int64                   COMMENT 'How many events that is made of'
)
AS
-- include parts/usage_per_window.sql with SECONDS = 1
COMMENT 'Usage per window of the meter itself, from one minute up; weighted_sum is left out, see usage_samples';

CREATE VIEW IF NOT EXISTS usage_hourly
(
    tenant         LowCardinality(String)  COMMENT 'The company that runs its billing here',
    meter          LowCardinality(String)  COMMENT 'Key of the meter',
    meter_version  UInt32                  COMMENT 'Version of its definition; each measures by itself',
    subject        String                  COMMENT 'Who used it, as the producer names it',
    dimensions     Map(String, String)     COMMENT 'The meter''s dimensions',
    window_start   DateTime64(3, 'UTC')    COMMENT 'Start of the hour in UTC',
    window_end     DateTime64(3, 'UTC')    COMMENT 'End of the hour, excluded; of the day where a meter counts by day',
    value          Decimal(38, 12)         COMMENT 'What the meter measured in the hour',
    events         Int64                   COMMENT 'How many events that is made of'
)
AS
-- include parts/usage_per_window.sql with SECONDS = 3600
COMMENT 'Usage per hour; weighted_sum is left out, see usage_samples';

CREATE VIEW IF NOT EXISTS usage_daily
(
    tenant         LowCardinality(String)  COMMENT 'The company that runs its billing here',
    meter          LowCardinality(String)  COMMENT 'Key of the meter',
    meter_version  UInt32                  COMMENT 'Version of its definition; each measures by itself',
    subject        String                  COMMENT 'Who used it, as the producer names it',
    dimensions     Map(String, String)     COMMENT 'The meter''s dimensions',
    window_start   DateTime64(3, 'UTC')    COMMENT 'Start of the day in UTC',
    window_end     DateTime64(3, 'UTC')    COMMENT 'End of the day, excluded',
    value          Decimal(38, 12)         COMMENT 'What the meter measured on the day',
    events         Int64                   COMMENT 'How many events that is made of'
)
AS
-- include parts/usage_per_window.sql with SECONDS = 86400
COMMENT 'Usage per day in UTC; weighted_sum is left out, see usage_samples';

CREATE VIEW IF NOT EXISTS usage_samples
(
    tenant         LowCardinality(String)            COMMENT 'The company that runs its billing here',
    meter          LowCardinality(String)            COMMENT 'Key of the meter',
    meter_version  UInt32                            COMMENT 'Version of its definition',
    subject        String                            COMMENT 'Who used it, as the producer names it',
    dimensions     Map(String, String)               COMMENT 'The meter''s dimensions',
    time           DateTime64(6, 'UTC')              COMMENT 'Event time of the sample: its value holds from here on',
    until          Nullable(DateTime64(6, 'UTC'))    COMMENT 'Event time of the next sample; NULL where there is none yet',
    value          Decimal(38, 12)                   COMMENT 'The value that was reported',
    seconds        Nullable(Decimal(38, 6))          COMMENT 'How long it held; NULL where it holds still'
)
AS
SELECT tenant, meter, meter_version, subject, JSONExtract(dims, 'Map(String, String)') AS dimensions,
    fromUnixTimestamp64Micro(sample.1, 'UTC') AS time,
    if(sample.3 = 0, NULL, fromUnixTimestamp64Micro(sample.3, 'UTC')) AS until, sample.2 AS value,
    if(sample.3 = 0, NULL, toDecimal128(sample.3 - sample.1, 6) / 1000000) AS seconds
FROM (
    SELECT tenant, meter, meter_version, subject, dims,
        arraySort(groupArrayIf((item, toDecimal128(
            round(divideDecimal(total, toDecimal256(greatest(counted, 1), 0), 13), 12), 12)), counted > 0)) AS live,
        arrayMap(each -> toInt64OrZero(substring(each.1, 1, 16)), live) AS starts,
        arrayZip(starts, live.2, arrayPushBack(arrayPopFront(starts), 0)) AS samples
    FROM (
        SELECT tenant, meter, meter_version, subject, dimensions AS dims, item,
            sum(count) AS counted, sum(sum) AS total
        FROM usage_windows FINAL
        WHERE aggregation = 'latest' OR startsWith(aggregation, 'weighted_sum')
        GROUP BY tenant, meter, meter_version, subject, dims, item
    )
    GROUP BY tenant, meter, meter_version, subject, dims
)
ARRAY JOIN samples AS sample
COMMENT 'What meters of latest and weighted_sum were told, and how long each value held; value times seconds is what a gauge adds up to';
