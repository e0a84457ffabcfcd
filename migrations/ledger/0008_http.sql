-- What the status page and the API add to a run: who asked for it, how far it is, what it logged, and who wants it
-- stopped. The process that runs it writes and reads these with its heartbeat, so that any replica can tell of it.
ALTER TABLE runs ADD COLUMN requested_by text;
ALTER TABLE runs ADD COLUMN progress jsonb;
ALTER TABLE runs ADD COLUMN log text;
ALTER TABLE runs ADD COLUMN cancel_requested_by text;

-- Who did what through HTTP: every request that changes something, refused ones among them.
CREATE TABLE http_actions (
    id      uuid PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    who     text NOT NULL,
    role    text,
    address text NOT NULL,
    method  text NOT NULL,
    path    text NOT NULL,
    status  integer NOT NULL
);
CREATE INDEX http_actions_by_time ON http_actions (at DESC);

-- Answers to requests with an Idempotency-Key, so that the same request again gets the same answer and does nothing. A
-- row without an answer belongs to a request in progress, or to a process that died meanwhile.
CREATE TABLE http_idempotency (
    who        text NOT NULL,
    key        text NOT NULL,
    -- BLAKE3 of method, path and body, hex.
    request    text NOT NULL,
    status     integer,
    location   text,
    body       jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (who, key)
);
CREATE INDEX http_idempotency_by_age ON http_idempotency (created_at);

-- Runs are paged by id, and counted by outcome at every scrape.
CREATE INDEX runs_by_job_and_id ON runs (job, id DESC);
CREATE INDEX runs_by_job_and_outcome ON runs (job, outcome, id DESC);
