-- Runs that were removed for their age, so that what counts them does not go back.
CREATE TABLE runs_removed (
    job     text NOT NULL,
    outcome text NOT NULL,
    runs    bigint NOT NULL,
    PRIMARY KEY (job, outcome)
);

-- A run that goes takes what was told of it along.
CREATE INDEX webhook_deliveries_by_run ON webhook_deliveries (run);
