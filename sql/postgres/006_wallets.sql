-- Wallets: credit that customers bought or were given, and every movement of it.
--
-- A grant's counters are sums of its movements: a movement is one INSERT, which moves them. A grant
-- holds what is left of it, of which parts are held or settled; what is neither is free. The checks
-- below refuse whatever would make any of it negative, so no two writers can spend the same twice.

CREATE TABLE wallets (
    tenant         text NOT NULL REFERENCES tenants,
    wallet         text NOT NULL,
    customer       text NOT NULL,
    legal_entity   text NOT NULL,
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    tax_at         text NOT NULL CHECK (tax_at IN ('purchase', 'use')),
    -- Below how much available credit how much more is asked for; null = never.
    below_minor    bigint CHECK (below_minor > 0),
    top_up_minor   bigint CHECK (top_up_minor > 0),
    created_at     timestamptz NOT NULL,
    actor          text NOT NULL,
    CHECK ((below_minor IS NULL) = (top_up_minor IS NULL)),
    PRIMARY KEY (tenant, wallet),
    UNIQUE (tenant, customer, legal_entity, currency)
);

CREATE TABLE wallet_grants (
    tenant         text NOT NULL,
    wallet         text NOT NULL,
    number         bigint NOT NULL CHECK (number > 0),    -- counts up within its wallet
    key            text NOT NULL,                         -- what makes granting twice the same as once
    kind           text NOT NULL CHECK (kind IN ('prepaid', 'promotional')),
    priority       integer NOT NULL CHECK (priority BETWEEN 0 AND 100),     -- lower is drawn first
    granted_minor  bigint NOT NULL CHECK (granted_minor BETWEEN 1 AND 100000000000000000),
    cost_minor     bigint NOT NULL CHECK (cost_minor BETWEEN 0 AND granted_minor),  -- what was paid
    effective_at   timestamptz NOT NULL,
    expires_at     timestamptz CHECK (expires_at > effective_at),
    scope          jsonb NOT NULL,
    -- What paid for it: a payment's reference, or a line of an invoice.
    payment        text CHECK (length(payment) BETWEEN 1 AND 256),
    invoice_id     uuid,
    line           integer,
    granted_at     timestamptz NOT NULL,
    actor          text NOT NULL,
    reason         text NOT NULL,
    -- Sums of its movements.
    left_minor     bigint NOT NULL DEFAULT 0 CHECK (left_minor BETWEEN 0 AND granted_minor),
    held_minor     bigint NOT NULL DEFAULT 0 CHECK (held_minor >= 0),
    settled_minor  bigint NOT NULL DEFAULT 0 CHECK (settled_minor >= 0),
    drawn_minor    bigint NOT NULL DEFAULT 0 CHECK (drawn_minor >= 0),
    expired_minor  bigint NOT NULL DEFAULT 0 CHECK (expired_minor >= 0),
    voided_minor   bigint NOT NULL DEFAULT 0 CHECK (voided_minor >= 0),
    owed_minor     bigint NOT NULL DEFAULT 0 CHECK (owed_minor BETWEEN 0 AND cost_minor),
    CONSTRAINT grants_are_never_overspent CHECK (left_minor >= held_minor + settled_minor),
    CONSTRAINT nothing_of_a_grant_is_lost CHECK (    -- 0 before its first movement
        left_minor + drawn_minor + expired_minor + voided_minor IN (0, granted_minor)),
    CHECK ((kind = 'prepaid') = (cost_minor > 0)),
    CHECK ((cost_minor > 0) = (num_nonnulls(payment, invoice_id) = 1)),
    CHECK ((invoice_id IS NULL) = (line IS NULL)),
    PRIMARY KEY (tenant, wallet, number),
    UNIQUE (tenant, wallet, key),
    FOREIGN KEY (tenant, wallet) REFERENCES wallets,
    FOREIGN KEY (invoice_id, line) REFERENCES invoice_lines
);
CREATE INDEX wallet_grants_of_line ON wallet_grants (invoice_id, line) WHERE invoice_id IS NOT NULL;
CREATE UNIQUE INDEX wallet_grants_of_payment ON wallet_grants (tenant, payment)
    WHERE payment IS NOT NULL;

