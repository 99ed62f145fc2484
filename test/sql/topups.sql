-- topups: buying credits when a balance is low
-- in a database of its own: it reads all events
\set shared :DBNAME
CREATE DATABASE regress_topups TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_topups
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET credits.test_clock = '2246-01-01 00:00:00+00';

-- who may what
SELECT p.proname, array_agg(r.rolname ORDER BY r.rolname) AS roles
FROM pg_proc AS p JOIN pg_roles AS r ON has_function_privilege(r.oid, p.oid, 'EXECUTE')
WHERE p.proname ~ '^credits_.*topup' AND r.rolname ~ '^credits_'
GROUP BY p.proname ORDER BY p.proname;

-- what happened, by its events
CREATE VIEW pg_temp.steps AS
SELECT id, kind, detail - 'account' AS detail FROM credits.events WHERE kind LIKE 'topup%';
CREATE VIEW pg_temp.rule AS
SELECT a.name, t.state, t.message, t.due_at, a.topup_below FROM credits.topups AS t JOIN credits.accounts AS a ON a.id = t.account_id;
CREATE VIEW pg_temp.requests AS
SELECT topup_id, account, purchase_id, balance, credits, price, status, reason, requested_at FROM credits.topup_list;

SELECT credits_set_package('pack', 1000, 9.99, 'EUR'), credits_set_unit_price('EUR', 0.01);
SELECT balance FROM credits_open_account('top:1', 500);
SELECT balance FROM credits_open_account('top:2', 500);

-- a rule: what is needed, what is kept, what one takes the place of
SELECT credits_set_topup('top:1', 100);
SELECT credits_set_topup('top:1', package => 'pack');
SELECT credits_set_topup('top:1', 100, 600, 'pack');
SELECT credits_set_topup('top:1', 100, 100);
SELECT credits_set_topup('top:1', 100, package => 'pack', max_money => 20);
SELECT credits_set_topup('top:none', 100, package => 'pack');
SELECT credits_set_topup('top:1', 100, package => 'pack', period => '2 years');
SELECT credits_set_topup('top:1', 100, package => 'pack', period => '-1 day');
\set VERBOSITY sqlstate
SELECT credits_set_topup('top:1', 0, package => 'pack');
SELECT credits_set_topup('top:1', -1, package => 'pack');
SELECT credits_set_topup('top:1', 100, 0);
SELECT credits_set_topup('top:1', 100, package => '');
SELECT credits_set_topup('top:1', 100, package => 'pack', max_requests => 0);
SELECT credits_set_topup('top:1', 100, package => 'pack', max_money => 0, currency => 'EUR');
SELECT credits_set_topup('top:1', 100, package => 'pack', max_money => 'NaN', currency => 'EUR');
SELECT credits_set_topup('top:1', 100, package => 'pack', currency => 'euro');
SELECT credits_set_topup('top:1', 100, package => 'pack', clear => '{below}');
SELECT credits_set_topup(NULL, 100, package => 'pack');
\set VERBOSITY default
SELECT * FROM credits_topup('top:1');
SELECT kind, amount, balance FROM credits_set_topup('top:1', 100, package => 'pack', reason => 'asked for');
SELECT * FROM credits_topup('top:1');
SELECT kind, amount FROM credits_set_topup('top:1', max_requests => 5, max_money => 30, currency => 'EUR');
SELECT kind, amount FROM credits_set_topup('top:1', target => 600);
SELECT below, target, package, currency, max_requests, max_money, period FROM credits_topup('top:1');
SELECT kind, amount FROM credits_set_topup('top:1', package => 'pack', clear => '{max_requests, max_money, currency}');
SELECT below, target, package, currency, max_requests, max_money, period FROM credits_topup('top:1');
SELECT kind, reason, terms FROM credits.transactions WHERE kind = 'topup_rule' ORDER BY id;
SELECT kind, amount FROM credits_set_topup('top:2', 100, 600);

-- nobody is topped up whose balance is not below
SELECT * FROM credits_request_topups();
SELECT amount FROM credits_deduct('top:1', 400);
SELECT * FROM credits_request_topups();
SELECT * FROM pg_temp.steps;

