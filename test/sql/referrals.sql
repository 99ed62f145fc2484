-- referrals: credits for an account that brings another
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 350001;
ALTER SEQUENCE credits.grants_id_seq RESTART 350001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 350001;
ALTER SEQUENCE credits.codes_id_seq RESTART 350001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('ref:ann');
SELECT kind FROM credits_open_account('ref:bob');
SELECT kind FROM credits_open_account('ref:cid');
SELECT kind FROM credits_open_account('ref:dan');
SELECT kind FROM credits_open_account('ref:eve');
SET ROLE regress_credits_app;

-- one code for each account, always the same
SELECT credits_referral_code('ref:ann') AS ann \gset
SELECT :'ann' ~ '^[0-9A-HJKMNP-TV-Z]{16}$' AS unambiguous, credits_referral_code('ref:ann') = :'ann' AS same;
SELECT count(DISTINCT credits_referral_code('ref:ann')) FROM generate_series(1, 10);
SELECT credits_referral_code('ref:bob') <> :'ann' AS another;
SELECT credits_referral_code('ref:nobody');
\echo :SQLSTATE
SELECT credits_referral_code(NULL);
\echo :SQLSTATE
SELECT credits_referral_code('');
\echo :SQLSTATE
RESET ROLE;
SELECT id, account_id, kind, max_uses, uses, per_account, active_from, active_until FROM credits.codes WHERE id BETWEEN 350001 AND 359999 ORDER BY id;

-- off unless one side gets something
SELECT credits_redeem('ref:bob', :'ann');
\echo :SQLSTATE
SET credits.referral_credits = 20;
SET credits.referrer_credits = 30;
SET ROLE regress_credits_app;
SELECT * FROM credits_redeem('ref:bob', :'ann', 'k1', '{"page": "signup"}');
SELECT * FROM credits_redeem('ref:bob', lower(:'ann'), 'k1');
SELECT transaction_id, kind, amount, balance, target_id, metadata FROM credits_history('ref:bob');
SELECT transaction_id, kind, amount, balance, target_id, metadata FROM credits_history('ref:ann');
RESET ROLE;
SELECT id, terms FROM credits.transactions WHERE kind = 'referral' AND id BETWEEN 350001 AND 359999 ORDER BY id;
SELECT account_id, source, priority, amount, remaining, expires_at FROM credits.grants WHERE id BETWEEN 350001 AND 359999 ORDER BY id;
SELECT * FROM credits.redemptions WHERE code_id BETWEEN 350001 AND 359999;
SELECT * FROM credits.referrals WHERE transaction_id BETWEEN 350001 AND 359999;
SELECT account, code = :'ann' AS anns, referrals, credits, last_at FROM credits.referral_counts WHERE account IN ('ref:ann', 'ref:bob') ORDER BY account;

-- once in an account's life, and never to oneself
SET ROLE regress_credits_app;
SELECT credits_redeem('ref:bob', :'ann');
\echo :SQLSTATE
SELECT credits_redeem('ref:bob', credits_referral_code('ref:cid'));
\echo :SQLSTATE
SELECT credits_redeem('ref:ann', :'ann');
\echo :SQLSTATE
-- the one who was brought may bring others, even the one who did
SELECT kind, amount, balance FROM credits_redeem('ref:ann', credits_referral_code('ref:bob'));

-- one side only
RESET ROLE;
SET credits.referrer_credits = 0;
SELECT kind, amount, balance FROM credits_redeem('ref:cid', :'ann');
SELECT kind, amount, balance FROM credits_history('ref:ann', 1);
SET credits.referral_credits = 0;
SET credits.referrer_credits = 7;
SELECT * FROM credits_redeem('ref:dan', :'ann', 'k1');
SELECT * FROM credits_redeem('ref:dan', :'ann', 'k1');
SELECT kind, amount, balance FROM credits_history('ref:ann', 1);
SELECT id, amount, draws, terms FROM credits.transactions WHERE account_id = 350004 AND kind = 'referral';
SELECT referrer, referee, referrer_credits, referee_credits FROM credits.referrals WHERE transaction_id BETWEEN 350001 AND 359999 ORDER BY transaction_id;
SELECT account, referrals, credits FROM credits.referral_counts WHERE account IN ('ref:ann', 'ref:bob', 'ref:cid') ORDER BY account;

