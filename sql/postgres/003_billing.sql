-- Price books, customers and subscriptions; what was billed for what; invoices; the ledger.
--
-- Facts that money depends on are append-only and carry `effective_at` (since when they count) and
-- `known_revision`/`known_at` (the commit that made them known). A bill run sees those whose
-- revision is at or below its cut's.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Facts ------------------------------------------------------------------------------------------

CREATE TABLE price_book_versions (
    tenant          text NOT NULL REFERENCES tenants,
    price_book      text NOT NULL,
    version         integer NOT NULL CHECK (version > 0),
    effective_from  date,           -- local midnight of the customer; null = since ever
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    content         jsonb NOT NULL,
    content_hash    bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    known_revision  bigint NOT NULL,
    known_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, price_book, version)
);

-- What may become a version; nothing is priced by it, and it may change.
CREATE TABLE price_book_drafts (
    tenant          text NOT NULL REFERENCES tenants,
    price_book      text NOT NULL,
    version         integer NOT NULL CHECK (version > 0),
    content         jsonb NOT NULL,
    content_hash    bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    known_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, price_book, version)
);

CREATE TABLE customer_versions (
    tenant          text NOT NULL REFERENCES tenants,
    customer        text NOT NULL,
    version         integer NOT NULL CHECK (version > 0),
    content         jsonb NOT NULL,
    content_hash    bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    effective_at    timestamptz NOT NULL DEFAULT '-infinity',
    known_revision  bigint NOT NULL,
    known_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, customer, version)
);

CREATE TABLE subscription_versions (
    tenant          text NOT NULL REFERENCES tenants,
    subscription    text NOT NULL,
    version         integer NOT NULL CHECK (version > 0),
    customer        text NOT NULL,
    content         jsonb NOT NULL,
    content_hash    bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    effective_at    timestamptz NOT NULL DEFAULT '-infinity',
    known_revision  bigint NOT NULL,
    known_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, subscription, version)
);
CREATE INDEX subscription_versions_of_customer ON subscription_versions (tenant, customer);

CREATE TRIGGER price_book_versions_append_only BEFORE UPDATE OR DELETE ON price_book_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER customer_versions_append_only BEFORE UPDATE OR DELETE ON customer_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER subscription_versions_append_only BEFORE UPDATE OR DELETE ON subscription_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Who pays for a subject's usage, and when. What is known now never overlaps; a fact found wrong is
-- not removed but stamped with the revision that withdrew it.
CREATE TABLE subject_assignments (
    assignment_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant              text NOT NULL REFERENCES tenants,
    subject             text NOT NULL,
    customer            text NOT NULL,
    subscription        text,       -- null = whichever of the customer's bills the meter
    during              tstzrange NOT NULL CHECK (NOT isempty(during)),
    known_revision      bigint NOT NULL,
    known_at            timestamptz NOT NULL DEFAULT now(),
    withdrawn_revision  bigint CHECK (withdrawn_revision > known_revision),
    CONSTRAINT assignments_never_overlap
        EXCLUDE USING gist (tenant WITH =, subject WITH =, during WITH &&)
        WHERE (withdrawn_revision IS NULL)
);
CREATE INDEX subject_assignments_of_customer ON subject_assignments (tenant, customer);

CREATE FUNCTION refuse_all_but_withdrawal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.withdrawn_revision IS NULL AND NEW.withdrawn_revision IS NOT NULL
        AND to_jsonb(NEW) - 'withdrawn_revision' = to_jsonb(OLD) - 'withdrawn_revision'
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an assignment can only be withdrawn, once (TOLLBOOK_APPEND_ONLY)'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER subject_assignments_append_only BEFORE UPDATE OR DELETE ON subject_assignments
    FOR EACH ROW EXECUTE FUNCTION refuse_all_but_withdrawal();

-- Bill runs ---------------------------------------------------------------------------------------

