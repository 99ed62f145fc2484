-- enroll: accounts for the rows of an application's own table
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 80001;
ALTER SEQUENCE credits.grants_id_seq RESTART 80001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 80001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET search_path = regress_shop, public;

-- each new row opens an account, whoever inserts it
CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY, email text);
CREATE TRIGGER open_account AFTER INSERT ON users
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'shopper:', '20');
GRANT INSERT, SELECT ON users TO regress_credits_app;
SET ROLE regress_credits_app;
INSERT INTO users (email) VALUES ('ann'), ('bob');
INSERT INTO users (email) VALUES ('cleo') RETURNING id;
COPY users (email) FROM stdin;
dora
emil
\.
SELECT id, credits_balance('shopper:' || id) FROM users ORDER BY id;
SELECT kind, amount, balance FROM credits_deduct('shopper:1', 5);
SELECT kind, amount, balance, reference, role = session_user AS by_session_user
FROM credits_history('shopper:1');
SET ROLE regress_credits_admin;
SELECT id, name, unit, metadata, status FROM credits.accounts WHERE id BETWEEN 80001 AND 89999 ORDER BY id;
-- a row that is taken back takes its account along
BEGIN;
INSERT INTO users (email) VALUES ('fred');
SELECT credits_balance('shopper:6');
ROLLBACK;
SELECT credits_balance('shopper:6');
-- an account that is there already stays as it is
SELECT kind, amount, balance FROM credits_open_account('shopper:7', 3);
INSERT INTO users (email) VALUES ('gina');
SELECT credits_balance('shopper:7');
-- new keys of old rows and deleted rows are the application's business
DELETE FROM users WHERE email = 'bob';
SELECT credits_balance('shopper:2');
-- the name a user of the table chose for the schema of the functions
SET search_path = regress_shop;
INSERT INTO users (email) VALUES ('hugo');
SET search_path = regress_shop, public;
SELECT credits_balance('shopper:8');

-- without initial credits: the setting; without prefix: the bare key
RESET ROLE;
SET credits.initial_balance = 4;
SET ROLE regress_credits_admin;
CREATE TABLE teams (name text);
CREATE TRIGGER open_account AFTER INSERT ON teams
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('name');
INSERT INTO teams VALUES ('red team');
SELECT credits_balance('red team');
RESET ROLE;
RESET credits.initial_balance;
SET ROLE regress_credits_admin;
INSERT INTO teams VALUES ('blue team');
SELECT credits_balance('blue team');
-- a key that makes no name stops the row
INSERT INTO teams VALUES (NULL);
\echo :SQLSTATE
INSERT INTO teams VALUES ('');
\echo :SQLSTATE
INSERT INTO teams VALUES ('green team ');
\echo :SQLSTATE
INSERT INTO teams VALUES (repeat('x', 256));
SELECT count(*) FROM teams;

-- other types of keys, and a name in need of quotes
CREATE TABLE "Odd ""table" ("The Key" uuid, "Other" text);
CREATE TRIGGER open_account AFTER INSERT ON "Odd ""table"
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('The Key', 'org:');
INSERT INTO "Odd ""table" VALUES ('00000000-0000-0000-0000-00000000000a');
SELECT credits_balance('org:00000000-0000-0000-0000-00000000000a');
CREATE TABLE dropped (gone int, id varchar(10));
ALTER TABLE dropped DROP COLUMN gone;
CREATE TRIGGER open_account AFTER INSERT ON dropped
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'd:');
INSERT INTO dropped VALUES ('x1');
ALTER TABLE dropped ADD COLUMN more int DEFAULT 5;
INSERT INTO dropped VALUES ('x2');
SELECT credits_balance('d:x1'), credits_balance('d:x2');

-- rows that come in by other ways, or wait for the commit
CREATE TABLE merged (id int PRIMARY KEY, key text GENERATED ALWAYS AS ('merged:' || id) STORED);
CREATE TRIGGER open_account AFTER INSERT ON merged
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('key');
INSERT INTO merged VALUES (1), (2);
INSERT INTO merged VALUES (2), (3) ON CONFLICT DO NOTHING;
MERGE INTO merged AS m USING (VALUES (3), (4)) AS s (id) ON m.id = s.id
WHEN NOT MATCHED THEN INSERT VALUES (s.id);
SELECT credits_balance('merged:3'), credits_balance('merged:4');
SELECT count(*) FROM credits.accounts WHERE name LIKE 'merged:%';
CREATE TABLE later (id int);
CREATE CONSTRAINT TRIGGER open_account AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'later:');
BEGIN;
INSERT INTO later VALUES (1);
SELECT count(*) FROM credits.accounts WHERE name LIKE 'later:%';
COMMIT;
SELECT credits_balance('later:1');

