-- What is to be told of, to whom: one row per webhook that wants a run's end, written together with that end. Whoever
-- delivers takes a row by putting its next attempt off; when they die meanwhile, it is due again.
CREATE TABLE webhook_deliveries (
    -- The receiver sees it with every attempt, and can tell a repetition by it.
    id              uuid PRIMARY KEY,
    webhook         text NOT NULL,
    run             uuid REFERENCES runs (id) ON DELETE CASCADE,
    -- What is sent, bounded in size; no secret and no report.
    payload         jsonb NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- Since when it is tried: it is given up a day later. Later than created_at for one that was asked for again.
    tried_since     timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz,
    CHECK ((state = 'pending') = (ended_at IS NULL))
);

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (state, ended_at) WHERE state <> 'pending';
