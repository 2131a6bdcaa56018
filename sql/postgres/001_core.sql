-- Tenants, their keys, and the counter of the facts that money depends on.

CREATE TABLE tenants (
    tenant          text PRIMARY KEY CHECK (tenant ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name            text NOT NULL,
    -- A tenant opened for history may send events of any age.
    open_for_history boolean NOT NULL DEFAULT false,
    -- A tenant on a virtual clock cuts at the moment of asking.
    virtual_clock   boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    key_hash    bytea PRIMARY KEY CHECK (octet_length(key_hash) = 32),  -- SHA-256 of the key
    tenant      text NOT NULL REFERENCES tenants,
    name        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('owner', 'ingest', 'analyst')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);

-- The revision of a tenant's facts (assignments, quantities, overrides, pins, meter versions):
-- raised under its row lock by every transaction that adds one, so that it counts commits.
CREATE TABLE fact_revisions (
    tenant    text PRIMARY KEY REFERENCES tenants,
    revision  bigint NOT NULL DEFAULT 0
);

-- The secret that seeds identity hashes: one row, made once, for the life of the deployment.
CREATE TABLE deployment (
    only_one       boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    identity_seed  bytea NOT NULL CHECK (octet_length(identity_seed) = 8)
);
INSERT INTO deployment (identity_seed) VALUES (substring(uuid_send(gen_random_uuid()) FROM 9 FOR 8));

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: add a row instead of a % (TOLLBOOK_APPEND_ONLY)',
        TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
