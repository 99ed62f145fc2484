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
SHOW credits.low_balance;
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
SELECT balance FROM credits_set_low_balance('low:3', 500);
SELECT balance FROM credits_deduct('low:3', 500);
SELECT balance FROM credits_deduct('low:3', 1);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- moved over the balance it has: nothing fell
SELECT balance FROM credits_set_low_balance('low:3', 100);
SELECT balance FROM credits_set_low_balance('low:3', 1000);
SELECT balance FROM credits_deduct('low:3', 1);
SELECT count(*) FROM credits.events WHERE id > :seen;
-- back to the setting
SELECT balance FROM credits_set_low_balance('low:3', NULL);
SELECT balance FROM credits_deduct('low:3', 489);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- threshold 0: no alerts, not even at zero
SELECT max(id) AS seen FROM credits.events \gset
SELECT kind FROM credits_open_account('low:4', 10);
SELECT balance FROM credits_set_low_balance('low:4', 0);
SELECT balance FROM credits_deduct('low:4', 9);
SELECT count(*) FROM credits.events WHERE id > :seen;
SELECT balance FROM credits_deduct('low:4', 1);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
-- the setting
SELECT max(id) AS seen FROM credits.events \gset
RESET ROLE;
SET credits.low_balance = 3;
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('low:5', 10);
SELECT balance FROM credits_deduct('low:5', 7);
SELECT count(*) FROM credits.events WHERE id > :seen;
SELECT balance FROM credits_deduct('low:5', 1);
SELECT detail FROM credits.events WHERE id > :seen ORDER BY id;
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
