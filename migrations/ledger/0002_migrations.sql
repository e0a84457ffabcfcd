-- The journal of staged migrations: one row per migration that was ever begun, one per step of it. The row of a step
-- is written before the step acts (its intent) and again afterwards (its evidence); what lies between the two is
-- what a start after a kill has to look at in the world.

CREATE TABLE migrations (
    name        text PRIMARY KEY,
    -- BLAKE3 of the canonical form of the recipe, hex; another one under the same name is refused.
    digest      text NOT NULL,
    -- The canonical form itself, so that an edit can be shown as a difference.
    recipe      jsonb NOT NULL,
    -- The value of every parameter, defaults included.
    parameters  jsonb NOT NULL,
    -- The database it acts on, by name.
    target      text NOT NULL,
    state       text NOT NULL CHECK (state IN ('running', 'applied', 'failed', 'stopped')),
    error       text,
    begun_at    timestamptz NOT NULL DEFAULT now(),
    resumed_at  timestamptz,
    ended_at    timestamptz
);

CREATE TABLE migration_steps (
    migration   text NOT NULL REFERENCES migrations (name) ON DELETE CASCADE,
    -- The step's name, with `[value]` for one that is repeated over a list.
    step        text NOT NULL,
    position    integer NOT NULL,
    stage       text NOT NULL,
    operation   text NOT NULL,
    -- intended: begun, and nothing known since. present: it held already and nothing was done.
    state       text NOT NULL CHECK (state IN ('intended', 'done', 'present', 'failed')),
    -- The statements that undo the step, fixed before it acts: they may name the former values.
    undo        jsonb NOT NULL DEFAULT '[]',
    -- What was seen afterwards: attempts, seconds, whether it was verified.
    evidence    jsonb,
    error       text,
    intended_at timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    PRIMARY KEY (migration, step)
);
