-- What the workers agree on: incarnations of the topic, segments, meters, cuts.

-- One row per incarnation of the usage topic, known by Kafka's topic id. Ingest writes to the
-- newest; the others are consumed until they are closed.
CREATE TABLE logs (
    log         smallint PRIMARY KEY,
    topic       text NOT NULL,
    topic_id    text NOT NULL UNIQUE,
    partitions  smallint NOT NULL CHECK (partitions > 0),
    opened_at   timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz             -- since then it takes no records and nobody reads it
);
CREATE UNIQUE INDEX logs_open_topics ON logs (topic) WHERE closed_at IS NULL;

-- Where the partitions of a closed log end: what every later cut holds of them.
CREATE TABLE log_ends (
    log          smallint NOT NULL REFERENCES logs,
    partition    smallint NOT NULL,
    next_offset  bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (log, partition)
);
CREATE TRIGGER log_ends_append_only BEFORE UPDATE OR DELETE ON log_ends
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE meters (
    definition_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          text NOT NULL REFERENCES tenants,
    key             text NOT NULL CHECK (key ~ '^[a-z][a-z0-9_]{0,62}$'),
    version         integer NOT NULL CHECK (version > 0),
    definition      jsonb NOT NULL,
    -- In force for windows that start from here on, until the next version's.
    effective_at    timestamptz NOT NULL DEFAULT '-infinity',
    -- An archived version counts nothing: the meter has stopped from effective_at on.
    archived        boolean NOT NULL DEFAULT false,
    -- The revision of the tenant's facts that made it known: cuts fixed before do not see it.
    known_revision  bigint NOT NULL DEFAULT 0,
    known_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, key, version)
);
CREATE TRIGGER meters_append_only BEFORE UPDATE OR DELETE ON meters
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- A partition's log is cut into segments. Every column but definitions is a function of the log;
-- the row is agreed by INSERT ... ON CONFLICT DO NOTHING and read back.
CREATE TABLE segments (
    log              smallint NOT NULL REFERENCES logs,
    partition        smallint NOT NULL,
    sequence         bigint NOT NULL CHECK (sequence >= 0),
    start_offset     bigint NOT NULL CHECK (start_offset >= 0),
    started_at_ms    bigint NOT NULL,   -- running maximum of append times at the start
    events_before    bigint NOT NULL,   -- events of the partition before the start, copies included
    slice            bigint NOT NULL,   -- the slice of identities that this segment claims in
    horizon_slice    bigint NOT NULL,   -- the oldest slice that is looked at
    horizon_offset   bigint NOT NULL,   -- H: where that slice starts
    horizon_at_ms    bigint NOT NULL,   -- the running maximum of append times there
    streams          jsonb NOT NULL,    -- {quarantined: [[tenant, source], ...], suspected: ...}
    definitions      bigint[] NOT NULL, -- the meter definitions that this segment counts
    PRIMARY KEY (log, partition, sequence),
    UNIQUE (log, partition, start_offset)
);

-- The start of the first segment of a partition that counts a definition.
CREATE TABLE activations (
    definition_id  bigint NOT NULL REFERENCES meters,
    log            smallint NOT NULL REFERENCES logs,
    partition      smallint NOT NULL,
    start_offset   bigint NOT NULL,
    PRIMARY KEY (definition_id, log, partition)
);
CREATE FUNCTION note_activations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO activations
    SELECT unnest(NEW.definitions), NEW.log, NEW.partition, NEW.start_offset
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER segments_activate AFTER INSERT ON segments
    FOR EACH ROW EXECUTE FUNCTION note_activations();
CREATE TRIGGER activations_append_only BEFORE UPDATE OR DELETE ON activations
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- From where segments count a definition; of a closed log that never did, all is history.
CREATE VIEW counted_from AS
SELECT definition_id, log, partition, start_offset FROM activations
UNION ALL
SELECT m.definition_id, e.log, e.partition, e.next_offset FROM meters m CROSS JOIN log_ends e
WHERE NOT EXISTS (SELECT FROM activations a WHERE a.definition_id = m.definition_id
                  AND a.log = e.log AND a.partition = e.partition);

-- How far what lies below its activations is counted for a definition: all windows that start
-- before seeded_us (microseconds since 1970) are in segment HISTORY_SEGMENT of usage_windows, and
-- what earlier audits took back in the segments of those.
CREATE TABLE seedings (
    definition_id  bigint PRIMARY KEY REFERENCES meters,
    seeded_us      bigint NOT NULL,
    events_done    bigint NOT NULL,
    events_total   bigint NOT NULL,
    live_at        timestamptz
);
CREATE TRIGGER segments_append_only BEFORE UPDATE OR DELETE ON segments
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Releases of quarantined streams, numbered per stream: first the quarantine is ended by a record in
-- every partition, then what was set aside below those records is sent again.
CREATE TABLE quarantine_releases (
    tenant    text NOT NULL,            -- empty for what names none
    source    text NOT NULL,            -- empty for what cannot be read
    number    integer NOT NULL CHECK (number > 0),
    author    text NOT NULL,
    asked_at  timestamptz NOT NULL DEFAULT now(),
    places    jsonb,                    -- [[log, partition, offset], ...] of the records
    sent      bigint,                   -- so many events were sent again
    sent_at   timestamptz,
    PRIMARY KEY (tenant, source, number)
);

-- Range replacements: what was sent for a range of event times is replaced as a whole.
CREATE TABLE replacements (
    tenant       text NOT NULL REFERENCES tenants,
    name         text NOT NULL CHECK (name ~ '^[0-9a-f-]{36}$'),
    starts_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL CHECK (ends_at > starts_at),
    subject      text,
    source       text,
    type         text,
    author       text NOT NULL,
    reason       text NOT NULL,
    state        text NOT NULL
        CHECK (state IN ('open', 'closing', 'closed', 'reverting', 'reverted')),
    closed_at    jsonb,  -- [[log, partition, offset], ...] of the records that closed it
    reverted_at  jsonb,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name),
    CHECK (subject IS NOT NULL OR source IS NOT NULL OR type IS NOT NULL)
);

-- A cut before it is fixed: whoever goes on after a crash audits and fixes this very vector.
CREATE TABLE cut_proposals (
    tenant       text NOT NULL REFERENCES tenants,
    number       bigint NOT NULL CHECK (number > 0),
    at           timestamptz NOT NULL,
    offsets      jsonb NOT NULL,        -- [[log, partition, next_offset], ...]
    definitions  bigint[] NOT NULL,     -- the meter definitions that its audit counts
    proposed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, number)
);
CREATE TRIGGER cut_proposals_append_only BEFORE UPDATE OR DELETE ON cut_proposals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Fixed cuts: one numbered chain per tenant; no component is ever smaller than the one before.
CREATE TABLE cuts (
    tenant          text NOT NULL REFERENCES tenants,
    number          bigint NOT NULL CHECK (number > 0),
    at              timestamptz NOT NULL,
    facts_revision  bigint NOT NULL,
    fixed_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, number)
);
CREATE TABLE cut_offsets (
    tenant       text NOT NULL,
    number       bigint NOT NULL,
    log          smallint NOT NULL REFERENCES logs,
    partition    smallint NOT NULL,
    next_offset  bigint NOT NULL,
    PRIMARY KEY (tenant, number, log, partition),
    FOREIGN KEY (tenant, number) REFERENCES cuts
);
CREATE TRIGGER cuts_append_only BEFORE UPDATE OR DELETE ON cuts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER cut_offsets_append_only BEFORE UPDATE OR DELETE ON cut_offsets
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