-- only accounts that are young
SET credits.referral_credits = 20;
SET credits.referral_account_age = '3 days';
SET credits.test_clock = '2030-01-04 00:00:00+00';
SELECT credits_redeem('ref:eve', :'ann');
\echo :SQLSTATE
SET credits.test_clock = '2030-01-03 23:59:59.999999+00';
SELECT kind FROM credits_redeem('ref:eve', :'ann');
SELECT kind FROM credits_open_account('ref:fay');
SET credits.test_clock = '2035-01-01 00:00:00+00';
SELECT credits_redeem('ref:fay', :'ann');
\echo :SQLSTATE
SET credits.referral_account_age = '0';
SELECT kind, amount FROM credits_redeem('ref:fay', :'ann');
SET credits.referral_account_age = 'young';
\echo :SQLSTATE
SET credits.referral_account_age = '-1 day';
\echo :SQLSTATE

-- capped
SET credits.referral_cap = 6;
SELECT kind FROM credits_open_account('ref:gus');
SELECT kind FROM credits_open_account('ref:hal');
SELECT kind, amount FROM credits_redeem('ref:gus', :'ann');
SELECT credits_redeem('ref:hal', :'ann');
\echo :SQLSTATE
SET credits.referral_cap = 7;
SELECT kind, amount FROM credits_redeem('ref:hal', :'ann');
SELECT referrals FROM credits.referral_counts WHERE account = 'ref:ann';
RESET credits.referral_cap;

-- accounts: paused can on either side, closed cannot, and limits hold
SELECT kind FROM credits_open_account('ref:ida');
SELECT kind FROM credits_pause_account('ref:ida', 'test');
SELECT kind FROM credits_pause_account('ref:ann', 'test');
SELECT kind, amount FROM credits_redeem('ref:ida', :'ann');
SELECT kind FROM credits_open_account('ref:jim');
SELECT kind FROM credits_close_account('ref:jim', 'test');
SELECT credits_redeem('ref:jim', :'ann');
\echo :SQLSTATE
SELECT credits_referral_code('ref:jim');
\echo :SQLSTATE
SELECT kind FROM credits_open_account('ref:kim');
SELECT credits_referral_code('ref:kim') AS kim \gset
SELECT kind FROM credits_set_limits('ref:kim', max_balance => 5);
SELECT kind FROM credits_open_account('ref:leo');
SELECT credits_redeem('ref:leo', :'kim');
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('ref:kim', max_balance => 5, excess => 'clip');
SELECT kind, amount FROM credits_redeem('ref:leo', :'kim');
SELECT kind, amount FROM credits_history('ref:kim', 1);
SELECT kind FROM credits_close_account('ref:kim', 'test');
SELECT credits_referral_code('ref:kim') = :'kim' AS same;
SELECT kind FROM credits_open_account('ref:mia');
SELECT credits_redeem('ref:mia', :'kim');
\echo :SQLSTATE
SELECT credits_redeem('ref:nobody', :'ann');
\echo :SQLSTATE
-- what one side may not have, the other does not get
SELECT kind FROM credits_set_limits('ref:mia', max_balance => 0);
SELECT credits_redeem('ref:mia', :'ann');
\echo :SQLSTATE
SELECT kind FROM credits_history('ref:ann', 1);

RESET credits.referral_credits;
RESET credits.referrer_credits;
RESET credits.referral_account_age;
SELECT a.name, v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 350001 AND 350020;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