-- partitioned tables
CREATE TABLE visitors (id int, country text) PARTITION BY LIST (country);
CREATE TABLE visitors_fr PARTITION OF visitors FOR VALUES IN ('fr');
-- columns in another order
CREATE TABLE visitors_xx (country text, id int);
ALTER TABLE visitors ATTACH PARTITION visitors_xx DEFAULT;
CREATE TRIGGER open_account AFTER INSERT ON visitors
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'visitor:', '1');
INSERT INTO visitors VALUES (1, 'fr'), (2, 'de');
SELECT credits_balance('visitor:1'), credits_balance('visitor:2');
INSERT INTO visitors_xx VALUES ('be', 3);
SELECT credits_balance('visitor:3');
-- a row that moves to another partition is inserted there: no second account
UPDATE visitors SET country = 'be' WHERE id = 1;
SELECT credits_balance('visitor:1');

-- made wrongly, it says so
CREATE TABLE wrong (id int);
CREATE TRIGGER t AFTER INSERT ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row();
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'wrong:', '1', 'x');
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('key');
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'wrong:', 'many');
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'wrong:', '-1');
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t BEFORE INSERT ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id');
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER INSERT ON wrong
	FOR EACH STATEMENT EXECUTE FUNCTION credits_open_account_for_row('id');
INSERT INTO wrong VALUES (1);
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
CREATE TRIGGER t AFTER UPDATE ON wrong
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id');
INSERT INTO wrong VALUES (1);
UPDATE wrong SET id = 2;
\echo :SQLSTATE
DROP TRIGGER t ON wrong;
SELECT count(*) FROM wrong;
CREATE VIEW wrong_view AS SELECT * FROM wrong;
CREATE TRIGGER t INSTEAD OF INSERT ON wrong_view
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id');
INSERT INTO wrong_view VALUES (1);
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT credits_open_account_for_row();
\set VERBOSITY default
-- only an administrator can attach it
SET ROLE regress_credits_app;
CREATE TEMP TABLE mine (id int);
\set VERBOSITY sqlstate
CREATE TRIGGER t AFTER INSERT ON mine
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', '', '1000000');
SELECT credits_open_accounts('mine', 'id');
\set VERBOSITY default
SET ROLE regress_credits_admin;

-- all rows of a table at once; again: nothing to do
CREATE TABLE members (id int, code uuid, name text);
INSERT INTO members
SELECT i, ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 'member ' || i
FROM generate_series(1, 1000) AS i;
SELECT credits_open_accounts('members', 'id', 'member:', 10);
SELECT credits_open_accounts('members', 'id', 'member:', 10);
SELECT credits_open_accounts('members', 'id', 'member:', 99);
SELECT count(*), sum(balance), min(transaction_count), max(transaction_count)
FROM credits.accounts WHERE name LIKE 'member:%';
SELECT count(*), sum(amount), min(kind), max(kind), min(balance_after), max(balance_after)
FROM credits.transactions AS t
JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name LIKE 'member:%';
SELECT count(*), sum(remaining), min(source), max(source), min(g.status), max(g.status)
FROM credits.grants AS g
JOIN credits.accounts AS a ON a.id = g.account_id
WHERE a.name LIKE 'member:%';
SELECT kind, amount, balance FROM credits_deduct('member:500', 4);
SELECT kind, amount, balance, replayed FROM credits_open_account('member:500', 10);
-- the ones that came since
INSERT INTO members VALUES (1001, NULL, 'member 1001'), (1002, NULL, NULL);
SELECT credits_open_accounts('members', 'id', 'member:', 5);
SELECT credits_balance('member:1000'), credits_balance('member:1001');

-- rows without a key: a column that has none for each row is not the key
SELECT credits_open_accounts('members', 'code', 'code:');
\echo :SQLSTATE
DELETE FROM members WHERE code IS NULL;
-- other types, rows that share a key
INSERT INTO members SELECT id, code, name FROM members WHERE id <= 10;
SELECT credits_open_accounts('members', 'code', 'code:');
SELECT credits_open_accounts('members', 'code', 'code:');
SELECT credits_open_accounts('members', 'name');
SELECT credits_balance('member 7');
SELECT count(*), sum(balance) FROM credits.accounts WHERE name LIKE 'code:%' OR name LIKE 'member %';
-- partitioned tables, views, foreign schemas, odd names
SELECT credits_open_accounts('visitors', 'id', 'again:', 2);
CREATE VIEW frequent AS SELECT id AS "Who", name FROM members WHERE id <= 3;
SELECT credits_open_accounts('frequent', 'Who', 'frequent:');
CREATE MATERIALIZED VIEW rare AS SELECT id FROM members WHERE id = 4;
SELECT credits_open_accounts('rare', 'id', 'rare:');
SELECT credits_open_accounts('"Odd ""table"', 'The Key', E'odd:\u00e9:');
SELECT credits_open_accounts(relation => 'dropped', key_column => 'id', prefix => 'd:');
CREATE TABLE empty (id int);
SELECT credits_open_accounts('empty', 'id');
SELECT name FROM credits.accounts
WHERE name LIKE 'frequent:%' OR name LIKE 'rare:%' OR name LIKE 'again:%' OR name LIKE 'odd:%'
ORDER BY name;

