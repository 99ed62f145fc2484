-- service: a pause of spending for everybody
-- in a database of its own: what others do is none of its business
\set shared :DBNAME
CREATE DATABASE regress_service TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_service
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 770001;
ALTER SEQUENCE credits.grants_id_seq RESTART 770001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 770001;
ALTER SEQUENCE credits.events_id_seq RESTART 770001;

-- what stops a call, or the kind that it made
CREATE FUNCTION se_try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	kind text;
BEGIN
	EXECUTE 'SELECT kind FROM ' || call INTO kind;
	RETURN kind;
EXCEPTION WHEN SQLSTATE 'PT503' THEN
	RETURN SQLERRM;
END
$$;
-- everything that spends, and what gives back
CREATE VIEW se_calls AS SELECT * FROM (VALUES
	(1, 'deduct', $$credits_deduct('se:1', 1)$$),
	(2, 'deduct chat', $$credits_deduct('se:1', 1, operation => 'se.chat')$$),
	(3, 'up to', $$credits_deduct_up_to('se:1', 1, operation => 'se.chat')$$),
	(4, 'charge', $$credits_charge('se:1', 'se.chat')$$),
	(5, 'pool', $$credits_deduct('se:1', 1, operation => 'se.chat', pool => 'se:pool')$$),
	(6, 'hold', $$credits_hold('se:1', 1)$$),
	(7, 'hold up to', $$credits_hold_up_to('se:1', 1, operation => 'se.chat')$$),
	(8, 'transfer', $$credits_transfer('se:1', 'se:2', 1)$$),
	(9, 'transfer up to', $$credits_transfer_up_to('se:1', 'se:2', 1)$$),
	(10, 'gift', $$(SELECT (credits_create_gift('se:1', 1)).receipt) AS g (r), LATERAL (SELECT (r).kind) AS k$$),
	(11, 'gift many', $$credits_gift_many('se:1', '{se:2}', 1)$$),
	(12, 'redeem', $$credits_redeem('se:1', 'SE-CODE')$$),
	(13, 'replay', $$credits_deduct('se:1', 3, 'se.key', 'se.chat')$$),
	(14, 'refund', $$credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'se.key'), 1)$$),
	(15, 'capture', $$credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'se.hold'), 1, final => false)$$),
	(16, 'capture more', $$credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'se.small'), 5, final => false, allow_more => true)$$),
	(17, 'extend', $$credits_extend_hold((SELECT id FROM credits.transactions WHERE idempotency_key = 'se.hold'), '2 days')$$),
	(18, 'release', $$credits_release((SELECT id FROM credits.transactions WHERE idempotency_key = 'se.other'))$$),
	(19, 'allocate', $$credits_allocate('se:1', 1)$$),
	(20, 'adjust', $$credits_adjust('se:1', -1, 'counted wrong')$$)
) AS v (n, what, call);
GRANT SELECT ON se_calls TO regress_credits_admin;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-15 12:00:00+00';

SELECT count(credits_open_account(name, 1000)) FROM (VALUES ('se:1'), ('se:2'), ('se:pool')) AS v (name);
SELECT count(*) FROM credits_add_member('se:pool', 'se:1');
SELECT credits_set_operation('se.chat', 2) > 0 AS set, credits_create_promo_code('SE-CODE', 5, per_account => 100);
SELECT amount FROM credits_deduct('se:1', 3, 'se.key', 'se.chat');
SELECT amount FROM credits_hold('se:1', 10, 'se.hold', expires_in => '1 day');
SELECT amount FROM credits_hold('se:1', 1, 'se.other', expires_in => '1 day');
SELECT amount FROM credits_hold('se:1', 1, 'se.small', 'se.chat', expires_in => '1 day');

-- open
SELECT * FROM credits_service();
SELECT credits_resume_service();

-- all spending
SET credits.actor = 'ops:7';
CALL credits_pause_service('maintenance', '2030-01-15 13:00:00+00');
RESET credits.actor;
SELECT * FROM credits_service();
TABLE credits.service_pause;
\set VERBOSITY verbose
SELECT credits_deduct('se:1', 1);
\set VERBOSITY default
BEGIN;
SELECT what, se_try(call) FROM se_calls ORDER BY n;
ROLLBACK;

-- batches: each item, or all
SELECT code, message FROM credits_deduct_many('{"(se:1,1,,,,)","(se:1,3,se.key,se.chat,,)"}'::credits.deduction[]);
\set VERBOSITY sqlstate
SELECT * FROM credits_deduct_many('{"(se:1,1,,,,)"}'::credits.deduction[], atomic => true);
\set VERBOSITY default
SELECT code, message FROM credits_hold_many('[{"account": "se:1", "amount": 1}]'::jsonb);
SELECT code, message FROM credits_transfer_many('[{"from_account": "se:1", "to_account": "se:2", "amount": 1}]'::jsonb);

-- a refusal says nothing about the account: no event, no failure to redeem
SELECT ok, code, message, detail FROM credits_try_deduct('se:1', 1);
SELECT ok, code FROM credits_try_hold('se:1', 1);
SELECT ok, code FROM credits_try_charge('se:1', 'se.chat', 1);
SELECT count(*) FROM credits.events WHERE id > 770000 AND kind IN ('deduction_refused', 'hold_refused');
SELECT cost, sufficient, code FROM credits_quote('se:1', 'se.chat');
-- the key is not used up
SELECT code FROM credits_try_deduct('se:1', 4, 'se.later');

