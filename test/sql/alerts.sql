-- alerts: one event at each crossing of the threshold, and at zero
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left due
SET credits.test_clock = '2040-01-01 00:00:00+00';
CALL credits_settle() \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 30001;
ALTER SEQUENCE credits.grants_id_seq RESTART 30001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 30001;
ALTER SEQUENCE credits.events_id_seq RESTART 30001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
-- opened below the threshold: nothing fell
SELECT kind, balance FROM credits_open_account('low:0', 5);
SHOW credits.alert_levels;
SELECT kind, balance FROM credits_open_account('low:1', 20);
-- down to it: nothing; below it: once
SELECT balance FROM credits_deduct('low:1', 10);
SELECT balance FROM credits_deduct('low:1', 1);
SELECT * FROM credits.events WHERE id > 30000;
SELECT min((r).balance) FROM (SELECT credits_deduct('low:1', 1) AS r FROM generate_series(1, 7)) AS s;
SELECT count(*) FROM credits.events WHERE id > 30000;
-- to zero: once more
SELECT balance FROM credits_deduct('low:1', 2);
SELECT detail FROM credits.events WHERE id > 30000 ORDER BY id;
-- up but not above, and down to zero again: zero is told each time
SELECT balance FROM credits_allocate('low:1', 5);
SELECT balance FROM credits_deduct('low:1', 5);
-- up to the threshold: armed again
SELECT transaction_id AS spend FROM credits_deduct('low:0', 5) \gset
SELECT balance FROM credits_allocate('low:1', 10);
SELECT balance FROM credits_deduct('low:1', 1);
-- by a refund
SELECT transaction_id AS spend FROM credits_deduct('low:1', 1) \gset
SELECT balance FROM credits_allocate('low:1', 1);
SELECT balance FROM credits_refund(:spend);
SELECT balance FROM credits_deduct('low:1', 1);
-- in one step from above to zero
SELECT balance FROM credits_allocate('low:1', 10);
SELECT balance FROM credits_deduct('low:1', 19);
SELECT transaction_id, detail FROM credits.events WHERE id > 30000 ORDER BY id;

-- rolled back: nothing happened
SELECT max(id) AS seen FROM credits.events \gset
SELECT balance FROM credits_allocate('low:1', 20);
BEGIN;
SELECT balance FROM credits_deduct('low:1', 15);
SELECT count(*) FROM credits.events WHERE id > :seen;
ROLLBACK;
SELECT count(*) FROM credits.events WHERE id > :seen;
BEGIN;
SAVEPOINT s;
SELECT balance FROM credits_deduct('low:1', 15);
ROLLBACK TO s;
SELECT balance FROM credits_deduct('low:1', 1);
COMMIT;
SELECT count(*) FROM credits.events WHERE id > :seen;
-- refused, replayed: nothing happened
SELECT balance FROM credits_deduct('low:1', 15, 'key');
SELECT count(*) FROM credits.events WHERE id > :seen;
SELECT balance, replayed FROM credits_deduct('low:1', 15, 'key');
SELECT credits_deduct('low:1', 15);
SELECT count(*) FROM credits.events WHERE id > :seen;
-- down, up and down in one transaction: twice
BEGIN;
SELECT balance FROM credits_allocate('low:1', 20);
SELECT balance FROM credits_deduct('low:1', 20);
SELECT balance FROM credits_allocate('low:1', 20);
SELECT balance FROM credits_deduct('low:1', 20);
COMMIT;
SELECT count(*) FROM credits.events WHERE id > :seen;

-- adjusting, voiding and expiring lower a balance too
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account('low:2', 12);
SELECT balance FROM credits_adjust('low:2', -3, 'correction');
SELECT transaction_id AS allocation FROM credits_allocate('low:2', 20) \gset
SELECT balance FROM credits_void_grant((SELECT id FROM credits.grants WHERE transaction_id = :allocation), 'void');
SELECT balance FROM credits_allocate('low:2', 20, expires_at => '2030-02-01');
SET credits.test_clock = '2030-02-02 00:00:00+00';
SELECT count(*) FROM credits.events WHERE id > :seen;
CALL credits_settle() \gset
SELECT transaction_id, created_at, detail FROM credits.events WHERE id > :seen ORDER BY id;
-- an expiry that a deduction comes across: once for what the two did
SELECT max(id) AS seen FROM credits.events \gset
SELECT balance FROM credits_allocate('low:2', 20, expires_at => '2030-03-01');
SET credits.test_clock = '2030-03-02 00:00:00+00';
SELECT balance FROM credits_deduct('low:2', 1);
SELECT transaction_id, created_at, detail FROM credits.events WHERE id > :seen ORDER BY id;
-- an expiry and an allocation that outweighs it
SELECT max(id) AS seen FROM credits.events \gset
SELECT balance FROM credits_allocate('low:2', 20, expires_at => '2030-04-01');
SET credits.test_clock = '2030-04-02 00:00:00+00';
SELECT balance FROM credits_allocate('low:2', 50);
SELECT transaction_id, created_at, detail FROM credits.events WHERE id > :seen ORDER BY id;

