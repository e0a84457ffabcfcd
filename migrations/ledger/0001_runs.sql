-- One row per execution of a job. A row without an end belongs to a run in progress, or to one whose process died:
-- the next run of the same job, which holds the job's lock, tells the two apart.
CREATE TABLE runs (
    id           uuid PRIMARY KEY,
    job          text NOT NULL,
    trigger      text NOT NULL CHECK (trigger IN ('schedule', 'catch-up', 'cli', 'http')),
    outcome      text NOT NULL DEFAULT 'running'
                 CHECK (outcome IN ('running', 'unchanged', 'changed', 'refused', 'failed', 'cancelled', 'interrupted')),
    host         text NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    plan_digest  text,
    plan         jsonb,
    summary      text,
    report       jsonb,
    error        jsonb,
    CHECK ((outcome = 'running') = (finished_at IS NULL))
);

CREATE INDEX runs_by_job ON runs (job, started_at DESC);
CREATE INDEX runs_by_start ON runs (started_at DESC);
-- The advisory lock already keeps two runs of one job apart; this makes a mistake there visible.
CREATE UNIQUE INDEX runs_one_in_progress ON runs (job) WHERE outcome = 'running';

-- Up to which due time each schedule has been served, so that a missed one is made up for once.
CREATE TABLE schedules (
    job       text PRIMARY KEY,
    served_at timestamptz NOT NULL
);