CREATE TABLE wallet_holds (
    tenant         text NOT NULL,
    wallet         text NOT NULL,
    hold           text NOT NULL,
    state          text NOT NULL DEFAULT 'open' CHECK (state IN
                       ('open', 'settled', 'released', 'expired', 'invoiced')),
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    settled_minor  bigint CHECK (settled_minor BETWEEN 0 AND amount_minor),
    charge         text,           -- what it is for; null = anything
    product        text,
    meter          text,
    held_at        timestamptz NOT NULL,
    expires_at     timestamptz CHECK (expires_at > held_at),
    used_at        timestamptz,    -- when what it was settled for was used
    actor          text NOT NULL,
    CHECK ((state IN ('settled', 'invoiced')) = (settled_minor IS NOT NULL)),
    CHECK ((settled_minor IS NULL) = (used_at IS NULL)),
    PRIMARY KEY (tenant, wallet, hold),
    FOREIGN KEY (tenant, wallet) REFERENCES wallets
);
CREATE INDEX wallet_holds_open ON wallet_holds (tenant, wallet, expires_at) WHERE state = 'open';
CREATE INDEX wallet_holds_settled ON wallet_holds (tenant, wallet, used_at)
    WHERE state = 'settled';

-- The events that holds were settled for: each counts for one hold of its wallet.
CREATE TABLE wallet_events (
    tenant  text NOT NULL,
    wallet  text NOT NULL,
    source  text NOT NULL,
    id      text NOT NULL,
    hold    text NOT NULL,
    PRIMARY KEY (tenant, wallet, source, id),
    FOREIGN KEY (tenant, wallet, hold) REFERENCES wallet_holds
);

CREATE TABLE wallet_movements (
    tenant         text NOT NULL,
    wallet         text NOT NULL,
    sequence       bigint NOT NULL CHECK (sequence > 0),    -- counts up within its wallet
    number         bigint NOT NULL,                         -- the grant
    kind           text NOT NULL,
    -- What it adds to what is left, held, settled, and owed to the customer for what was paid.
    left_minor     bigint NOT NULL DEFAULT 0,
    held_minor     bigint NOT NULL DEFAULT 0,
    settled_minor  bigint NOT NULL DEFAULT 0,
    owed_minor     bigint NOT NULL DEFAULT 0,
    hold           text,
    invoice_id     uuid,                -- the document that it was drawn for or restored by
    line           integer,
    at             timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    actor          text NOT NULL,
    reason         text NOT NULL,
    PRIMARY KEY (tenant, wallet, sequence),
    FOREIGN KEY (tenant, wallet, number) REFERENCES wallet_grants,
    FOREIGN KEY (tenant, wallet, hold) REFERENCES wallet_holds,
    FOREIGN KEY (invoice_id, line) REFERENCES invoice_lines,
    CONSTRAINT movements_are_what_they_are_called CHECK (CASE
        WHEN kind IN ('grant', 'top_up', 'restore', 'reopen')
            THEN left_minor > 0 AND held_minor = 0 AND settled_minor = 0 AND owed_minor >= 0
        WHEN kind IN ('draw', 'expire', 'void')
            THEN left_minor < 0 AND held_minor = 0 AND settled_minor = 0 AND owed_minor <= 0
        WHEN kind = 'hold'
            THEN left_minor = 0 AND held_minor > 0 AND settled_minor = 0 AND owed_minor = 0
        WHEN kind = 'settle' THEN left_minor = 0 AND held_minor < 0
            AND settled_minor BETWEEN 0 AND -held_minor AND owed_minor = 0
        WHEN kind = 'release'
            THEN left_minor = 0 AND held_minor < 0 AND settled_minor = 0 AND owed_minor = 0
        WHEN kind = 'invoice'
            THEN left_minor = 0 AND held_minor = 0 AND settled_minor < 0 AND owed_minor = 0
        ELSE false END),
    CHECK ((hold IS NOT NULL) = (kind IN ('hold', 'settle', 'release', 'invoice'))),
    CHECK ((invoice_id IS NOT NULL) = (line IS NOT NULL)),
    CHECK ((line IS NOT NULL) = (kind IN ('draw', 'restore', 'reopen')))
);
CREATE INDEX wallet_movements_of_hold ON wallet_movements (tenant, wallet, hold)
    WHERE hold IS NOT NULL;
