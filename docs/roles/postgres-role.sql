-- A role of PostgreSQL that may do what sexton needs for one purpose, and no more. Run by a superuser with psql; safe to
-- repeat. The password is set afterwards, with \password.
--
--   psql -d DATABASE -v purpose=PURPOSE [-v role=sexton] [-v owner=temporal] -f postgres-role.sql
--
--   purpose  DATABASE                      for
--   read     each of Temporal's databases  plan, doctor, status, audit, visibility, overdue: SELECT on tables
--   backup   each of Temporal's databases  the same, backup and compare: SELECT on sequences as well
--   orphans  Temporal's main database      `orphans.action: delete`, beside read or backup
--   migrate  each of Temporal's databases  migrations in place and the source of a move: what `owner` may
--   ledger   postgres                      sexton's own database, made here, with which every purpose goes along
--   scratch  postgres, scratch server      drills, rehearsals, `restore --scratch`: databases of its own
--   target   postgres, target server       the target of a move: databases that belong to `owner`
--
-- `owner` is the role that Temporal logs in as. -v ledger=NAME is the ledger's database, `sexton` unless said.
\set ON_ERROR_STOP on
\if :{?role} \else \set role sexton \endif
\if :{?owner} \else \set owner temporal \endif
\if :{?ledger} \else \set ledger sexton \endif
\if :{?purpose} \else \set purpose none \endif

SELECT :'purpose' IN ('read', 'backup', 'orphans', 'migrate', 'ledger', 'scratch', 'target') AS known,
       :'purpose' IN ('read', 'backup') AS reads, :'purpose' = 'backup' AS backs_up, :'purpose' = 'orphans' AS removes,
       :'purpose' = 'migrate' AS migrates, :'purpose' = 'ledger' AS keeps, :'purpose' IN ('scratch', 'target') AS makes,
       :'purpose' = 'target' AS moves, current_database() AS here,
       EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') AS there,
       EXISTS (SELECT FROM pg_database WHERE datname = :'ledger') AS has_ledger \gset
\if :known \else
  DO $$ BEGIN RAISE 'give -v purpose=read, backup, orphans, migrate, ledger, scratch or target'; END $$;
\endif

\if :there \else
  CREATE ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
\endif

\if :reads
  GRANT CONNECT ON DATABASE :"here" TO :"role";
  -- Temporal's schemas; an upgrade of Temporal makes tables, and those are `owner`'s.
  SELECT format('GRANT USAGE ON SCHEMA %1$I TO %2$I; GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO %2$I;
                 ALTER DEFAULT PRIVILEGES FOR ROLE %3$I IN SCHEMA %1$I GRANT SELECT ON TABLES TO %2$I',
                nspname, :'role', :'owner')
  FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \gexec
\endif

\if :backs_up
  SELECT format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %1$I TO %2$I;
                 ALTER DEFAULT PRIVILEGES FOR ROLE %3$I IN SCHEMA %1$I GRANT SELECT ON SEQUENCES TO %2$I',
                nspname, :'role', :'owner')
  FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \gexec
\endif

\if :removes
  -- UPDATE for the locks of rows; nothing is updated.
  GRANT DELETE ON history_node TO :"role";
  GRANT DELETE, UPDATE ON history_tree TO :"role";
\endif

\if :migrates
  -- Only the owner of a table may change it, and only the owner of a database may keep others out of it.
  GRANT CONNECT ON DATABASE :"here" TO :"role";
  GRANT :"owner" TO :"role";
\endif

\if :keeps
  \if :has_ledger \else
    CREATE DATABASE :"ledger" OWNER :"role" TEMPLATE template0 ENCODING 'UTF8';
  \endif
  -- It has the key for what one backup leaves to the next: nobody else comes in.
  REVOKE ALL ON DATABASE :"ledger" FROM PUBLIC;
  GRANT CONNECT ON DATABASE :"ledger" TO :"role";
\endif

\if :makes
  ALTER ROLE :"role" CREATEDB;
  GRANT CONNECT ON DATABASE postgres TO :"role";
\endif

\if :moves
  GRANT :"owner" TO :"role";
\endif