-- A run that was killed is found here as running, and goes on with the same cut.
CREATE TABLE bill_runs (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL REFERENCES tenants,
    kind         text NOT NULL CHECK (kind IN ('bill', 'close')),
    through      text NOT NULL,     -- a date (local midnight of each customer) or an instant
    cut_number   bigint NOT NULL,
    state        text NOT NULL CHECK (state IN ('running', 'done')) DEFAULT 'running',
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    FOREIGN KEY (tenant, cut_number) REFERENCES cuts
);
CREATE UNIQUE INDEX bill_runs_one_at_a_time ON bill_runs (tenant) WHERE state = 'running';

-- A period of one charge, once billed: its instants, and the book versions that price its pieces.
CREATE TABLE billed_periods (
    tenant        text NOT NULL,
    subscription  text NOT NULL,
    item          text NOT NULL,
    charge        text NOT NULL,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL CHECK (ends_at > starts_at),
    starts_on     date NOT NULL,    -- the same in the customer's zone
    ends_on       date NOT NULL,
    price_book    text NOT NULL,
    pieces        jsonb NOT NULL,   -- [{starts_at, ends_at, starts_on, ends_on, version}]
    run_id        bigint NOT NULL REFERENCES bill_runs,
    PRIMARY KEY (tenant, subscription, item, charge, starts_at),
    EXCLUDE USING gist (tenant WITH =, subscription WITH =, item WITH =, charge WITH =,
                        tstzrange(starts_at, ends_at) WITH &&)
);

-- What the fold carried into and out of a period, per cut that rated it; kept even where empty.
CREATE TABLE rating_states (
    tenant        text NOT NULL,
    subscription  text NOT NULL,
    item          text NOT NULL,
    charge        text NOT NULL,
    starts_at     timestamptz NOT NULL,
    cut_number    bigint NOT NULL,
    state_in      jsonb NOT NULL,
    state_out     jsonb NOT NULL,
    PRIMARY KEY (tenant, subscription, item, charge, starts_at, cut_number),
    FOREIGN KEY (tenant, subscription, item, charge, starts_at) REFERENCES billed_periods
);

-- The cuts up to which a subscription's billed periods have been corrected.
CREATE TABLE settled_cuts (
    tenant        text NOT NULL,
    subscription  text NOT NULL,
    cut_number    bigint NOT NULL,
    PRIMARY KEY (tenant, subscription, cut_number),
    FOREIGN KEY (tenant, cut_number) REFERENCES cuts
);

CREATE TRIGGER billed_periods_append_only BEFORE UPDATE OR DELETE ON billed_periods
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER rating_states_append_only BEFORE UPDATE OR DELETE ON rating_states
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER settled_cuts_append_only BEFORE UPDATE OR DELETE ON settled_cuts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Invoices ----------------------------------------------------------------------------------------

CREATE TABLE invoice_series (
    tenant          text NOT NULL REFERENCES tenants,
    legal_entity    text NOT NULL,
    document_type   text NOT NULL CHECK (document_type IN ('invoice', 'credit_note')),
    year            integer NOT NULL,
    last_sequence   bigint NOT NULL CHECK (last_sequence > 0),
    last_issued_on  date NOT NULL,
    PRIMARY KEY (tenant, legal_entity, document_type, year)
);

CREATE TABLE invoices (
    invoice_id        uuid PRIMARY KEY,
    tenant            text NOT NULL REFERENCES tenants,
    document_type     text NOT NULL CHECK (document_type IN ('invoice', 'credit_note')),
    number            text NOT NULL,
    legal_entity      text NOT NULL,
    year              integer NOT NULL,
    sequence          bigint NOT NULL CHECK (sequence > 0),
    customer          text NOT NULL,
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    bill_on           date NOT NULL,
    issued_on         date NOT NULL,
    due_on            date NOT NULL,
    -- A credit note's total is positive too: what it gives.
    total_minor       bigint NOT NULL CHECK (total_minor >= 0),
    -- What is drawn from wallets for it, less what it puts back into them.
    wallet_minor      bigint NOT NULL DEFAULT 0 CHECK (wallet_minor <= total_minor),
    amount_due_minor  bigint NOT NULL
                          CHECK (amount_due_minor BETWEEN 0 AND total_minor - wallet_minor),
    lines_count       integer NOT NULL CHECK (lines_count > 0),
    state             text NOT NULL CHECK (state IN
                          ('draft', 'open', 'discarded', 'paid', 'void', 'uncollectible')),
    run_id            bigint NOT NULL REFERENCES bill_runs,
    cut_number        bigint NOT NULL,
    finalized_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, number),
    UNIQUE (tenant, legal_entity, document_type, year, sequence),
    UNIQUE (tenant, invoice_id),
    UNIQUE (invoice_id, tenant, lines_count),
    FOREIGN KEY (tenant, cut_number) REFERENCES cuts
);
CREATE INDEX invoices_of_customer ON invoices (tenant, customer, issued_on);

