-- references: what tools that read the catalog find
\set shared :DBNAME
CREATE DATABASE regress_references TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_references
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- by the information schema
SELECT t.table_name, k.column_name, u.table_name AS refers_to, u.column_name AS by
FROM information_schema.table_constraints AS t
JOIN information_schema.key_column_usage AS k
	ON k.constraint_schema = t.constraint_schema AND k.constraint_name = t.constraint_name AND k.table_name = t.table_name
JOIN information_schema.constraint_column_usage AS u
	ON u.constraint_schema = t.constraint_schema AND u.constraint_name = t.constraint_name
WHERE t.constraint_type = 'FOREIGN KEY' AND t.table_schema = 'credits'
ORDER BY t.table_name COLLATE "C", k.ordinal_position, k.column_name COLLATE "C";

-- by pg_constraint, each column of both sides; and as the text of the definition
SELECT count(*) AS columns, count(*) FILTER (WHERE d.definition ~
	format('^FOREIGN KEY \(%s\) REFERENCES credits\.%s\(%s\)', a.attname, r.relname, b.attname)) AS in_text,
	count(*) FILTER (WHERE c.confupdtype = 'a' AND c.confdeltype = 'a') AS no_action
FROM pg_constraint AS c
JOIN pg_class AS r ON r.oid = c.confrelid
CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k (own, other)
JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.own
JOIN pg_attribute AS b ON b.attrelid = c.confrelid AND b.attnum = k.other
CROSS JOIN LATERAL pg_get_constraintdef(c.oid) AS d (definition)
WHERE c.contype = 'f' AND c.connamespace = 'credits'::regnamespace;

-- no circle: each table refers only to what comes before it
WITH RECURSIVE reaches (source, target) AS (
	SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f' AND connamespace = 'credits'::regnamespace
	UNION
	SELECT r.source, c.confrelid FROM reaches AS r JOIN pg_constraint AS c ON c.conrelid = r.target AND c.contype = 'f'
)
SELECT source::regclass FROM reaches WHERE source = target;

-- PostgreSQL checks none of them
SELECT count(*) FROM pg_trigger AS t JOIN pg_constraint AS c ON c.oid = t.tgconstraint
WHERE c.connamespace = 'credits'::regnamespace AND t.tgenabled <> 'D';

-- the functions pass the check even where it is enabled, as after pg_upgrade: spends
-- look no more often into what they refer to
SELECT kind FROM credits_open_account('refs:1', 100);
CREATE FUNCTION pg_temp.lookups_of_a_spend() RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	before bigint[];
BEGIN
	PERFORM credits_release(transaction_id) FROM credits_hold('refs:1', 1);
	PERFORM credits_deduct('refs:1', 1);
	SELECT array_agg(seq_scan + coalesce(idx_scan, 0) ORDER BY relid) INTO before
	FROM pg_stat_xact_all_tables WHERE schemaname = 'credits';
	PERFORM credits_release(transaction_id) FROM credits_hold('refs:1', 1);
	PERFORM credits_deduct('refs:1', 1);
	RETURN (SELECT array_agg(seq_scan + coalesce(idx_scan, 0) - before[n] ORDER BY n)
			FROM (SELECT *, row_number() OVER (ORDER BY relid) AS n
				  FROM pg_stat_xact_all_tables WHERE schemaname = 'credits') AS s);
END
$$;
SELECT pg_temp.lookups_of_a_spend() AS disabled \gset
BEGIN;
ALTER TABLE credits.log_default ENABLE TRIGGER ALL;
ALTER TABLE credits.accounts ENABLE TRIGGER ALL;
ALTER TABLE credits.grants ENABLE TRIGGER ALL;
ALTER TABLE credits.hold_states ENABLE TRIGGER ALL;
SELECT pg_temp.lookups_of_a_spend() AS enabled \gset
ROLLBACK;
SELECT :'disabled' = :'enabled' AS the_same;

-- a foreign key of somebody else's is checked as everywhere
CREATE TABLE public.refs_orders (account_id bigint REFERENCES credits.accounts (id) ON UPDATE CASCADE, transaction_id bigint);
INSERT INTO public.refs_orders SELECT a.id, d.transaction_id FROM credits.accounts AS a, credits_deduct(a.name, 1) AS d WHERE a.name = 'refs:1';
INSERT INTO public.refs_orders VALUES (-1, NULL);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('refs:1', 1);
DROP TABLE public.refs_orders;
SELECT * FROM credits_verify('refs:1');
\c :shared
DROP DATABASE regress_references;
