-- The tables of usage. Every row is a function of the log, keyed by where in the log it came from:
-- a replay, a zombie or a second worker on a partition writes the same rows again.

CREATE TABLE IF NOT EXISTS usage_events
(
    tenant        LowCardinality(String)  COMMENT 'The company that runs its billing here',
    type          LowCardinality(String)  COMMENT 'CloudEvents type',
    subject       String                  COMMENT 'Who used it, as the producer names it',
    time          DateTime64(6, 'UTC')    COMMENT 'Event time, as sent, or stamped by ingest',
    source        LowCardinality(String)  COMMENT 'CloudEvents source',
    id            String                  COMMENT 'CloudEvents id; (tenant, source, id) is the identity',
    data          String                  COMMENT 'JSON text of the event''s data, without white space',
    extensions    String                  COMMENT 'JSON object of other CloudEvents attributes, or empty',
    time_stamped  Bool                    COMMENT 'True where ingest stamped the time',
    ingested_at   DateTime64(3, 'UTC')    COMMENT 'Append time given by the broker',
    identity      FixedString(16)         COMMENT 'Hash of (tenant, source, id)',
    log           UInt16                  COMMENT 'Incarnation of the topic',
    partition     UInt16                  COMMENT 'Kafka partition',
    offset        UInt64                  COMMENT 'Offset of the record in the partition',
    `index`       UInt32                  COMMENT 'Index of the event in the record',
    replacement   LowCardinality(String)
        DEFAULT if(extensions = '', '', JSONExtractString(extensions, 'replacement'))
        COMMENT 'The replacement that it was sent for, at whose close it begins to count; else empty',
    INDEX by_offset offset TYPE minmax GRANULARITY 1,
    INDEX by_identity identity TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (tenant, type, subject, time, log, partition, offset, index)
COMMENT 'Accepted events, each once; copies are left out';

CREATE TABLE IF NOT EXISTS usage_identities
(
    identity   FixedString(16)  COMMENT 'Hash of (tenant, source, id)',
    log        UInt16           COMMENT 'Incarnation of the topic',
    partition  UInt16           COMMENT 'Kafka partition',
    offset     UInt64           COMMENT 'Offset of the record',
    `index`    UInt32           COMMENT 'Index of the event in the record',
    body_hash  FixedString(8)   COMMENT 'Hash of what the client sent, stamped fields left out'
)
ENGINE = ReplacingMergeTree
ORDER BY (identity, log, partition, offset, index)
SETTINGS index_granularity = 512
COMMENT 'Where each identity was first seen; refills the memory of verdicts';

CREATE TABLE IF NOT EXISTS usage_duplicates
(
    tenant     LowCardinality(String)  COMMENT 'The company that runs its billing here',
    source     LowCardinality(String)  COMMENT 'CloudEvents source',
    id         String                  COMMENT 'CloudEvents id',
    log        UInt16                  COMMENT 'Incarnation of the topic',
    partition  UInt16                  COMMENT 'Kafka partition',
    offset     UInt64                  COMMENT 'Offset of the copy',
    `index`    UInt32                  COMMENT 'Index of the copy in its record',
    first_offset UInt64                COMMENT 'Offset of the event that counts',
    first_index  UInt32                COMMENT 'Index of the event that counts'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, log, partition, offset, index)
COMMENT 'Copies of events, which were not counted';

CREATE TABLE IF NOT EXISTS usage_dead_letters
(
    tenant       LowCardinality(String)  COMMENT 'The company that runs its billing here; empty where the record names none',
    log          UInt16                  COMMENT 'Incarnation of the topic',
    partition    UInt16                  COMMENT 'Kafka partition',
    offset       UInt64                  COMMENT 'Offset of the record',
    `index`      UInt32                  COMMENT 'Index of the event in the record',
    kind         LowCardinality(String)  COMMENT 'malformed, refused or conflict',
    reason       String                  COMMENT 'What is wrong, for a person',
    body         String                  COMMENT 'The bytes as they were received',
    ingested_at  DateTime64(3, 'UTC')    COMMENT 'Append time given by the broker'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, log, partition, offset, index)
COMMENT 'Records and events that could not be taken, one row each';

CREATE TABLE IF NOT EXISTS usage_quarantine
(
    tenant        LowCardinality(String)  COMMENT 'The company that runs its billing here; empty where the record names none',
    source        String                  COMMENT 'CloudEvents source; empty where it cannot be read',
    id            String                  COMMENT 'CloudEvents id; empty for what cannot be read, as all that follows of an event',
    type          LowCardinality(String)  COMMENT 'CloudEvents type',
    subject       String                  COMMENT 'Who used it, as the producer names it',
    time          DateTime64(6, 'UTC')    COMMENT 'Event time, as sent, or stamped by ingest',
    time_stamped  Bool                    COMMENT 'True where ingest stamped the time',
    data          String                  COMMENT 'JSON text of the event''s data, without white space',
    extensions    String                  COMMENT 'JSON object of other CloudEvents attributes, or empty',
    log           UInt16                  COMMENT 'Incarnation of the topic',
    partition     UInt16                  COMMENT 'Kafka partition',
    offset        UInt64                  COMMENT 'Offset of the record in the partition',
    `index`       UInt32                  COMMENT 'Index of the event in the record',
    kind          LowCardinality(String)  COMMENT 'event, or malformed for a record that cannot be read',
    reason        String                  COMMENT 'Why it was set aside, or cannot be read, for a person',
    body          String                  COMMENT 'The bytes of a record that cannot be read, as they were received',
    ingested_at   DateTime64(3, 'UTC')    COMMENT 'Append time given by the broker'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(ingested_at)
ORDER BY (tenant, source, log, partition, offset, index)
COMMENT 'What was set aside of sources most of whose events were bad; it does not count. What is released is sent again: its new positions are in usage_events';

CREATE TABLE IF NOT EXISTS usage_rejections
(
    tenant         LowCardinality(String)  COMMENT 'The company that runs its billing here',
    meter          LowCardinality(String)  COMMENT 'Meter that could not use the event',
    meter_version  UInt32                  COMMENT 'Version of its definition',
    log            UInt16                  COMMENT 'Incarnation of the topic',
    partition      UInt16                  COMMENT 'Kafka partition',
    offset         UInt64                  COMMENT 'Offset of the record',
    `index`        UInt32                  COMMENT 'Index of the event in the record',
    reason         String                  COMMENT 'Why its value is not counted'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, meter, meter_version, log, partition, offset, index)
COMMENT 'Accepted events whose value one meter cannot use';

CREATE TABLE IF NOT EXISTS usage_corrections
(
    tenant        LowCardinality(String)  COMMENT 'The company that runs its billing here',
    type          LowCardinality(String)  COMMENT 'CloudEvents type',
    subject       String                  COMMENT 'Who used it, as the producer names it',
    time          DateTime64(6, 'UTC')    COMMENT 'Event time that stops (sign -1) or starts (sign 1) to count',
    source        LowCardinality(String)  COMMENT 'CloudEvents source',
    id            String                  COMMENT 'CloudEvents id',
    data          String                  COMMENT 'JSON text of the data that stops or starts to count',
    extensions    String                  COMMENT 'JSON object of other CloudEvents attributes, or empty',
    time_stamped  Bool                    COMMENT 'True where ingest stamped the time',
    ingested_at   DateTime64(3, 'UTC')    COMMENT 'Append time of the event',
    identity      FixedString(16)         COMMENT 'Hash of (tenant, source, id)',
    log           UInt16                  COMMENT 'Incarnation of the topic that holds the event',
    partition     UInt16                  COMMENT 'Kafka partition of the event',
    offset        UInt64                  COMMENT 'Offset of the event''s record',
    `index`       UInt32                  COMMENT 'Index of the event in its record',
    sign          Int8                    COMMENT '-1: the event counts so no longer; 1: it counts so from now on',
    revision      UInt32                  COMMENT 'How often the event was corrected, this time included',
    kind          LowCardinality(String)  COMMENT 'void, amend, restore, replace or revert',
    author        String                  COMMENT 'Who asked for it',
    reason        String                  COMMENT 'Why, as the author says',
    request       String                  COMMENT 'The request, or the replacement, that asked for it',
    at_log        UInt16                  COMMENT 'Incarnation of the topic that holds the correction',
    at_partition  UInt16                  COMMENT 'Kafka partition of the correction',
    at_offset     UInt64                  COMMENT 'Offset of the correction''s record',
    at_index      UInt32                  COMMENT 'Index of the correction in its record',
    corrected_at  DateTime64(3, 'UTC')    COMMENT 'Append time of the correction',
    INDEX by_identity identity TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, type, subject, time, at_log, at_partition, at_offset, at_index, sign)
COMMENT 'What corrections took back and added, as signed events; the events as sent stay in usage_events';

CREATE TABLE IF NOT EXISTS usage_audit_voids
(
    tenant        LowCardinality(String)  COMMENT 'The company that runs its billing here',
    type          LowCardinality(String)  COMMENT 'CloudEvents type',
    subject       String                  COMMENT 'Who used it, as the producer names it',
    time          DateTime64(6, 'UTC')    COMMENT 'Event time of what is taken back (sign -1)',
    source        LowCardinality(String)  COMMENT 'CloudEvents source',
    id            String                  COMMENT 'CloudEvents id',
    data          String                  COMMENT 'JSON text of the data that is taken back',
    extensions    String                  COMMENT 'JSON object of other CloudEvents attributes, or empty',
    time_stamped  Bool                    COMMENT 'True where ingest stamped the time',
    ingested_at   DateTime64(3, 'UTC')    COMMENT 'Append time of the copy',
    identity      FixedString(16)         COMMENT 'Hash of (tenant, source, id)',
    log           UInt16                  COMMENT 'Incarnation of the topic that holds the copy',
    partition     UInt16                  COMMENT 'Kafka partition of the copy',
    offset        UInt64                  COMMENT 'Offset of the copy''s record',
    `index`       UInt32                  COMMENT 'Index of the copy in its record',
    sign          Int8                    COMMENT 'The opposite of the sign of what is taken back',
    revision      UInt32                  COMMENT '0: the copy as it was sent; else what that revision of it added',
    at_log        UInt16                  COMMENT 'Incarnation of the topic that holds what is taken back',
    at_partition  UInt16                  COMMENT 'Kafka partition of what is taken back',
    at_offset     UInt64                  COMMENT 'Offset of what is taken back',
    at_index      UInt32                  COMMENT 'Index of what is taken back in its record',
    audit         UInt64                  COMMENT 'Number of the cut before which the audit found it',
    survivor_log       UInt16             COMMENT 'Incarnation of the topic that holds the event that counts',
    survivor_partition UInt16             COMMENT 'Kafka partition of the event that counts',
    survivor_offset    UInt64             COMMENT 'Offset of the event that counts',
    survivor_index     UInt32             COMMENT 'Index of the event that counts in its record',
    is_conflict   Bool                    COMMENT 'True where the body of the copy is another',
    INDEX by_identity identity TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, type, subject, time, log, partition, offset, `index`, audit, at_log, at_partition, at_offset, at_index, sign)
COMMENT 'What copies in other partitions and logs had added, taken back by the audit of a cut, as signed events';

CREATE TABLE IF NOT EXISTS usage_replacements
(
    tenant       LowCardinality(String)  COMMENT 'The company that runs its billing here',
    replacement  String                  COMMENT 'Name of the replacement',
    action       LowCardinality(String)  COMMENT 'close or revert',
    log          UInt16                  COMMENT 'Incarnation of the topic',
    partition    UInt16                  COMMENT 'Kafka partition',
    offset       UInt64                  COMMENT 'Where it was closed or reverted'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, replacement, log, partition, offset)
COMMENT 'Where range replacements were closed and reverted, per partition';

CREATE TABLE IF NOT EXISTS usage_windows
(
    tenant         LowCardinality(String)  COMMENT 'The company that runs its billing here',
    meter          LowCardinality(String)  COMMENT 'Key of the meter',
    meter_version  UInt32                  COMMENT 'Version of its definition',
    aggregation    LowCardinality(String)  COMMENT 'How it adds up: count, sum, avg, min, max, unique_count, percentile(95), latest, weighted_sum(hour)',
    subject        String                  COMMENT 'Who used it, as the producer names it',
    dimensions     String                  COMMENT 'JSON object of the dimensions, keys sorted',
    item           String                  COMMENT 'The value of min, max, unique_count and percentile; time and identity of a sample of latest and weighted_sum; else empty',
    window_start   DateTime64(3, 'UTC')    COMMENT 'Start of the window, included',
    window_end     DateTime64(3, 'UTC')    COMMENT 'End of the window, excluded',
    log            UInt16                  COMMENT 'Incarnation of the topic',
    partition      UInt16                  COMMENT 'Kafka partition',
    segment        UInt64                  COMMENT 'Start offset of the segment that this row adds up; 2^62 for history seeded later, 2^63 + n for audit n',
    segment_at     DateTime64(3, 'UTC')    COMMENT 'Append time at which the segment starts',
    version        UInt128                 COMMENT 'Rebuild generation, offset and index of the last event included',
    count          Int64                   COMMENT 'Events; below 0 where more were taken back than added',
    sum            Decimal(38, 12)         COMMENT 'Sum of their values; 0 where values are items',
    INDEX by_window window_start TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(segment_at)
ORDER BY (tenant, meter, subject, window_start, meter_version, dimensions, item, log, partition, segment)
SETTINGS index_granularity = 1024, -- one customer's month is read, not eight neighbours' too
    -- A question reads all but three columns: of a part in one file that takes half as long.
    min_bytes_for_wide_part = 1000000000000,
    -- A month that has had no rows for a day is merged for good.
    min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1
COMMENT 'What each segment of the log adds to each window; add rows up, or use the usage_* views';

CREATE TABLE IF NOT EXISTS usage_progress
(
    log          UInt16               COMMENT 'Incarnation of the topic',
    partition    UInt16               COMMENT 'Kafka partition',
    next_offset  UInt64               COMMENT 'Everything below is in the tables',
    max_time     DateTime64(6, 'UTC') COMMENT 'Greatest event time seen'
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (log, partition)
COMMENT 'How far each partition is processed';
