-- Secret keys that sexton made for itself. A row that is lost costs one backup that reads and stores everything.
CREATE TABLE keys (
    name    text PRIMARY KEY,
    secret  text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