CREATE FUNCTION allow_invoice_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE'
        AND to_jsonb(NEW) - '{state,amount_due_minor}'::text[]
          = to_jsonb(OLD) - '{state,amount_due_minor}'::text[]
        AND (NEW.state = OLD.state OR (OLD.state, NEW.state) IN (
            ('draft', 'open'), ('draft', 'discarded'),
            ('open', 'paid'), ('open', 'void'), ('open', 'uncollectible'),
            ('paid', 'open'), ('uncollectible', 'paid'), ('uncollectible', 'open')))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'an issued document changes only its state and what is due (TOLLBOOK_ISSUED)'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER invoices_move_as_declared BEFORE UPDATE OR DELETE ON invoices
    FOR EACH ROW EXECUTE FUNCTION allow_invoice_moves();

-- An invoice says how many lines it has; each repeats that number and has an ordinal up to it. The
-- check at commit counts and sums them; after it no ordinal is left, so none can be added.
CREATE TABLE invoice_lines (
    invoice_id     uuid NOT NULL,
    ordinal        integer NOT NULL,
    tenant         text NOT NULL,
    lines_count    integer NOT NULL,
    subscription   text NOT NULL,
    item           text NOT NULL,
    charge         text NOT NULL,
    dimensions     jsonb NOT NULL,
    piece_start    timestamptz NOT NULL,
    piece_end      timestamptz NOT NULL CHECK (piece_end > piece_start),
    kind           text NOT NULL CHECK (kind IN ('usage', 'advance', 'proration_credit',
                       'proration_charge', 'progressive', 'correction', 'waiver')),
    cause          text NOT NULL,
    period_start   timestamptz NOT NULL,    -- the period that the piece is part of
    service_from   date NOT NULL,           -- the piece in the customer's zone
    service_until  date NOT NULL,
    product        text NOT NULL,
    description    text NOT NULL,
    quantity       numeric NOT NULL,
    unit           text NOT NULL,
    amount_minor   bigint NOT NULL,         -- as it moves the balance: credits are negative
    price_book     text NOT NULL,
    book_version   integer NOT NULL,
    trace          jsonb NOT NULL,
    PRIMARY KEY (invoice_id, ordinal),
    CHECK (ordinal BETWEEN 1 AND lines_count),
    CONSTRAINT line_identity UNIQUE (tenant, subscription, item, charge, dimensions,
                                     piece_start, piece_end, kind, cause),
    FOREIGN KEY (invoice_id, tenant, lines_count)
        REFERENCES invoices (invoice_id, tenant, lines_count)
);

CREATE FUNCTION assert_invoice_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lines bigint;
    total numeric;
BEGIN
    SELECT count(*), coalesce(sum(amount_minor), 0) INTO lines, total
    FROM invoice_lines WHERE invoice_id = NEW.invoice_id;
    IF lines <> NEW.lines_count
        OR total <> (CASE NEW.document_type WHEN 'invoice' THEN 1 ELSE -1 END) * NEW.total_minor
    THEN
        RAISE EXCEPTION '% has % of % lines, which add up to % and not to % (TOLLBOOK_TOTAL)',
            NEW.number, lines, NEW.lines_count, total, NEW.total_minor
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.sequence > 1 AND NOT EXISTS (
        SELECT FROM invoices WHERE tenant = NEW.tenant AND legal_entity = NEW.legal_entity
        AND document_type = NEW.document_type AND year = NEW.year AND sequence = NEW.sequence - 1)
    THEN
        RAISE EXCEPTION '% leaves a gap in its series (TOLLBOOK_GAP)', NEW.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER invoices_add_up AFTER INSERT ON invoices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION assert_invoice_adds_up();

