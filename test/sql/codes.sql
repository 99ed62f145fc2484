-- codes: the tables that all kinds of codes share
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 310001;
ALTER SEQUENCE credits.grants_id_seq RESTART 310001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 310001;
ALTER SEQUENCE credits.codes_id_seq RESTART 310001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('codes:1', 100);
SELECT kind FROM credits_open_account('codes:2');
SELECT credits_create_promo_code('codes', 10, 1);
SELECT kind FROM credits_redeem('codes:1', 'codes');

-- one room for all kinds: no two codes read the same
SELECT code AS gift FROM credits_create_gift('codes:1', 30) \gset
SELECT credits_referral_code('codes:1') AS referral \gset
\set VERBOSITY sqlstate
SELECT credits_create_promo_code(:'gift', 1);
SELECT credits_create_promo_code(lower(:'referral'), 1);
SELECT credits_deactivate_promo_code(:'gift');
SELECT credits_deactivate_promo_code(:'referral');
SELECT credits_cancel_gift(:'referral');
\set VERBOSITY default
SELECT id, kind, account_id, transaction_id, credits, max_uses, uses, active FROM credits.codes WHERE id BETWEEN 310001 AND 319999 ORDER BY id;

-- nobody changes them past the functions
RESET ROLE;
UPDATE credits.codes SET uses = 0;
\echo :SQLSTATE
DELETE FROM credits.codes;
\echo :SQLSTATE
TRUNCATE credits.codes;
\echo :SQLSTATE
UPDATE credits.redemptions SET account_id = 0;
\echo :SQLSTATE
DELETE FROM credits.redemptions;
\echo :SQLSTATE
TRUNCATE credits.redemptions;
\echo :SQLSTATE
SET session_replication_role = replica;
DELETE FROM credits.redemptions;
\echo :SQLSTATE
RESET session_replication_role;
-- nor uses a code more often than it can be
\set VERBOSITY sqlstate
INSERT INTO credits.codes (id, created_at, active_from, active_until, per_account, kind, code, max_uses, uses, active)
VALUES (1, now(), now(), now(), 1, 'promotional', 'TOO OFTEN', 1, 2, true);
\set VERBOSITY default

-- who may read them
SET ROLE regress_credits_auditor;
SELECT count(*) FROM credits.codes WHERE id BETWEEN 310001 AND 319999;
SELECT count(*) FROM credits.redemptions WHERE code_id BETWEEN 310001 AND 319999;
SELECT count(*) FROM credits.promo_codes WHERE code_id BETWEEN 310001 AND 319999;
SELECT count(*) FROM credits.gifts WHERE gift_id BETWEEN 310001 AND 319999;
SELECT count(*) FROM credits.referrals WHERE transaction_id BETWEEN 310001 AND 319999;
SELECT count(*) FROM credits.referral_counts WHERE account = 'codes:1';
\set VERBOSITY sqlstate
SELECT credits_redeem('codes:2', :'gift');
SELECT credits_referral_code('codes:1');
SET ROLE regress_credits_app;
SELECT count(*) FROM credits.codes;
SELECT count(*) FROM credits.redemptions;
SELECT count(*) FROM credits.gifts;
SELECT count(*) FROM credits.referrals;
SELECT count(*) FROM credits.referral_counts;
SET ROLE regress_credits_nobody;
SELECT credits_redeem('codes:2', :'gift');
SELECT credits_try_redeem('codes:2', :'gift');
SELECT credits_create_gift('codes:1', 1);
SELECT credits_cancel_gift(:'gift');
SELECT credits_gift_many('codes:1', '{codes:2}', 1);
SELECT credits_referral_code('codes:1');
\set VERBOSITY default
RESET ROLE;
-- nothing can be written in a read-only transaction
BEGIN READ ONLY;
\set VERBOSITY sqlstate
SELECT credits_redeem('codes:2', :'gift');
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_referral_code('codes:1');
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_create_promo_code('read-only', 1);
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_create_gift('codes:1', 1);
ROLLBACK;
\set VERBOSITY default

SELECT v.* FROM generate_series(1, 2) AS i, LATERAL credits_verify('codes:' || i) AS v;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
