-- A table for each built-in type that a column can have, filled with every one of these texts that the type takes; and
-- arrays of the type, of no, one and two dimensions, with NULLs and with bounds of their own.
CREATE SCHEMA types;
CREATE TABLE texts (text text);
INSERT INTO texts SELECT * FROM unnest(ARRAY[
  '', ' ', 'a', 'a''b"c\d', E'tab\tline\nreturn\r', 'zß日本語🎉', repeat('long ', 1000), '\x', '\x00', '\x0001ff00', '\N', '\.',
  '0', '1', '-1', '7', '32767', '-32768', '2147483647', '-2147483648', '4294967295', '9223372036854775807', '-9223372036854775808',
  '18446744073709551615', '0.1', '-0', '1e-307', '1.7976931348623157e308', '3.4028235e38', '1e-45', '5e-324', 'NaN', 'Infinity', '-Infinity',
  '92233720368547758.07', '-92233720368547758.08', '0.00000000000000000000000000000000000000000000000000001', repeat('9', 3000) || '.' || repeat('7', 2000),
  'true', 'f', 'infinity', '-infinity', 'epoch', '4713-01-01 BC', '0001-12-31 23:59:59.999999 BC', '5874897-12-31', '294276-12-31 23:59:59.999999',
  '2000-02-29 12:34:56.789012', '2000-02-29 12:34:56.789012-11:30', '00:00:00', '24:00:00', '23:59:59.999999', '23:59:59.999999+15:59',
  '178000000 years', '-178000000 years -11 mons -3 days -00:00:00.000001', '1 mon -1 day 00:00:01', '2562047788:00:54.775807',
  '0.0.0.0', '255.255.255.255/32', '10.1.0.0/16', '10.1.2.3/8', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128', '2001:db8::/32', '::ffff:1.2.3.4/96',
  '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff',
  '(1,2)', '(-1e308,1e-308)', '(NaN,Infinity)', '[(0,0),(6,6)]', '((0,0),(6,6))', '((1,1),(2,2),(3,0))', '[(1,1),(2,2),(3,0)]', '<(1,2),3>', '{1,-1,0}', '<(0,0),0>',
  'empty', '[1,10)', '(,)', '[,5]', '(1.5,2.5]', '[2000-01-01,2001-01-01)', '["2000-01-01 00:00:00+00",)', '{}', '{[1,2],[5,9)}', '{(,0),[1,1],(5,)}',
  '{[2000-01-01,2001-01-01),[2002-01-01,)}', 'null', '{"a": [1, 2.50, "x\u00e9", null, {}], "a": "twice"}', '[]', '"\ud83c\udf89"', '<a b="c">ü<!-- d --></a>', 'a &amp; b',
  '$.a[*] ? (@ > 1)', 'strict $', 'a:1A b:2,3 ''c d'':16383', 'a & (b | !c) <-> d:*AB', '16/B374D848', 'FFFFFFFF/FFFFFFFF',
  '10:20:10,14,15', '10:20:', '(0,1)', '(4294967295,65535)', '1 2 3', '0 4294967295', 'pg_class', 'pg_catalog.int4', 'pg_catalog', 'english', 'simple', 'postgres',
  'numeric(10,2)', 'pg_catalog.sum(integer)', 'now', 'pg_catalog.+(integer,integer)', '-', 'pg_catalog."C"', 'postgres=arwdDxt/postgres', '=r/postgres',
  'a refcursor', '0101', '1', repeat('10', 1000)]) AS text;
DO $$
DECLARE
  type record;
  sample text;
  rows int;
BEGIN
  FOR type IN SELECT typname AS name, oid::regtype::text AS sql, typlen AS length FROM pg_type
    WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typarray <> 0 AND typrelid = 0 ORDER BY 1
  LOOP
    EXECUTE format('CREATE TABLE types.%I (id serial, v %2$s, a %2$s[])', type.name, type.sql);
    FOR sample IN SELECT text FROM texts LOOP
      -- What depends on the day is never the same twice, and is no value.
      CONTINUE WHEN sample = 'now';
      -- As an OID it is nothing's on this server, and may be something's where it is restored; then it has a name.
      CONTINUE WHEN type.name LIKE 'reg%' AND sample = '32767';
      BEGIN
        EXECUTE format('INSERT INTO types.%I (v) VALUES (%L::%s)', type.name, sample, type.sql);
      EXCEPTION WHEN others THEN NULL;
      END;
    END LOOP;
    EXECUTE format('INSERT INTO types.%I (a) VALUES (''{}''), (''{NULL}''), (NULL)', type.name);
    IF type.name IN ('int2vector', 'oidvector') THEN
      -- They are arrays themselves, which the functions below would take them for.
      EXECUTE format('INSERT INTO types.%I (a) VALUES (''{"1 2 3",""}'')', type.name);
    ELSE
      EXECUTE format('INSERT INTO types.%I (a) VALUES (array_fill(NULL::%s, ARRAY[2, 1], ARRAY[-3, 5]))', type.name, type.sql);
      EXECUTE format('INSERT INTO types.%1$I (a) SELECT array_agg(v) FROM types.%1$I', type.name);
      EXECUTE format('INSERT INTO types.%1$I (a) SELECT array_fill(v, ARRAY[2, 2]) FROM types.%1$I WHERE v IS NOT NULL', type.name);
    END IF;
    EXECUTE format('SELECT count(*) FROM types.%I WHERE v IS NOT NULL', type.name) INTO rows;
    -- Enough of them that the table is read by what changed.
    EXECUTE format('INSERT INTO types.%1$I (v, a) SELECT v, CASE WHEN n %% 9 = 0 AND pg_column_size(a) < 9000 THEN a END
      FROM types.%1$I, generate_series(1, 1600 / greatest(%2$s, 12)) n', type.name, rows);
  END LOOP;
END $$;
DROP TABLE texts;