-- one bad key, and none is opened
CREATE TABLE mixed (id text);
INSERT INTO mixed VALUES ('good'), (' bad'), ('good too');
SELECT credits_open_accounts('mixed', 'id', '');
\echo :SQLSTATE
SELECT count(*) FROM credits.accounts WHERE name LIKE 'good%';
SELECT credits_open_accounts('members', 'id', ' member:');
\echo :SQLSTATE
SELECT credits_open_accounts('members', 'id', repeat('x', 300));
SELECT credits_open_accounts('members', 'nothing', 'member:');
\echo :SQLSTATE
SELECT credits_open_accounts('dropped', '........pg.dropped.1........', 'member:');
SELECT credits_open_accounts('members', 'id', 'member:', -1);
\echo :SQLSTATE
SELECT credits_open_accounts(NULL, 'id', 'member:');
\echo :SQLSTATE
SELECT credits_open_accounts('members', NULL, 'member:');
\echo :SQLSTATE
SELECT credits_open_accounts('members', 'id', NULL);
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT credits_open_accounts('nowhere', 'id');
SELECT credits_open_accounts(0, 'id');
SELECT credits_open_accounts('pg_class_oid_index', 'oid');
SELECT credits_open_accounts('members; DROP TABLE members', 'id');
SELECT credits_open_accounts('members', 'id::text || (SELECT 1)');
\set VERBOSITY default

-- it reads with the rights of its caller, and runs nothing with more
RESET ROLE;
CREATE TABLE regress_shop.secrets (id text);
INSERT INTO regress_shop.secrets VALUES ('secret');
SET ROLE regress_credits_admin;
\set VERBOSITY sqlstate
SELECT credits_open_accounts('secrets', 'id', 'leak:');
SELECT credits_open_accounts('pg_catalog.pg_authid', 'rolpassword', 'leak:');
\set VERBOSITY default
CREATE FUNCTION who() RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN RETURN current_user; END $$;
CREATE VIEW nosy AS SELECT who() AS who;
SELECT credits_open_accounts('nosy', 'who', 'read by ');
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION pair_text(pair) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN RETURN current_user || $1.a; END $$;
CREATE CAST (pair AS text) WITH FUNCTION pair_text(pair) AS IMPLICIT;
CREATE TABLE pairs (id pair);
CREATE TRIGGER open_account AFTER INSERT ON pairs
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'pair of ');
INSERT INTO pairs VALUES (ROW(1, 2));
SELECT credits_open_accounts('pairs', 'id', 'cast by ');
SELECT name FROM credits.accounts
WHERE name LIKE 'leak%' OR name LIKE 'read by%' OR name LIKE 'pair of%' OR name LIKE 'cast by%'
ORDER BY name;
-- rows that a policy hides from the caller stay hidden
RESET ROLE;
CREATE TABLE regress_shop.policed (id text);
INSERT INTO regress_shop.policed VALUES ('seen'), ('hidden');
ALTER TABLE regress_shop.policed ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON regress_shop.policed USING (id = 'seen');
GRANT SELECT ON regress_shop.policed TO regress_credits_admin;
SET ROLE regress_credits_admin;
SELECT credits_open_accounts('policed', 'id', 'policed:');
SELECT name FROM credits.accounts WHERE name LIKE 'policed:%';
-- a column is enough
RESET ROLE;
CREATE TABLE regress_shop.columns (id text, secret text);
INSERT INTO regress_shop.columns VALUES ('1', 'secret');
GRANT SELECT (id) ON regress_shop.columns TO regress_credits_admin;
SET ROLE regress_credits_admin;
SELECT credits_open_accounts('columns', 'id', 'column:');
\set VERBOSITY sqlstate
SELECT credits_open_accounts('columns', 'secret', 'column:');
\set VERBOSITY default

SELECT * FROM credits_verify();
