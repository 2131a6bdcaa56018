-- What state each subscription is in, how it came there, what will fall due, and tenants' own clocks.
--
-- What a subscription consists of is in `subscription_versions`; here is what became of it. A row
-- is written by one INSERT or UPDATE; its history and its event come with it, in the same commit.

CREATE FUNCTION subscription_may_move(from_state text, to_state text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT (from_state, to_state) IN (
        ('draft', 'trialing'), ('draft', 'active'), ('draft', 'canceled'),
        ('trialing', 'active'), ('trialing', 'past_due'), ('trialing', 'canceled'),
        ('active', 'past_due'), ('active', 'paused'), ('active', 'canceled'),
        ('past_due', 'active'), ('past_due', 'paused'), ('past_due', 'canceled'),
        ('paused', 'active'), ('paused', 'past_due'), ('paused', 'canceled'))
$$;

CREATE TABLE subscriptions (
    tenant           text NOT NULL REFERENCES tenants,
    subscription     text NOT NULL,
    customer         text NOT NULL,
    state            text NOT NULL CHECK (state IN
                         ('draft', 'trialing', 'active', 'past_due', 'paused', 'canceled')),
    version          bigint NOT NULL CHECK (version > 0),
    content_version  integer NOT NULL,
    predecessor      text CHECK (predecessor <> subscription),
    cancel_at        timestamptz,   -- when it ends, planned or past
    -- Of the last change, by the tenant's clock.
    changed_at       timestamptz NOT NULL,
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 256),
    reason           text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1024),
    PRIMARY KEY (tenant, subscription),
    FOREIGN KEY (tenant, subscription, content_version) REFERENCES subscription_versions,
    FOREIGN KEY (tenant, predecessor) REFERENCES subscriptions DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX subscriptions_by_state ON subscriptions (tenant, state, subscription);
CREATE INDEX subscriptions_of_customer ON subscriptions (tenant, customer);

CREATE TABLE subscription_history (
    tenant           text NOT NULL,
    subscription     text NOT NULL,
    version          bigint NOT NULL,
    from_state       text,          -- null where it was created
    to_state         text NOT NULL,
    content_version  integer NOT NULL,
    at               timestamptz NOT NULL,
    actor            text NOT NULL,
    reason           text NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, subscription, version),
    FOREIGN KEY (tenant, subscription) REFERENCES subscriptions
);

-- Events to be published. Versions of an aggregate follow one another without a gap; an event is
-- written under its aggregate's lock, with what it tells of, and says how that stands at its version.
CREATE TABLE outbox (
    tenant             text NOT NULL REFERENCES tenants,
    aggregate          text NOT NULL,
    aggregate_version  bigint NOT NULL CHECK (aggregate_version > 0),
    event_type         text NOT NULL,
    payload            jsonb NOT NULL,
    occurred_at        timestamptz NOT NULL,
    recorded_at        timestamptz NOT NULL DEFAULT now(),
    sent_at            timestamptz,
    PRIMARY KEY (tenant, aggregate, aggregate_version)
);
CREATE INDEX outbox_unsent ON outbox (tenant, aggregate, aggregate_version) WHERE sent_at IS NULL;

CREATE FUNCTION keep_outbox_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.aggregate_version > 1 AND NOT EXISTS (
            SELECT FROM outbox WHERE tenant = NEW.tenant AND aggregate = NEW.aggregate
            AND aggregate_version = NEW.aggregate_version - 1)
        THEN
            RAISE EXCEPTION 'event % of % leaves a gap (TOLLBOOK_GAP)',
                NEW.aggregate_version, NEW.aggregate USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL
        AND to_jsonb(NEW) - 'sent_at' = to_jsonb(OLD) - 'sent_at'
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an event is only marked as sent, once (TOLLBOOK_APPEND_ONLY)'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER outbox_in_order BEFORE INSERT OR UPDATE OR DELETE ON outbox
    FOR EACH ROW EXECUTE FUNCTION keep_outbox_in_order();

-- Whether an invoice with lines of a subscription is open after its due day.
CREATE FUNCTION subscription_is_overdue(of_tenant text, of_subscription text, at timestamptz)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM invoices i WHERE i.tenant = of_tenant AND i.document_type = 'invoice'
        AND i.state = 'open' AND i.amount_due_minor > 0
        AND i.due_on < (at AT TIME ZONE 'UTC')::date
        AND i.customer = (SELECT customer FROM subscriptions
                          WHERE tenant = of_tenant AND subscription = of_subscription)
        AND EXISTS (SELECT FROM invoice_lines l
                    WHERE l.invoice_id = i.invoice_id AND l.subscription = of_subscription))
$$;

