-- promo_codes: making, redeeming and switching off promotional codes
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
ALTER SEQUENCE credits.accounts_id_seq RESTART 330001;
ALTER SEQUENCE credits.grants_id_seq RESTART 330001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 330001;
ALTER SEQUENCE credits.codes_id_seq RESTART 330001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('promo:1');
SELECT kind, balance FROM credits_open_account('promo:2', 100);
SELECT kind, balance FROM credits_open_account('promo:3');

-- with nothing but a code and credits, and with everything
SELECT credits_create_promo_code('Welcome', 50);
SELECT credits_create_promo_code(E' \t spring-30% \n', 30, max_uses => 2, active_until => '2030-04-01',
	active_from => '2030-03-01', per_account => 2, expires_in => '1 month',
	new_accounts_within => '90 days', metadata => '{"campaign": "spring"}');
SELECT * FROM credits.promo_codes WHERE code_id BETWEEN 330001 AND 339999 ORDER BY code_id;

-- one that exists, in letters of either case, for whatever else
SELECT credits_create_promo_code('welcome', 50);
\echo :SQLSTATE
SELECT credits_create_promo_code(' WELCOME ', 1);
\echo :SQLSTATE

-- bad arguments
SELECT credits_create_promo_code(NULL, 1);
\echo :SQLSTATE
SELECT credits_create_promo_code('', 1);
\echo :SQLSTATE
SELECT credits_create_promo_code(E' \t\n', 1);
\echo :SQLSTATE
SELECT credits_create_promo_code(repeat('x', 65), 1);
\echo :SQLSTATE
SELECT credits_create_promo_code('two words', 1);
\echo :SQLSTATE
SELECT credits_create_promo_code('größe', 1);
\echo :SQLSTATE
SELECT credits_create_promo_code(E'x\u007f', 1);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', NULL);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 0);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', -1);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, max_uses => 0);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, active_until => '2030-01-01');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, active_until => '-infinity');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, active_from => '2030-02-01', active_until => '2030-02-01');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, active_from => 'infinity');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, per_account => NULL);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, per_account => 0);
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, expires_in => '0');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, expires_in => '-1 day');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, new_accounts_within => '2000 years');
\echo :SQLSTATE
SELECT credits_create_promo_code('x', 1, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT length(credits_create_promo_code(repeat('x', 64), 9223372036854775807, 9223372036854775807,
	2147483647, '-infinity', 'infinity', '1000 years', '1000 years'));

-- at random
SELECT count(*), count(DISTINCT code), min(length(code)), max(length(code)),
	   bool_and(code ~ '^[0-9A-HJKMNP-TV-Z]{16}$') AS unambiguous
FROM credits_create_promo_codes(1000, 5) AS code;
SELECT count(*), bool_and(code ~ '^PRE-[0-9A-HJKMNP-TV-Z]{16}$') AS unambiguous
FROM credits_create_promo_codes(3, 5, ' pre-', max_uses => 7, active_until => '2031-01-01', active_from => '2030-01-02',
	per_account => 3, expires_in => '1 day', new_accounts_within => '2 days', metadata => '{"a": 1}') AS code;
SELECT regexp_replace(code, '-.*', '') AS prefix, status, credits, uses, max_uses, per_account, active_from, active_until,
	   expires_in, new_accounts_within, metadata, created_at
FROM credits.promo_codes WHERE code LIKE 'PRE-%' ORDER BY code_id;
-- each of them once, unless it is told otherwise
SELECT max_uses, count(*) FROM credits.promo_codes WHERE credits = 5 AND code_id BETWEEN 330001 AND 339999 GROUP BY max_uses ORDER BY max_uses;
SELECT max(length(code)) FROM credits_create_promo_codes(2, 6, repeat('y', 32), NULL) AS code;
SELECT max_uses, count(*) FROM credits.promo_codes WHERE credits = 6 AND code_id BETWEEN 330001 AND 339999 GROUP BY max_uses;
SELECT credits_create_promo_codes(NULL, 5);
\echo :SQLSTATE
SELECT credits_create_promo_codes(0, 5);
\echo :SQLSTATE
SELECT credits_create_promo_codes(-1, 5);
\echo :SQLSTATE
SELECT credits_create_promo_codes(100001, 5);
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, 0);
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, NULL);
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, 1, '');
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, 1, repeat('y', 33));
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, 1, 'a b');
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, 1, max_uses => -1);
\echo :SQLSTATE

