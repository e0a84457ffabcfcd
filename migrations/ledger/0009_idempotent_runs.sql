-- The run that a request with an Idempotency-Key begins, chosen before it does: who sends it again after a process died
-- in between gets that run, and no second one.
ALTER TABLE http_idempotency ADD COLUMN run uuid;
