-- What belongs to one beginning of a migration: the approval that it used up, and where it was begun. An approval that
-- was used by an earlier beginning is nothing to a later one.

ALTER TABLE migrations ADD COLUMN approval uuid REFERENCES migration_approvals (id);
-- The servers, by their system identifiers. NULL where it was begun before this was kept.
ALTER TABLE migrations ADD COLUMN servers jsonb;