-- The sum of all issued lines of a key, locked while a document that moves it is issued.
CREATE TABLE line_positions (
    tenant         text NOT NULL,
    subscription   text NOT NULL,
    item           text NOT NULL,
    charge         text NOT NULL,
    dimensions     jsonb NOT NULL,
    piece_start    timestamptz NOT NULL,
    piece_end      timestamptz NOT NULL,
    period_start   timestamptz NOT NULL,
    quantity       numeric NOT NULL,
    amount_minor   bigint NOT NULL,
    PRIMARY KEY (tenant, subscription, item, charge, period_start, piece_start, piece_end,
                 dimensions)
);

-- Every input of an invoice, stored once per content; `verify` computes it again from these.
CREATE TABLE rating_inputs (
    tenant        text NOT NULL,
    content_hash  bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    content       jsonb NOT NULL,
    PRIMARY KEY (tenant, content_hash)
);
CREATE TABLE invoice_inputs (
    tenant        text NOT NULL,
    invoice_id    uuid NOT NULL,
    role          text NOT NULL,
    content_hash  bytea NOT NULL,
    PRIMARY KEY (invoice_id, role),
    FOREIGN KEY (tenant, invoice_id) REFERENCES invoices (tenant, invoice_id),
    FOREIGN KEY (tenant, content_hash) REFERENCES rating_inputs
);

CREATE TABLE credit_applications (
    tenant        text NOT NULL,
    credit_note   uuid NOT NULL,
    invoice_id    uuid NOT NULL,
    amount_minor  bigint NOT NULL CHECK (amount_minor > 0),
    PRIMARY KEY (credit_note, invoice_id),
    FOREIGN KEY (tenant, credit_note) REFERENCES invoices (tenant, invoice_id),
    FOREIGN KEY (tenant, invoice_id) REFERENCES invoices (tenant, invoice_id)
);

CREATE TRIGGER invoice_lines_append_only BEFORE UPDATE OR DELETE ON invoice_lines
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER rating_inputs_append_only BEFORE UPDATE OR DELETE ON rating_inputs
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_inputs_append_only BEFORE UPDATE OR DELETE ON invoice_inputs
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credit_applications_append_only BEFORE UPDATE OR DELETE ON credit_applications
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Ledger ------------------------------------------------------------------------------------------

CREATE TABLE accounts (
    account_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        text NOT NULL REFERENCES tenants,
    legal_entity  text NOT NULL,
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    code          text NOT NULL,    -- receivable, deferred_revenue, revenue:access, ...
    kind          text NOT NULL CHECK (kind IN ('asset', 'liability', 'revenue', 'expense')),
    UNIQUE (tenant, legal_entity, currency, code),
    UNIQUE (account_id, tenant, currency)
);

-- An entry says how many postings it has; each posting repeats that number and has an ordinal up to
-- it. The one check at commit counts and sums them; after it no ordinal is left, so an entry can
-- never grow, in this transaction or in any other.
CREATE TABLE journal_entries (
    entry_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          text NOT NULL REFERENCES tenants,
    posting_key     text NOT NULL,  -- what makes posting it twice the same as once
    kind            text NOT NULL CHECK (kind IN
                        ('invoice', 'credit_note', 'recognition', 'accrual', 'reversal',
                         'grant', 'breakage', 'void')),
    effective_on    date NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    description     text NOT NULL,
    reverses        bigint UNIQUE REFERENCES journal_entries,
    postings_count  integer NOT NULL CHECK (postings_count >= 2),
    UNIQUE (tenant, posting_key),
    UNIQUE (entry_id, tenant, postings_count),
    CHECK ((kind = 'reversal') = (reverses IS NOT NULL))
);