-- crossing the threshold: one event, one request, however often somebody asks
SELECT balance FROM credits_deduct('top:1', 10);
SELECT balance FROM credits_deduct('top:1', 10);
BEGIN;
SELECT balance FROM credits_deduct('top:2', 450);
ROLLBACK;
SELECT * FROM credits_request_topups();
SELECT * FROM credits_request_topups();
SELECT balance FROM credits_deduct('top:1', 10);
SELECT * FROM credits_request_topups();
SELECT * FROM pg_temp.requests;
SELECT name, state, message, due_at, topup_below FROM pg_temp.rule ORDER BY name;
SELECT kind, detail FROM pg_temp.steps ORDER BY id;

-- paid: ready for the next time
SELECT outcome, (receipt).balance FROM credits_complete_purchase(1, 'pay:1', 9.99, 'EUR');
SELECT state, purchase_id FROM credits_topup('top:1');
SELECT * FROM credits_request_topups();
SELECT state, purchase_id FROM credits_topup('top:1');

-- up to a target, at the price of a credit
SELECT balance FROM credits_deduct('top:2', 450);
SELECT account, credits, price, currency, amount_minor, stripe_amount, metadata FROM credits_request_topups();

-- declined: an hour, then a day, then not any more, until there is another payment method
SELECT credits_fail_purchase(2, 'card_declined');
SELECT * FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:2');
SET credits.test_clock = '2246-01-01 00:59:59+00';
SELECT * FROM credits_request_topups();
SET credits.test_clock = '2246-01-01 01:00:00+00';
SELECT purchase_id, credits FROM credits_request_topups();
SELECT credits_fail_purchase(3, 'card_declined');
SELECT * FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:2');
SET credits.test_clock = '2246-01-02 00:59:59+00';
SELECT balance FROM credits_deduct('top:2', 1);
SELECT * FROM credits_request_topups();
SET credits.test_clock = '2246-01-02 01:00:00+00';
SELECT purchase_id, credits FROM credits_request_topups();
SELECT credits_fail_purchase(4, 'card_declined');
SELECT * FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:2');
SET credits.test_clock = '2246-02-01 00:00:00+00';
SELECT * FROM credits_request_topups();
SELECT credits_resume_topup('top:2'), credits_resume_topup('top:2');
SELECT purchase_id, credits FROM credits_request_topups();
SELECT kind, detail FROM pg_temp.steps WHERE kind <> 'topup_due' ORDER BY id;

-- paid late, when another one had been started: both count, and are paid
SELECT outcome, (receipt).balance FROM credits_complete_purchase(4, 'pay:4', 10, 'EUR');
SELECT status, reason FROM pg_temp.requests WHERE purchase_id IN (4, 5) ORDER BY purchase_id;
SELECT outcome, (receipt).balance FROM credits_complete_purchase(5, 'pay:5', 5.51, 'EUR');
SELECT * FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:2');

-- unanswered: it expires by itself, and the next one is started an hour later
SELECT balance FROM credits_deduct('top:1', 1000);
SELECT purchase_id FROM credits_request_topups();
SET credits.test_clock = '2246-02-02 00:00:00+00';
SELECT * FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SET credits.test_clock = '2246-02-02 01:00:00+00';
SELECT purchase_id FROM credits_request_topups();
-- one that housekeeping has expired
SELECT credits_expire_purchase(7);
SELECT * FROM credits_request_topups();
SET credits.test_clock = '2246-02-03 01:00:00+00';
SELECT * FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SET credits.test_clock = '2246-02-04 01:00:00+00';
SELECT purchase_id FROM credits_request_topups();
SELECT outcome, (receipt).balance FROM credits_complete_purchase(8, 'pay:8', 9.99, 'EUR');
SELECT * FROM credits_request_topups();

-- limits: so many, and so much, within a period
SET credits.test_clock = '2246-03-01 00:00:00+00';
SELECT kind FROM credits_set_topup('top:1', max_requests => 2);
SELECT balance FROM credits_deduct('top:1', 1000);
SELECT purchase_id FROM credits_request_topups();
SELECT outcome FROM credits_complete_purchase(9, 'pay:9', 9.99, 'EUR');
SET credits.test_clock = '2246-03-01 12:00:00+00';
SELECT balance FROM credits_deduct('top:1', 1000);
SELECT purchase_id FROM credits_request_topups();
SELECT outcome FROM credits_complete_purchase(10, 'pay:10', 9.99, 'EUR');
SELECT balance FROM credits_deduct('top:1', 1000);
SELECT purchase_id FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SET credits.test_clock = '2246-03-02 00:00:00+00';
SELECT purchase_id FROM credits_request_topups();
SELECT credits_fail_purchase(11);
SELECT kind FROM credits_set_topup('top:1', max_requests => 9, max_money => 15, currency => 'EUR');
SET credits.test_clock = '2246-03-02 03:00:00+00';
SELECT purchase_id FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SELECT kind FROM credits_set_topup('top:1', max_money => 5);
SET credits.test_clock = '2246-03-05 00:00:00+00';
SELECT purchase_id FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');

