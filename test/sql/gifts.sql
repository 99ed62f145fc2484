-- gifts: credits for whoever has the code, or for many at once
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 340001;
ALTER SEQUENCE credits.grants_id_seq RESTART 340001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 340001;
ALTER SEQUENCE credits.events_id_seq RESTART 340001;
ALTER SEQUENCE credits.codes_id_seq RESTART 340001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('gift:giver', 100);
SELECT kind, balance FROM credits_open_account('gift:friend');
SELECT kind, balance FROM credits_open_account('gift:other');
SELECT balance FROM credits_allocate('gift:giver', 20, source => 'promotional', expires_at => '2030-06-01');
SELECT balance FROM credits_allocate('gift:giver', 30, source => 'purchase', price => 9, currency => 'EUR', priority => 20);
SET ROLE regress_credits_app;

-- a gift leaves the balance at once; the code is the receipt's companion
SELECT length(code), code ~ '^[0-9A-HJKMNP-TV-Z]{16}$' AS unambiguous, expires_at, (receipt).*
FROM credits_create_gift('gift:giver', 40, message => 'Happy birthday!', idempotency_key => 'k1', metadata => '{"card": 7}');
RESET ROLE;
SELECT code AS first FROM credits.gifts WHERE gift_id = 340001 \gset
SELECT gift_id, account, status, credits, expires_at, message, metadata, transaction_id, created_at, redeemed_by, redeemed_at
FROM credits.gifts WHERE gift_id BETWEEN 340001 AND 349999;
SELECT id, kind, amount, held, balance_after, held_after, target_id, draws, terms, reason, metadata
FROM credits.transactions WHERE id = 340006;
SELECT hold_id, account, status, reserved, remaining, expires_at FROM credits.holds WHERE hold_id = 340006;
SET ROLE regress_credits_app;
-- a retry has the same code
SELECT code = :'first' AS same, expires_at, (receipt).*
FROM credits_create_gift('gift:giver', 40, idempotency_key => 'k1');
SELECT credits_create_gift('gift:giver', 41, idempotency_key => 'k1');
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 40, 'k1', expires_in => '1 month');
\echo :SQLSTATE
SELECT credits_deduct('gift:giver', 40, 'k1');
\echo :SQLSTATE

-- not for the giver, and for one other only
SELECT credits_redeem('gift:giver', :'first');
\echo :SQLSTATE
SELECT * FROM credits_redeem('gift:friend', lower(:'first'), 'redeem', '{"from": "web"}');
SELECT * FROM credits_redeem('gift:friend', :'first', 'redeem');
SELECT credits_redeem('gift:friend', :'first');
\echo :SQLSTATE
SELECT credits_redeem('gift:other', :'first');
\echo :SQLSTATE
-- the redeemer is told the message
SELECT transaction_id, kind, amount, balance, reason, metadata, target_id FROM credits_history('gift:friend', 1);
SELECT transaction_id, kind, amount, held, balance, reason, metadata, target_id FROM credits_history('gift:giver', 2);
RESET ROLE;
SELECT status, redeemed_by, redeemed_at FROM credits.gifts WHERE gift_id = 340001;
SELECT * FROM credits.redemptions WHERE code_id = 340001;
-- credits stay what they are: expiry and share of the price
SELECT account_id, source, amount, remaining, priority, expires_at, price, currency
FROM credits.grants WHERE id BETWEEN 340001 AND 349999 ORDER BY id;
SELECT terms FROM credits.transactions WHERE id = 340008;
SELECT balance, held, spent FROM credits.accounts WHERE name = 'gift:giver';

