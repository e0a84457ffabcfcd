-- Migrations that go back: their finished steps are undone in reverse. And what must have happened before one begins:
-- rehearsals and approvals.

ALTER TABLE migrations DROP CONSTRAINT migrations_state_check;
ALTER TABLE migrations ADD CONSTRAINT migrations_state_check
    CHECK (state IN ('running', 'applied', 'failed', 'stopped', 'undoing', 'undone'));
-- Set by somebody who wants it undone; whoever is at it sees that between two looks.
ALTER TABLE migrations ADD COLUMN undo_requested_at timestamptz;

ALTER TABLE migration_steps DROP CONSTRAINT migration_steps_state_check;
-- undoing: its undo was begun, and nothing known since.
ALTER TABLE migration_steps ADD CONSTRAINT migration_steps_state_check
    CHECK (state IN ('intended', 'done', 'present', 'failed', 'undoing', 'undone'));

CREATE TABLE migration_rehearsals (
    id          uuid PRIMARY KEY,
    migration   text NOT NULL,
    -- The digest of the plan that was rehearsed.
    plan        text NOT NULL,
    -- The fingerprint of the source it is for, and of what that was made.
    source      text NOT NULL,
    backup      text NOT NULL,
    passed      boolean NOT NULL,
    report      jsonb NOT NULL,
    ended_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX migration_rehearsals_by_plan ON migration_rehearsals (migration, plan, ended_at);

CREATE TABLE migration_approvals (
    id          uuid PRIMARY KEY,
    migration   text NOT NULL,
    -- The step that is approved; NULL for the beginning of the migration.
    step        text,
    -- What is approved: exactly this plan, on exactly this source, after this rehearsal.
    plan        text NOT NULL,
    source      text NOT NULL,
    -- Size of the source's databases then, bytes.
    source_bytes bigint NOT NULL,
    rehearsal   uuid REFERENCES migration_rehearsals (id),
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    -- An approval is good for one beginning.
    used_at     timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX migration_approvals_by_migration ON migration_approvals (migration, approved_at);