CREATE INDEX wallet_movements_of_line ON wallet_movements (invoice_id, line)
    WHERE invoice_id IS NOT NULL;

-- More credit that a wallet asks for, until somebody has paid for it. One at a time.
CREATE TABLE wallet_top_ups (
    tenant        text NOT NULL,
    wallet        text NOT NULL,
    number        integer NOT NULL CHECK (number > 0),
    amount_minor  bigint NOT NULL CHECK (amount_minor > 0),
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'granted')),
    grant_number  bigint,
    asked_at      timestamptz NOT NULL,
    CHECK ((state = 'granted') = (grant_number IS NOT NULL)),
    PRIMARY KEY (tenant, wallet, number),
    FOREIGN KEY (tenant, wallet) REFERENCES wallets,
    FOREIGN KEY (tenant, wallet, grant_number) REFERENCES wallet_grants
);
CREATE UNIQUE INDEX wallet_top_ups_pending ON wallet_top_ups (tenant, wallet)
    WHERE state = 'pending';

-- A grant's counters move with its movements, and by nothing else.
CREATE FUNCTION move_grant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE wallet_grants SET
        left_minor = left_minor + NEW.left_minor,
        held_minor = held_minor + NEW.held_minor,
        settled_minor = settled_minor + NEW.settled_minor,
        owed_minor = owed_minor + NEW.owed_minor,
        drawn_minor = drawn_minor
            - CASE WHEN NEW.kind IN ('draw', 'restore') THEN NEW.left_minor ELSE 0 END,
        expired_minor = expired_minor
            - CASE WHEN NEW.kind IN ('expire', 'reopen') THEN NEW.left_minor ELSE 0 END,
        voided_minor = voided_minor - CASE WHEN NEW.kind = 'void' THEN NEW.left_minor ELSE 0 END
    WHERE tenant = NEW.tenant AND wallet = NEW.wallet AND number = NEW.number;
    RETURN NULL;
END $$;
CREATE TRIGGER wallet_movements_move AFTER INSERT ON wallet_movements
    FOR EACH ROW EXECUTE FUNCTION move_grant();

CREATE FUNCTION keep_grant() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sums CONSTANT text[] := '{left_minor,held_minor,settled_minor,drawn_minor,expired_minor,
        voided_minor,owed_minor}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF (NEW.left_minor, NEW.held_minor, NEW.settled_minor, NEW.drawn_minor,
            NEW.expired_minor, NEW.voided_minor, NEW.owed_minor) = (0, 0, 0, 0, 0, 0, 0)
        THEN
            RETURN NEW;
        END IF;
    -- This trigger is one within that of a movement.
    ELSIF TG_OP = 'UPDATE' AND pg_trigger_depth() > 1
        AND to_jsonb(NEW) - sums = to_jsonb(OLD) - sums
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a grant changes by movements alone (TOLLBOOK_APPEND_ONLY)'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER wallet_grants_move_alone BEFORE INSERT OR UPDATE OR DELETE ON wallet_grants
    FOR EACH ROW EXECUTE FUNCTION keep_grant();

CREATE FUNCTION allow_hold_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE'
        AND to_jsonb(NEW) - '{state,settled_minor,used_at}'::text[]
          = to_jsonb(OLD) - '{state,settled_minor,used_at}'::text[]
        AND (OLD.state, NEW.state) IN (('open', 'settled'), ('open', 'released'),
            ('open', 'expired'), ('settled', 'invoiced'))
        AND (OLD.state = 'open' OR (NEW.settled_minor, NEW.used_at)
            = (OLD.settled_minor, OLD.used_at))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'hold % is %, and does not become that (TOLLBOOK_MOVE)', OLD.hold, OLD.state
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER wallet_holds_move_as_declared BEFORE UPDATE OR DELETE ON wallet_holds
    FOR EACH ROW EXECUTE FUNCTION allow_hold_moves();