-- a code lives no longer than the credits in it
SELECT balance FROM credits_allocate('gift:giver', 20, source => 'promotional', expires_at => '2030-02-01');
SET ROLE regress_credits_app;
SELECT expires_at, (receipt).balance FROM credits_create_gift('gift:giver', 15, expires_in => '2 months');
SELECT expires_at, (receipt).balance FROM credits_create_gift('gift:giver', 2, expires_in => '14 days');
SELECT expires_at, (receipt).balance FROM credits_create_gift('gift:giver', 1, expires_in => NULL);
RESET ROLE;
SELECT code AS long FROM credits.gifts WHERE gift_id = 340002 \gset
SELECT code AS short FROM credits.gifts WHERE gift_id = 340003 \gset
SELECT gift_id, status, credits, expires_at FROM credits.gifts WHERE gift_id BETWEEN 340001 AND 349999 ORDER BY gift_id;
SELECT hold_id, account, status, remaining, expires_at FROM credits.holds WHERE hold_id BETWEEN 340001 AND 349999 ORDER BY hold_id;
-- ended by the clock, whether or not anything has settled the account
SET credits.test_clock = '2030-01-15 00:00:00+00';
SELECT gift_id, status FROM credits.gifts WHERE gift_id BETWEEN 340001 AND 349999 ORDER BY gift_id;
SET ROLE regress_credits_app;
SELECT credits_redeem('gift:friend', :'short');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'short');
\echo :SQLSTATE
SELECT credits_balance('gift:giver');
SELECT amount, balance FROM credits_deduct('gift:giver', 1);
SELECT kind, amount, held, balance, target_id, created_at FROM credits_history('gift:giver', 2);
-- what has gone back to a grant whose time is over expires there and then
RESET ROLE;
SET credits.test_clock = '2030-02-02 00:00:00+00';
SET ROLE regress_credits_app;
SELECT credits_redeem('gift:friend', :'long');
\echo :SQLSTATE
SELECT credits_balance('gift:giver');
SELECT amount, balance FROM credits_deduct('gift:giver', 1);
RESET ROLE;
SELECT kind, amount, held, balance, created_at FROM credits_history('gift:giver', 6);
SELECT gift_id, status FROM credits.gifts WHERE gift_id BETWEEN 340001 AND 349999 ORDER BY gift_id;
SELECT * FROM credits_verify('gift:giver');

-- cancelled
SET ROLE regress_credits_app;
SELECT code AS cancel FROM credits_create_gift('gift:giver', 25, idempotency_key => 'k2') \gset
SELECT credits_cancel_gift(:'cancel', account => 'gift:friend');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'cancel', account => 'gift:nobody');
\echo :SQLSTATE
SELECT kind, amount, balance, held, replayed FROM credits_cancel_gift(lower(:'cancel'), 'c1', 'changed my mind', '{"a": 1}', 'gift:giver');
SELECT kind, amount, balance, held, replayed FROM credits_cancel_gift(:'cancel', 'c1');
SELECT credits_cancel_gift(:'cancel');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'first');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'first', 'c1');
\echo :SQLSTATE
SELECT credits_redeem('gift:friend', :'cancel');
\echo :SQLSTATE
SELECT kind, amount, held, reason, metadata FROM credits_history('gift:giver', 1);
SELECT (receipt).amount, (receipt).replayed, code = :'cancel' AS same FROM credits_create_gift('gift:giver', 25, idempotency_key => 'k2');
SELECT credits_cancel_gift('no such gift');
\echo :SQLSTATE
SELECT credits_cancel_gift(NULL);
\echo :SQLSTATE
SELECT credits_cancel_gift('');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'cancel', '');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'cancel', reason => '');
\echo :SQLSTATE
RESET ROLE;
SELECT status FROM credits.gifts WHERE code = :'cancel';
SELECT credits_create_promo_code('no-gift', 1);
SELECT credits_cancel_gift('no-gift');
\echo :SQLSTATE

-- a gift is no hold that could be captured, released or made to last
SELECT code AS held FROM credits_create_gift('gift:giver', 5) \gset
SELECT transaction_id AS hold FROM credits.gifts WHERE code = :'held' \gset
\set VERBOSITY sqlstate
SELECT credits_capture(:hold);
SELECT credits_release(:hold);
SELECT credits_extend_hold(:hold);
SELECT credits_refund(:hold);
\set VERBOSITY default
SELECT status FROM credits.gifts WHERE code = :'held';
-- its credits cannot be refunded by the giver once they are given
SELECT kind FROM credits_redeem('gift:friend', :'held');
\set VERBOSITY sqlstate
SELECT credits_refund((SELECT max(id) FROM credits.transactions WHERE account_id = 340001 AND kind = 'gift'));
SELECT credits_refund((SELECT max(id) FROM credits.transactions WHERE account_id = 340002 AND kind = 'gift'));
SELECT credits_reverse_transfer((SELECT max(id) FROM credits.transactions WHERE account_id = 340002 AND kind = 'gift'), 'no');
\set VERBOSITY default