-- not while it is paused, in debt, or what is to be bought is not for sale
SELECT kind FROM credits_set_topup('top:1', clear => '{max_money}');
SELECT kind FROM credits_pause_account('top:1', 'test');
SELECT purchase_id FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SELECT kind FROM credits_resume_account('top:1', 'test');
SELECT credits_retire_package('pack') > 0 AS retired;
SELECT credits_resume_topup('top:1');
SELECT purchase_id FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SELECT credits_set_package('pack', 1000, 9.99, 'EUR') > 0 AS again;
SELECT status FROM credits_refund_purchase(10);
SELECT credits_resume_topup('top:1');
SELECT purchase_id FROM credits_request_topups();
SELECT state, message, due_at FROM credits_topup('top:1');
SELECT balance FROM credits_allocate('top:1', 2000, 'purchase');
SELECT debt FROM credits.accounts WHERE name = 'top:1';

-- a threshold above the balance is seen at once; what expires crosses it, too
SELECT kind FROM credits_set_topup('top:1', 5000);
SELECT account FROM credits_request_topups();
SELECT kind, amount FROM credits_remove_topup('top:1', 'no more');
SELECT credits_remove_topup('top:1');
SELECT credits_resume_topup('top:1');
SELECT * FROM credits_topup('top:1');
SELECT topup_below FROM credits.accounts WHERE name = 'top:1';
SELECT balance FROM credits_open_account('top:3');
SELECT balance FROM credits_allocate('top:3', 10, expires_at => '2246-03-06 00:00:00+00');
SELECT kind FROM credits_set_topup('top:3', 1, package => 'pack');
SELECT account FROM credits_request_topups();
SET credits.test_clock = '2246-03-06 00:00:00+00';
CALL credits_settle();
SELECT account FROM credits_request_topups();
SELECT kind FROM credits_close_account('top:3', 'test');
SELECT state, purchase_id IS NOT NULL AS open FROM credits_topup('top:3');

-- of many accounts, so many at a time, none forgotten
SELECT count(credits_open_account('many:' || n, 10)), count(credits_set_topup('many:' || n, 5, package => 'pack')) FROM generate_series(1, 25) AS n;
SELECT count(credits_deduct('many:' || n, 10)) FROM generate_series(1, 25) AS n;
SELECT count(*) FROM credits_request_topups(10);
SELECT count(*) FROM credits_request_topups(10);
SELECT count(*) FROM credits_request_topups(10);
SELECT count(*), count(DISTINCT account) FROM pg_temp.requests WHERE account LIKE 'many:%';
SELECT credits_request_topups(0);
SELECT credits_request_topups(101);
SELECT credits_request_topups(NULL);

-- the feed of the extension is nobody else's
SELECT credits_ack_events('topups', 'x');
SELECT credits_remove_consumer('topups');

-- no change but by the functions
\set VERBOSITY sqlstate
UPDATE credits.topups SET below = 1;
DELETE FROM credits.topups;
TRUNCATE credits.topups;
UPDATE credits.topup_requests SET balance = 1;
DELETE FROM credits.topup_requests;
TRUNCATE credits.topup_requests;
\set VERBOSITY default
SELECT * FROM credits_verify();

-- and if somebody does nevertheless, it is found
BEGIN;
SET LOCAL client_min_messages = warning;
ALTER TABLE credits.topups DISABLE TRIGGER ALL;
ALTER TABLE credits.topup_requests DISABLE TRIGGER ALL;
UPDATE credits.topups SET below = 99 WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'top:2');
DELETE FROM credits.topups WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'many:1');
UPDATE credits.topup_requests SET ended_at = requested_at WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'many:2');
UPDATE credits.topup_requests SET account_id = (SELECT id FROM credits.accounts WHERE name = 'top:2') WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'many:3');
SELECT account, problem, detail FROM credits_verify() ORDER BY account COLLATE "C", detail;
ROLLBACK;

\c :shared
DROP DATABASE regress_topups;
