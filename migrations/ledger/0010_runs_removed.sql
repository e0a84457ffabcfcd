-- What is left of runs that were removed for their age, so that what counts them does not go back, and it stays known
-- since when a job is.
CREATE TABLE runs_removed (
    job           text NOT NULL,
    outcome       text NOT NULL,
    runs          bigint NOT NULL,
    first_started timestamptz NOT NULL,
    PRIMARY KEY (job, outcome)
);

-- A run that goes takes what was told of it along.
CREATE INDEX webhook_deliveries_by_run ON webhook_deliveries (run);