-- bad arguments
SELECT credits_create_gift(NULL, 1);
\echo :SQLSTATE
SELECT credits_create_gift('', 1);
\echo :SQLSTATE
SELECT credits_create_gift('gift:nobody', 1);
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', NULL);
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 0);
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', -1);
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 9223372036854775807);
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 1, expires_in => '0');
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 1, expires_in => '-1 day');
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 1, message => '');
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 1, message => repeat('x', 1001));
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 1, idempotency_key => '');
\echo :SQLSTATE
SELECT credits_create_gift('gift:giver', 1, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
-- what failed keeps no key
SELECT credits_create_gift('gift:giver', 1000, idempotency_key => 'k3');
\echo :SQLSTATE
SELECT (receipt).amount, (receipt).replayed FROM credits_create_gift('gift:giver', 1, idempotency_key => 'k3');

-- accounts: paused, closed, of another unit, with limits
SELECT kind FROM credits_pause_account('gift:giver', 'test');
SELECT credits_create_gift('gift:giver', 1);
\echo :SQLSTATE
SELECT code AS k3 FROM credits_create_gift('gift:giver', 1, idempotency_key => 'k3') \gset
SELECT kind, amount FROM credits_redeem('gift:other', :'k3');
SELECT kind FROM credits_resume_account('gift:giver', 'test');
SELECT kind FROM credits_open_account('gift:tokens', unit => 'token');
SELECT code AS gift FROM credits_create_gift('gift:giver', 10) \gset
SELECT credits_redeem('gift:tokens', :'gift');
\echo :SQLSTATE
SELECT kind FROM credits_open_account('gift:full', 95);
SELECT kind FROM credits_set_limits('gift:full', max_balance => 100, excess => 'clip');
SELECT credits_redeem('gift:full', :'gift');
\echo :SQLSTATE
SELECT credits_redeem('gift:nobody', :'gift');
\echo :SQLSTATE
SELECT kind FROM credits_open_account('gift:gone');
SELECT kind FROM credits_close_account('gift:gone', 'test');
SELECT credits_redeem('gift:gone', :'gift');
\echo :SQLSTATE
SELECT kind FROM credits_open_account('gift:leaver', 50);
SELECT kind FROM credits_set_limits('gift:leaver', max_spend => 20, max_spend_per_day => 25);
SELECT credits_create_gift('gift:leaver', 21);
\echo :SQLSTATE
SELECT code AS leaver FROM credits_create_gift('gift:leaver', 20) \gset
SELECT credits_create_gift('gift:leaver', 6);
\echo :SQLSTATE
SELECT amount FROM credits_cancel_gift(:'leaver');
SELECT code AS leaver FROM credits_create_gift('gift:leaver', 20) \gset
SELECT kind FROM credits_close_account('gift:leaver', 'test');
SELECT credits_redeem('gift:friend', :'leaver');
\echo :SQLSTATE
SELECT credits_cancel_gift(:'leaver');
\echo :SQLSTATE
SELECT kind, amount FROM credits_redeem('gift:friend', :'gift');
-- one key of the redeemer's for anything else
SELECT credits_redeem('gift:friend', :'leaver', 'redeem');
\echo :SQLSTATE
-- in one transaction, and undone
BEGIN;
SELECT code AS undone FROM credits_create_gift('gift:giver', 1) \gset
SELECT kind, amount FROM credits_redeem('gift:friend', :'undone');
SELECT kind, amount FROM credits_deduct('gift:friend', 1);
ROLLBACK;
SELECT credits_redeem('gift:friend', :'undone');
\echo :SQLSTATE
-- given on
SELECT code AS onward FROM credits_create_gift('gift:friend', 30) \gset
SELECT kind, amount, balance FROM credits_redeem('gift:giver', :'onward');

-- to many: one transaction of the giver's, and one of each of the others'
SET ROLE regress_credits_app;
SELECT kind, amount, balance, held, replayed FROM credits_gift_many('gift:giver', '{gift:friend,gift:other}', 12, 'm1', '{"b": 2}', 'Thanks, all of you');
SELECT kind, amount, balance, replayed FROM credits_gift_many('gift:giver', '{gift:friend,gift:other}', 12, 'm1');
SELECT credits_gift_many('gift:giver', '{gift:other,gift:friend}', 12, 'm1');
\echo :SQLSTATE
SELECT credits_gift_many('gift:giver', '{gift:friend,gift:other}', 13, 'm1');
\echo :SQLSTATE
SELECT credits_gift_many('gift:giver', '{gift:friend}', 24, 'm1');
\echo :SQLSTATE
SELECT kind, amount, reason, metadata, idempotency_key FROM credits_history('gift:giver', 1);
SELECT kind, amount, reason, metadata, idempotency_key FROM credits_history('gift:friend', 1);
RESET ROLE;
SELECT a.name, t.kind, t.amount, t.target_id = g.id AS of_giver, t.draws IS NOT NULL AS draws
FROM credits.transactions AS g JOIN credits.transactions AS t ON t.target_id = g.id
JOIN credits.accounts AS a ON a.id = t.account_id WHERE g.idempotency_key = 'm1' ORDER BY t.id;
-- shares of the giver's grants, in burn order, each with its terms
SELECT kind FROM credits_open_account('gift:rich');
SELECT balance FROM credits_allocate('gift:rich', 5, source => 'trial', expires_at => '2030-05-01');
SELECT balance FROM credits_allocate('gift:rich', 10, source => 'purchase', price => 1, currency => 'USD');
SELECT kind, amount, balance FROM credits_gift_many('gift:rich', '{gift:other,gift:giver,gift:friend}', 4);
SELECT a.name, g.source, g.amount, g.expires_at, g.price
FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE g.account_id BETWEEN 340001 AND 349999 AND g.transaction_id > (SELECT max(id) FROM credits.transactions
	WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'gift:rich'))