-- redeemed: as typed
SET ROLE regress_credits_app;
SELECT * FROM credits_redeem('promo:1', 'WELCOME');
SELECT * FROM credits_redeem(account => 'promo:2', code => E'\twelcome ', idempotency_key => 'k1',
	metadata => '{"from": "mail"}');
SELECT transaction_id, created_at, kind, amount, balance, target_id, idempotency_key, metadata
FROM credits_history('promo:2');
RESET ROLE;
SELECT terms FROM credits.transactions WHERE id = 330005;
SELECT id, account_id, transaction_id, amount, remaining, priority, source, expires_at FROM credits.grants WHERE id BETWEEN 330002 AND 339999;
SELECT * FROM credits.redemptions WHERE code_id = 330001;
SELECT code, status, uses FROM credits.promo_codes WHERE code_id = 330001;
SET ROLE regress_credits_app;

-- once for each account; a retry is the first receipt
SELECT credits_redeem('promo:1', 'welcome');
\echo :SQLSTATE
SELECT credits_redeem('promo:2', 'welcome', 'k2');
\echo :SQLSTATE
SELECT * FROM credits_redeem('promo:2', ' Welcome', 'k1');
SELECT credits_redeem('promo:2', 'spring-30%', 'k1');
\echo :SQLSTATE
SELECT credits_redeem('promo:2', 'no such code', 'k1');
\echo :SQLSTATE

-- exists and is active: PT404
SELECT credits_redeem('promo:1', 'nothing');
\echo :SQLSTATE
-- has started and not ended: PT410
SELECT credits_redeem('promo:1', 'spring-30%');
\echo :SQLSTATE
RESET ROLE;
SET credits.test_clock = '2030-02-28 23:59:59.999999+00';
SET ROLE regress_credits_app;
SELECT credits_redeem('promo:1', 'spring-30%');
RESET ROLE;
SET credits.test_clock = '2030-03-01 00:00:00+00';
SET ROLE regress_credits_app;
SELECT kind, amount, balance FROM credits_redeem('promo:1', 'spring-30%');
SELECT kind, amount, balance FROM credits_redeem('promo:1', 'spring-30%');
-- is not used up: PT410, before all that is about the account
SELECT credits_redeem('promo:1', 'spring-30%');
\echo :SQLSTATE
SELECT credits_redeem('promo:3', 'spring-30%');
\echo :SQLSTATE
RESET ROLE;
SELECT code, status, uses, max_uses FROM credits.promo_codes WHERE code_id = 330002;
SELECT uses FROM credits.codes WHERE id IN (330001, 330002) ORDER BY id;
-- not redeemed by the account, then: is it for this account: PT409, PT403
SELECT credits_create_promo_code('new', 7, 10, new_accounts_within => '2 months');
SET credits.test_clock = '2030-02-28 00:00:00+00';
SELECT kind FROM credits_open_account('promo:4');
SET credits.test_clock = '2030-03-01 00:00:00+00';
SET ROLE regress_credits_app;
SELECT credits_redeem('promo:3', 'new');
\echo :SQLSTATE
SELECT kind, amount FROM credits_redeem('promo:4', 'new');
RESET ROLE;
SET credits.test_clock = '2031-03-01 00:00:00+00';
SELECT credits_redeem('promo:4', 'new');
\echo :SQLSTATE
SELECT credits_create_promo_code('edge', 7, new_accounts_within => '1 day');
SELECT kind FROM credits_open_account('promo:5');
SELECT kind FROM credits_open_account('promo:6');
SET credits.test_clock = '2031-03-01 23:59:59.999999+00';
SELECT kind FROM credits_redeem('promo:5', 'edge');
SET credits.test_clock = '2031-03-02 00:00:00+00';
SELECT credits_redeem('promo:6', 'edge');
\echo :SQLSTATE
-- ended
SELECT credits_create_promo_code('end', 7, active_until => '2031-04-01');
SET credits.test_clock = '2031-03-31 23:59:59.999999+00';
SELECT kind FROM credits_redeem('promo:1', 'end');
SET credits.test_clock = '2031-04-01 00:00:00+00';
SELECT credits_redeem('promo:2', 'end');
\echo :SQLSTATE