-- an account's own threshold
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account('low:3', 1000);
SELECT balance FROM credits_set_alerts('low:3', '500');
SELECT balance FROM credits_deduct('low:3', 500);
SELECT balance FROM credits_deduct('low:3', 1);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- moved over the balance it has: nothing fell
SELECT balance FROM credits_set_alerts('low:3', '100');
SELECT balance FROM credits_set_alerts('low:3', '1000');
SELECT balance FROM credits_deduct('low:3', 1);
SELECT count(*) FROM credits.events WHERE id > :seen;
-- back to the setting
SELECT balance FROM credits_set_alerts('low:3', clear => '{levels}');
SELECT balance FROM credits_deduct('low:3', 489);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- threshold 0: no alerts, not even at zero
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account('low:4', 10);
SELECT balance FROM credits_set_alerts('low:4', '');
SELECT balance FROM credits_deduct('low:4', 9);
SELECT count(*) FROM credits.events WHERE id > :seen;
SELECT balance FROM credits_deduct('low:4', 1);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- the setting
SELECT max(id) AS seen FROM credits.events \gset
RESET ROLE;
SET credits.alert_levels = '3';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('low:5', 10);
SELECT balance FROM credits_deduct('low:5', 7);
SELECT count(*) FROM credits.events WHERE id > :seen;
SELECT balance FROM credits_deduct('low:5', 1);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- several levels, in credits and in percent of the base: once for the lowest one crossed
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account('low:6', 1000);
SELECT kind, balance FROM credits_set_alerts('low:6', ' 20%, 100 ,5% ,10%');
SELECT balance FROM credits_deduct('low:6', 800);
SELECT balance FROM credits_deduct('low:6', 1);
SELECT balance FROM credits_deduct('low:6', 150);
SELECT balance FROM credits_deduct('low:6', 48);
SELECT id - :seen AS n, detail - 'account' - 'at' AS detail FROM credits.events WHERE id > :seen ORDER BY id;
-- a reward does not make 100 percent of what is left, a purchase and a period do
SELECT max(id) AS seen FROM credits.events \gset
SELECT balance FROM credits_allocate('low:6', 250, source => 'promotional');
SELECT balance FROM credits_deduct('low:6', 100);
SELECT base FROM credits.accounts WHERE name = 'low:6';
SELECT balance FROM credits_allocate('low:6', 60, source => 'purchase');
SELECT base FROM credits.accounts WHERE name = 'low:6';
SELECT balance FROM credits_deduct('low:6', 161);
SELECT id - :seen AS n, detail - 'account' - 'at' AS detail FROM credits.events WHERE id > :seen ORDER BY id;
-- but not what somebody else has bought
SELECT kind FROM credits_open_account('low:7', 500);
SELECT kind FROM credits_open_account('low:8');
SELECT balance FROM credits_allocate('low:8', 30, source => 'purchase');
SELECT (credits_deduct('low:7', 300)).balance, (credits_transfer('low:8', 'low:7', 30)).balance AS given;
SELECT name, base FROM credits.accounts WHERE name IN ('low:7', 'low:8') ORDER BY name;
-- a period that begins later
SELECT balance FROM credits_allocate('low:7', 100, source => 'subscription', effective_at => '2030-05-01');
SELECT base FROM credits.accounts WHERE name = 'low:7';
SET credits.test_clock = '2030-05-01 00:00:00+00';
SELECT balance FROM credits_deduct('low:7', 1);
SELECT base FROM credits.accounts WHERE name = 'low:7';
-- a base of its own
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_set_alerts('low:7', '10%', 2000, 'contract');
SELECT balance FROM credits_deduct('low:7', 150);
SELECT levels, terms, reason FROM (SELECT a.alert_levels AS levels, t.terms, t.reason FROM credits.accounts AS a
	JOIN credits.transactions AS t ON t.account_id = a.id AND t.kind = 'alerts' WHERE a.name = 'low:7') AS s;