ORDER BY g.id;
-- all or none
SELECT credits_gift_many('gift:rich', '{gift:other,gift:giver}', 2);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:nobody}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:gone}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:tokens}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:full}', 1) IS NOT NULL AS given;
SELECT credits_gift_many('gift:giver', '{gift:other,gift:full}', 5);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:giver,gift:other}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:rich}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', NULL, 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,NULL}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{""}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{{gift:other,gift:giver},{gift:friend,gift:full}}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', array_fill('x'::text, ARRAY[1001]), 1);
\echo :SQLSTATE
SELECT credits_gift_many(NULL, '{gift:other}', 1);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other}', 0);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other}', NULL);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other,gift:giver}', 9223372036854775807);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other}', 9223372036854775807);
\echo :SQLSTATE
SELECT credits_gift_many('gift:rich', '{gift:other}', 1, message => '');
\echo :SQLSTATE
SELECT balance FROM credits.accounts WHERE name = 'gift:rich';
-- a thousand
SELECT count(credits_open_account('gift:crowd:' || i)) FROM generate_series(1, 1000) AS i;
SELECT balance FROM credits_allocate('gift:giver', 5000);
SELECT kind, amount FROM credits_gift_many('gift:giver', (SELECT array_agg('gift:crowd:' || i ORDER BY i) FROM generate_series(1, 1000) AS i), 5);
SELECT count(*), sum(balance), min(balance) FROM credits.accounts WHERE name LIKE 'gift:crowd:%';
SELECT count(*) FROM generate_series(1, 1000, 100) AS i, LATERAL credits_verify('gift:crowd:' || i) AS v;

SELECT a.name, v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 340001 AND 340020;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