-- what it gave expires when it says
SELECT credits_balance('promo:1');
SELECT kind, amount, created_at FROM credits_history('promo:1') WHERE kind = 'expiration';
SELECT source, amount, remaining, expires_at FROM credits.grants WHERE account_id = 330001 ORDER BY id;

-- switched off
SET ROLE regress_credits_admin;
SELECT credits_deactivate_promo_code(' Welcome ') AS was_active;
SELECT code, status, uses FROM credits.promo_codes WHERE code_id = 330001;
SELECT credits_redeem('promo:3', 'welcome');
\echo :SQLSTATE
-- a retry is answered all the same
SELECT amount, replayed FROM credits_redeem('promo:2', 'welcome', 'k1');
SELECT credits_deactivate_promo_code('welcome') AS was_active;
SELECT credits_deactivate_promo_code('nothing');
\echo :SQLSTATE
SELECT credits_deactivate_promo_code(NULL);
\echo :SQLSTATE
SELECT credits_deactivate_promo_code(' ');
\echo :SQLSTATE
-- a code stays taken
SELECT credits_create_promo_code('welcome', 1);
\echo :SQLSTATE
-- two calls in one transaction; and undone
BEGIN;
SELECT credits_create_promo_code('undone', 1);
SELECT credits_deactivate_promo_code('undone') AS was_active;
SELECT credits_redeem('promo:3', 'undone');
ROLLBACK;
SELECT credits_redeem('promo:3', 'undone');
\echo :SQLSTATE

-- several times, in one statement too
SELECT credits_create_promo_code('often', 1, 5, per_account => 3);
SELECT count(*), max((credits_redeem('promo:3', 'often')).balance) FROM generate_series(1, 3);
SELECT credits_redeem('promo:3', 'often');
\echo :SQLSTATE
SELECT count(*), count((a).receipt), string_agg((a).code, ' ') AS refused
FROM (SELECT credits_try_redeem('promo:' || 4 + i % 2, 'often') AS a FROM generate_series(1, 4) AS i) AS s;
SELECT uses FROM credits.promo_codes WHERE code = 'OFTEN';
-- undone by a savepoint, it can be redeemed again
SELECT credits_create_promo_code('again', 1, 1);
BEGIN;
SAVEPOINT s;
SELECT amount FROM credits_redeem('promo:3', 'again');
ROLLBACK TO s;
SELECT uses FROM credits.promo_codes WHERE code = 'AGAIN';
SELECT amount FROM credits_redeem('promo:4', 'again');
COMMIT;
SELECT uses FROM credits.promo_codes WHERE code = 'AGAIN';

-- accounts: paused can, closed cannot, and limits hold
SELECT kind FROM credits_pause_account('promo:5', 'test');
SELECT credits_create_promo_code('any', 10);
SELECT kind, amount FROM credits_redeem('promo:5', 'any');
SELECT kind FROM credits_close_account('promo:6', 'test');
SELECT credits_redeem('promo:6', 'any');
\echo :SQLSTATE
SELECT credits_redeem('promo:none', 'any');
\echo :SQLSTATE
SELECT kind, balance FROM credits_open_account('promo:7', 95);
SELECT kind FROM credits_set_limits('promo:7', max_balance => 100);
SELECT credits_redeem('promo:7', 'any');
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('promo:7', max_balance => 100, excess => 'clip');
SELECT kind, amount, balance FROM credits_redeem('promo:7', 'any');
SELECT credits_create_promo_code('huge', 9223372036854775807);
SELECT credits_redeem('promo:3', 'huge');
\echo :SQLSTATE
SELECT uses FROM credits.promo_codes WHERE code = 'HUGE';

-- what was redeemed is spent like everything else
SELECT kind, amount, balance FROM credits_deduct('promo:2', 60, 'spend');

-- an application makes no codes, and does not see them
SET ROLE regress_credits_app;
SELECT credits_create_promo_code('mine', 1000);
\echo :SQLSTATE
SELECT credits_create_promo_codes(1, 1000);
\echo :SQLSTATE
SELECT credits_deactivate_promo_code('any');
\echo :SQLSTATE
SELECT count(*) FROM credits.promo_codes;
\echo :SQLSTATE
RESET ROLE;

SELECT v.* FROM generate_series(1, 7) AS i, LATERAL credits_verify('promo:' || i) AS v;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
