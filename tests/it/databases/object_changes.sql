-- Some rows of every table go, some come, some change; what lay still lies where it lay.
SET session_replication_role = replica;
DELETE FROM nothing WHERE ctid IN (SELECT ctid FROM nothing LIMIT 7); INSERT INTO nothing DEFAULT VALUES;
DELETE FROM all_made WHERE ctid IN (SELECT ctid FROM all_made LIMIT 9); INSERT INTO all_made DEFAULT VALUES;
UPDATE wide SET c700 = 5 WHERE c1 % 40 = 0; DELETE FROM big WHERE id = 3; UPDATE big SET p = 'p' WHERE id = 8; INSERT INTO big SELECT (SELECT max(id) + 1 FROM big), x || '\x00'::bytea, m FROM big WHERE id = 5;
UPDATE days SET region = 'us' WHERE id % 90 = 0 AND id NOT IN (SELECT id FROM to_days); UPDATE days SET day = day + 400 WHERE id % 91 = 0 AND id NOT IN (SELECT id FROM to_days); UPDATE hashed SET t = t || 'x' WHERE length(c) = 2;
UPDATE made SET a = a + 10000 WHERE a % 70 = 0; UPDATE enums SET c = 'red' WHERE id % 60 = 0; UPDATE holes SET e = 'ü' WHERE a % 60 = 0;
UPDATE domains SET n = n + 1 WHERE n < 50; UPDATE identities SET t = NULL WHERE b < 40; UPDATE rooms SET note = note || '!' WHERE room = 3; DELETE FROM hen WHERE id % 100 = 0; DELETE FROM egg WHERE id % 100 = 0;
UPDATE "Ünï ""q"" $ü$"."sélect;--" SET "\" = E'\\' WHERE "from" % 70 = 0; UPDATE indexed SET j = NULL WHERE a % 80 = 0; UPDATE ONLY base_a SET t = 'z' WHERE a < 30; DELETE FROM heir WHERE c < 30;
RESET session_replication_role;
REFRESH MATERIALIZED VIEW second_made; REFRESH MATERIALIZED VIEW first_made; REFRESH MATERIALIZED VIEW keyed;
VACUUM nothing; VACUUM days; SELECT nextval('identities_a_seq');
