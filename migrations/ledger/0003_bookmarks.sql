-- How far jobs that look at a part of something in each run have come. A row that is lost costs time and nothing else.
CREATE TABLE bookmarks (
    name     text PRIMARY KEY,
    value    jsonb NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);