-- until is an instant of the clock, and comes by itself
SET credits.test_clock = '2030-01-15 12:59:59.999999+00';
SELECT se_try($$credits_deduct('se:1', 1)$$);
SET credits.test_clock = '2030-01-15 13:00:00+00';
SELECT * FROM credits_service();
SELECT se_try($$credits_deduct('se:1', 1)$$);
SELECT ok FROM credits_try_deduct('se:1', 4, 'se.later');
SELECT code FROM credits_quote('se:1', 'se.chat');
SELECT credits_resume_service();
SELECT credits_resume_service();

-- some operations; another call replaces the pause
CALL credits_pause_service('at first');
CALL credits_pause_service('no models', operations => '{se.image,se.chat}');
SELECT * FROM credits_service();
BEGIN;
SELECT what, se_try(call) FROM se_calls ORDER BY n;
ROLLBACK;
SELECT code, message FROM credits_deduct_many('{"(se:1,1,,,,)","(se:1,1,,se.chat,,)","(se:1,1,,se.Chat,,)"}'::credits.deduction[]);

-- some kinds
CALL credits_pause_service('fraud', kinds => '{transfer,gift,redemption}');
BEGIN;
SELECT what, se_try(call) FROM se_calls ORDER BY n;
ROLLBACK;
RESET ROLE;
SET credits.redeem_failures = 1;
SELECT ok, code FROM credits_try_redeem('se:1', 'SE-CODE');
SELECT ok, code FROM credits_try_redeem('se:1', 'no such code');
SELECT count(*) FROM credits.events WHERE id > 770000 AND kind LIKE 'redemption%';
RESET credits.redeem_failures;
SET ROLE regress_credits_admin;
-- either
CALL credits_pause_service('both', operations => '{se.chat}', kinds => '{hold}');
SELECT what, se_try(call) FROM se_calls WHERE n IN (1, 2, 6, 7) ORDER BY n;

-- to end a pause is part of the transaction
BEGIN;
SELECT credits_resume_service();
SELECT se_try($$credits_hold('se:1', 1)$$);
ROLLBACK;
SELECT se_try($$credits_hold('se:1', 1)$$);
BEGIN;
SAVEPOINT s;
SELECT credits_resume_service();
SELECT se_try($$credits_hold('se:1', 1)$$);
ROLLBACK TO s;
SELECT se_try($$credits_hold('se:1', 1)$$);
COMMIT;

-- the owner changes the table by hand: that counts, too
RESET ROLE;
DELETE FROM credits.service_pause;
SELECT se_try($$credits_hold('se:1', 1)$$);
CALL credits_pause_service('until it is truncated');
SELECT se_try($$credits_hold('se:1', 1)$$);
SET session_replication_role = replica;
TRUNCATE credits.service_pause;
RESET session_replication_role;
SELECT se_try($$credits_hold('se:1', 1)$$);
VACUUM credits.service_pause;
SELECT se_try($$credits_hold('se:1', 1)$$);
CREATE TABLE se_other (a int);
CREATE TRIGGER se_note AFTER INSERT ON se_other FOR EACH ROW EXECUTE FUNCTION credits.note_service();
\set VERBOSITY sqlstate
INSERT INTO se_other VALUES (1);
\set VERBOSITY default
DROP TABLE se_other;

-- roles
SET ROLE regress_credits_app;
SELECT * FROM credits_service();
\set VERBOSITY sqlstate
CALL credits_pause_service('app');
SELECT credits_resume_service();
TABLE credits.service_pause;
SET ROLE regress_credits_auditor;
SELECT paused FROM credits_service();
CALL credits_pause_service('auditor');
SELECT credits_resume_service();
TABLE credits.service_pause;
SET ROLE regress_credits_nobody;
SELECT * FROM credits_service();

-- bad input
SET ROLE regress_credits_admin;
\set VERBOSITY default
CALL credits_pause_service(NULL);
\echo :SQLSTATE
CALL credits_pause_service('');
\echo :SQLSTATE
CALL credits_pause_service('r', '2030-01-15 13:00:00+00');
\echo :SQLSTATE
CALL credits_pause_service('r', '-infinity');
\echo :SQLSTATE
CALL credits_pause_service('r', operations => '{}');
\echo :SQLSTATE
CALL credits_pause_service('r', operations => '{{a},{b}}');
\echo :SQLSTATE
CALL credits_pause_service('r', operations => '{a,NULL}');
\echo :SQLSTATE
CALL credits_pause_service('r', operations => '{a,""}');
\echo :SQLSTATE
CALL credits_pause_service('r', operations => array_fill('a'::text, '{1001}'));
\echo :SQLSTATE
CALL credits_pause_service('r', kinds => '{}');
\echo :SQLSTATE
CALL credits_pause_service('r', kinds => '{transfer,refund}');
\echo :SQLSTATE
CALL credits_pause_service('r', kinds => '{NULL}');
\echo :SQLSTATE
BEGIN;
CALL credits_pause_service('r');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_resume_service();
\echo :SQLSTATE
ROLLBACK;
SET default_transaction_read_only = on;
CALL credits_pause_service('r');
\echo :SQLSTATE
RESET default_transaction_read_only;
SELECT paused FROM credits_service();

-- infinity is never; as many operations as there may be
SELECT array_agg(repeat(md5(i::text), 7) || i) AS operations FROM generate_series(1, 1000) AS i \gset
CALL credits_pause_service('r', 'infinity', operations => :'operations');
SELECT until, cardinality(operations) FROM credits_service();
SELECT se_try(format('credits_deduct(%L, 1, operation => %L)', 'se:1', repeat(md5('1000'), 7) || 1000)) LIKE 'operation % is paused' AS paused;
SELECT credits_resume_service();

RESET ROLE;
SELECT * FROM credits_verify('se:1');
DROP VIEW se_calls;
DROP FUNCTION se_try;

RESET ROLE;
\c :shared
DROP DATABASE regress_service;