CREATE FUNCTION allow_top_up_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.state, NEW.state) = ('pending', 'granted')
        AND to_jsonb(NEW) - '{state,grant_number}'::text[]
          = to_jsonb(OLD) - '{state,grant_number}'::text[]
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a top-up is granted once (TOLLBOOK_MOVE)' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER wallet_top_ups_move_as_declared BEFORE UPDATE OR DELETE ON wallet_top_ups
    FOR EACH ROW EXECUTE FUNCTION allow_top_up_moves();

-- At commit: a document's movements add up to what it says; no grant misses its first movement, no
-- hold is bigger or smaller than what is held for it; what is left of nothing owes nothing.
CREATE FUNCTION assert_document_draws() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    applied bigint;
    drawn numeric;
BEGIN
    SELECT wallet_minor INTO applied FROM invoices WHERE invoice_id = NEW.invoice_id;
    SELECT coalesce(-sum(left_minor), 0) INTO drawn FROM wallet_movements
    WHERE invoice_id = NEW.invoice_id AND kind IN ('draw', 'restore');
    IF applied <> drawn THEN
        RAISE EXCEPTION 'document % applies % of credit, and % is drawn (TOLLBOOK_DRAWN)',
            NEW.invoice_id, applied, drawn USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER invoices_draw_what_they_say AFTER INSERT ON invoices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.wallet_minor <> 0)
    EXECUTE FUNCTION assert_document_draws();
CREATE CONSTRAINT TRIGGER wallet_movements_are_on_documents AFTER INSERT ON wallet_movements
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.invoice_id IS NOT NULL)
    EXECUTE FUNCTION assert_document_draws();

CREATE FUNCTION assert_granted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    granted numeric;
BEGIN
    SELECT coalesce(sum(left_minor), 0) INTO granted FROM wallet_movements WHERE tenant = NEW.tenant
    AND wallet = NEW.wallet AND number = NEW.number AND kind IN ('grant', 'top_up');
    IF granted <> NEW.granted_minor THEN
        RAISE EXCEPTION 'grant % of wallet % is of %, and % was granted (TOLLBOOK_GRANTED)',
            NEW.number, NEW.wallet, NEW.granted_minor, granted
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wallet_grants_are_granted AFTER INSERT ON wallet_grants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION assert_granted();
CREATE UNIQUE INDEX wallet_grants_granted_once ON wallet_movements (tenant, wallet, number)
    WHERE kind IN ('grant', 'top_up');

CREATE FUNCTION assert_held() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known wallet_holds;
    held numeric;
    settled numeric;
BEGIN
    SELECT * INTO known FROM wallet_holds
    WHERE tenant = NEW.tenant AND wallet = NEW.wallet AND hold = NEW.hold;
    SELECT coalesce(sum(held_minor), 0), coalesce(sum(settled_minor), 0) INTO held, settled
    FROM wallet_movements
    WHERE tenant = NEW.tenant AND wallet = NEW.wallet AND hold = NEW.hold;
    IF (held, settled) <> (
        CASE WHEN known.state = 'open' THEN known.amount_minor ELSE 0 END,
        CASE WHEN known.state = 'settled' THEN known.settled_minor ELSE 0 END)
    THEN
        RAISE EXCEPTION 'hold % is %, with % held and % settled (TOLLBOOK_HELD)',
            NEW.hold, known.state, held, settled USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wallet_holds_hold AFTER INSERT OR UPDATE ON wallet_holds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION assert_held();
CREATE CONSTRAINT TRIGGER wallet_movements_hold AFTER INSERT ON wallet_movements
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.hold IS NOT NULL)
    EXECUTE FUNCTION assert_held();

CREATE TRIGGER wallet_events_append_only BEFORE UPDATE OR DELETE ON wallet_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER wallet_movements_append_only BEFORE UPDATE OR DELETE ON wallet_movements
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER wallets_stay BEFORE DELETE ON wallets
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['wallets', 'wallet_grants', 'wallet_holds', 'wallet_events',
        'wallet_movements', 'wallet_top_ups']
    LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept || '_keep', kept);
    END LOOP;
END $$;