CREATE TABLE postings (
    entry_id        bigint NOT NULL,
    ordinal         integer NOT NULL,
    tenant          text NOT NULL,
    postings_count  integer NOT NULL,
    account_id      bigint NOT NULL,
    currency        text NOT NULL,
    amount_minor    bigint NOT NULL CHECK (amount_minor <> 0),  -- debits are positive
    customer        text NOT NULL,
    invoice_id      uuid,
    line            integer,
    service_from    date,
    service_until   date,
    gl_code         text NOT NULL,
    PRIMARY KEY (entry_id, ordinal),
    CHECK (ordinal BETWEEN 1 AND postings_count),
    FOREIGN KEY (entry_id, tenant, postings_count)
        REFERENCES journal_entries (entry_id, tenant, postings_count),
    FOREIGN KEY (account_id, tenant, currency) REFERENCES accounts (account_id, tenant, currency),
    FOREIGN KEY (tenant, invoice_id) REFERENCES invoices (tenant, invoice_id)
);
CREATE INDEX postings_of_account ON postings (account_id);
CREATE INDEX postings_of_invoice ON postings (invoice_id);

CREATE FUNCTION assert_entry_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fault text;
BEGIN
    SELECT CASE
        WHEN sum(n) IS DISTINCT FROM NEW.postings_count
            THEN format('has %s of its %s postings', coalesce(sum(n), 0), NEW.postings_count)
        WHEN bool_or(total <> 0)
            THEN 'does not sum to zero in ' || string_agg(currency, ', ') FILTER (WHERE total <> 0)
        END
    INTO fault
    FROM (SELECT currency, count(*) AS n, sum(amount_minor) AS total
          FROM postings WHERE entry_id = NEW.entry_id GROUP BY currency) AS by_currency;
    IF fault IS NULL AND NEW.reverses IS NOT NULL AND EXISTS (
        SELECT account_id FROM postings WHERE entry_id IN (NEW.entry_id, NEW.reverses)
        GROUP BY account_id, customer, invoice_id, line HAVING sum(amount_minor) <> 0)
    THEN
        fault := 'is not the opposite of the entry that it reverses';
    END IF;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'journal entry % % (TOLLBOOK_UNBALANCED)', NEW.posting_key, fault
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER journal_entries_balance AFTER INSERT ON journal_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION assert_entry_balances();

-- Through which day a tenant's books are locked; nothing is booked into it any more.
CREATE TABLE accounting_locks (
    tenant          text NOT NULL REFERENCES tenants,
    locked_through  date NOT NULL,
    locked_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, locked_through)
);
CREATE FUNCTION refuse_locked_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM accounting_locks
               WHERE tenant = NEW.tenant AND locked_through >= NEW.effective_on) THEN
        RAISE EXCEPTION 'the books are locked on % (TOLLBOOK_LOCKED)', NEW.effective_on
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER journal_entries_in_open_days BEFORE INSERT ON journal_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_locked_days();

CREATE TRIGGER journal_entries_append_only BEFORE UPDATE OR DELETE ON journal_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE ON postings
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER accounting_locks_append_only BEFORE UPDATE OR DELETE ON accounting_locks
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Emptying a table is a deletion too.
DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['price_book_versions', 'customer_versions', 'subscription_versions',
        'subject_assignments', 'billed_periods', 'rating_states', 'settled_cuts', 'invoices',
        'invoice_lines', 'rating_inputs', 'invoice_inputs', 'credit_applications',
        'journal_entries', 'postings', 'accounting_locks', 'invoice_series', 'line_positions',
        'fact_revisions', 'meters', 'segments', 'cuts', 'cut_offsets']
    LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept || '_keep', kept);
    END LOOP;
END $$;

-- These change as counters do; their rows stay.
CREATE TRIGGER invoice_series_stay BEFORE DELETE ON invoice_series
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER line_positions_stay BEFORE DELETE ON line_positions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fact_revisions_stay BEFORE DELETE ON fact_revisions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