CREATE FUNCTION allow_subscription_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.version <> 1 OR NEW.state NOT IN ('draft', 'trialing', 'active') THEN
            RAISE EXCEPTION 'subscription % cannot begin as % at version % (TOLLBOOK_MOVE)',
                NEW.subscription, NEW.state, NEW.version USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' OR (NEW.tenant, NEW.subscription) <> (OLD.tenant, OLD.subscription)
        OR NEW.predecessor IS DISTINCT FROM OLD.predecessor
    THEN
        RAISE EXCEPTION 'subscription % stays (TOLLBOOK_APPEND_ONLY)', OLD.subscription
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.version <> OLD.version + 1 THEN
        RAISE EXCEPTION 'subscription % is at version %, so the next is not % (TOLLBOOK_STALE)',
            OLD.subscription, OLD.version, NEW.version USING ERRCODE = 'serialization_failure';
    END IF;
    IF NEW.changed_at < OLD.changed_at THEN
        RAISE EXCEPTION 'subscription % changed at %, and not before (TOLLBOOK_ORDER)',
            OLD.subscription, OLD.changed_at USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> OLD.state AND NOT subscription_may_move(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'subscription % cannot move from % to % (TOLLBOOK_MOVE)',
            OLD.subscription, OLD.state, NEW.state USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'active' AND OLD.state IN ('past_due', 'paused')
        AND subscription_is_overdue(NEW.tenant, NEW.subscription, NEW.changed_at)
    THEN
        RAISE EXCEPTION 'subscription % has overdue invoices, so it is not active (TOLLBOOK_MOVE)',
            OLD.subscription USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER subscriptions_move_as_declared BEFORE INSERT OR UPDATE OR DELETE ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION allow_subscription_moves();

CREATE FUNCTION tell_of_subscription() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END;
BEGIN
    INSERT INTO subscription_history (tenant, subscription, version, from_state, to_state,
        content_version, at, actor, reason)
    VALUES (NEW.tenant, NEW.subscription, NEW.version, was, NEW.state,
        NEW.content_version, NEW.changed_at, NEW.actor, NEW.reason);
    INSERT INTO outbox (tenant, aggregate, aggregate_version, event_type, payload, occurred_at)
    VALUES (NEW.tenant, 'subscription/' || NEW.subscription, NEW.version,
        'subscription.' || CASE WHEN was IS NULL THEN 'created'
                                WHEN was = NEW.state THEN 'changed' ELSE NEW.state END,
        to_jsonb(NEW) - 'tenant' || jsonb_build_object('from_state', was, 'content', (
            SELECT content FROM subscription_versions v WHERE v.tenant = NEW.tenant
            AND v.subscription = NEW.subscription AND v.version = NEW.content_version)),
        NEW.changed_at);
    RETURN NULL;
END $$;
CREATE TRIGGER subscriptions_tell AFTER INSERT OR UPDATE ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION tell_of_subscription();
CREATE TRIGGER subscription_history_append_only BEFORE UPDATE OR DELETE ON subscription_history
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- What is to be done at an instant. Of one key it is done in order of (due_at, ordinal); a row that
-- waits is taken away and written anew as its subscription's terms change, one that is done stays.
CREATE TABLE due_work (
    tenant    text NOT NULL REFERENCES tenants,
    key       text NOT NULL,
    due_at    timestamptz NOT NULL,
    ordinal   smallint NOT NULL,
    kind      text NOT NULL CHECK (kind IN
                  ('start', 'try', 'remind', 'convert', 'lapse', 'resume', 'pause', 'phase',
                   'end', 'expire')),
    state     text NOT NULL CHECK (state IN ('waiting', 'done')) DEFAULT 'waiting',
    done_at   timestamptz,          -- by the world's clock
    PRIMARY KEY (tenant, key, due_at, ordinal)
);
CREATE INDEX due_work_waiting ON due_work (due_at, tenant, key) WHERE state = 'waiting';

-- The time of tenants that have their own; it never goes back.
CREATE TABLE tenant_clocks (
    tenant  text PRIMARY KEY REFERENCES tenants,
    at      timestamptz NOT NULL
);
CREATE FUNCTION keep_clock_going() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.tenant <> OLD.tenant OR NEW.at < OLD.at THEN
        RAISE EXCEPTION 'a clock never goes back (TOLLBOOK_CLOCK)'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenant_clocks_go_on BEFORE UPDATE OR DELETE ON tenant_clocks
    FOR EACH ROW EXECUTE FUNCTION keep_clock_going();

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['subscriptions', 'subscription_history', 'outbox', 'tenant_clocks']
    LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept || '_keep', kept);
    END LOOP;
END $$;