SELECT kind FROM credits_set_alerts('low:7', clear => '{base}');
SELECT alert_levels, alert_base FROM credits.accounts WHERE name = 'low:7';
SELECT id - :seen AS n, detail - 'account' - 'at' AS detail FROM credits.events WHERE id > :seen ORDER BY id;
-- recovery, if asked for
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account('low:9', 100);
SELECT kind FROM credits_set_alerts('low:9', '50, 20');
SELECT balance FROM credits_deduct('low:9', 90);
SELECT balance FROM credits_allocate('low:9', 20);
RESET ROLE;
SET credits.alert_recovery = on;
SET ROLE regress_credits_admin;
SELECT balance FROM credits_allocate('low:9', 1);
SELECT balance FROM credits_deduct('low:9', 20);
SELECT balance FROM credits_allocate('low:9', 10);
SELECT balance FROM credits_allocate('low:9', 100);
SELECT balance FROM credits_allocate('low:9', 100);
-- the first credits are no recovery
SELECT balance FROM credits_open_account('first:1', 100);
SELECT balance FROM credits_open_account('first:2', 0);
SELECT balance FROM credits_allocate('first:2', 100);
RESET ROLE;
SET credits.alert_recovery = off;
SELECT id - :seen AS n, kind, detail - 'account' - 'at' AS detail FROM credits.events WHERE id > :seen ORDER BY id;
-- a setting is right at once, and only depletion can be asked for
SELECT max(id) AS seen FROM credits.events \gset
SET credits.alert_levels = '90%';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('low:10', 100);
SELECT balance FROM credits_deduct('low:10', 10);
SELECT balance FROM credits_deduct('low:10', 1);
RESET ROLE;
SET credits.alert_levels = '0';
SET ROLE regress_credits_admin;
SELECT balance FROM credits_deduct('low:10', 80);
SELECT balance FROM credits_deduct('low:10', 9);
SELECT id - :seen AS n, detail - 'account' - 'at' AS detail FROM credits.events WHERE id > :seen ORDER BY id;
-- large numbers
SELECT kind FROM credits_open_account('low:11', 9223372036854775807);
SELECT kind FROM credits_set_alerts('low:11', '100%, 99%, 1%, 9223372036854775807');
SELECT balance FROM credits_deduct('low:11', 92233720368547759);
SELECT detail - 'account' - 'at' AS detail FROM credits.events WHERE id > :seen ORDER BY id DESC LIMIT 1;
-- not lists of levels
SELECT credits_set_alerts('low:11', '101%');
SELECT credits_set_alerts('low:11', '0%');
SELECT credits_set_alerts('low:11', '-1');
SELECT credits_set_alerts('low:11', '1,');
SELECT credits_set_alerts('low:11', ',');
SELECT credits_set_alerts('low:11', '1.5');
SELECT credits_set_alerts('low:11', '1 2');
SELECT credits_set_alerts('low:11', '5 %');
SELECT credits_set_alerts('low:11', '9223372036854775808');
SELECT credits_set_alerts('low:11', repeat('1,', 16) || '1');
SELECT credits_set_alerts('low:11', repeat(' ', 10000000));
SELECT credits_set_alerts('low:11', base => 0);
SELECT credits_set_alerts('low:11', base => -1);
SELECT credits_set_alerts('low:11', '5', clear => '{levels}');
SELECT credits_set_alerts('low:11', clear => '{account}');
SELECT credits_set_alerts(NULL);
SELECT credits_set_alerts('low:none');
RESET ROLE;
SET credits.alert_levels = '20%, 10%, five';
RESET credits.alert_levels;
SET ROLE regress_credits_admin;
-- odd names stay JSON
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account(E'low "6" \\ \u00e9', 10);
SELECT balance FROM credits_deduct(E'low "6" \\ \u00e9', 10);
SELECT detail->>'account' AS account, detail->'balance' AS balance, detail->'depleted' AS depleted
FROM credits.events WHERE id > :seen ORDER BY id;
-- the longest name, with everything that JSON has to write longer
SELECT kind FROM credits_open_account(repeat('"', 255), 10);
SELECT balance FROM credits_deduct(repeat('"', 255), 10);
SELECT detail->>'account' = repeat('"', 255) AS same FROM credits.events WHERE id > :seen + 1;
SELECT kind, count(*) FROM credits.events WHERE id > 30000 AND id < 31000 GROUP BY kind;
SELECT * FROM credits_verify();
