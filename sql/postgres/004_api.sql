-- What the API answered to writes that came with an Idempotency-Key.

-- One row per key of a tenant, made in the transaction of the write itself: of two requests with one
-- key, the second waits for the first and is then answered from here. It lasts a day.
CREATE TABLE idempotent_answers (
    tenant        text NOT NULL REFERENCES tenants,
    request_key   text NOT NULL CHECK (length(request_key) BETWEEN 1 AND 256),
    request_hash  bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    status        smallint,         -- null while the write is being made
    headers       jsonb,
    body          bytea,
    begun_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, request_key)
);
CREATE INDEX idempotent_answers_by_age ON idempotent_answers (begun_at);
