-- archive: arguments of credits_archive, what holds it back, and the refund window; the
-- rest needs a log in partitions, and is in test/t/archive.pl
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set VERBOSITY default
ALTER SEQUENCE credits.accounts_id_seq RESTART 46001;
ALTER SEQUENCE credits.grants_id_seq RESTART 46001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 46001;
SET ROLE regress_credits_admin;
CALL credits_archive(NULL);
CALL credits_archive('2030-01-01', NULL);
CALL credits_archive('2030-01-01', 0);
CALL credits_archive('2030-01-01', 100001);
BEGIN;
CALL credits_archive('2030-01-01');
ROLLBACK;

-- one partition is the last one: nothing can leave
RESET ROLE;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('archive:1', 100);
SELECT kind FROM credits_open_account('archive:2');
SELECT transaction_id AS spend FROM credits_deduct('archive:1', 10) \gset
SELECT transaction_id AS transfer FROM credits_transfer('archive:1', 'archive:2', 20) \gset
CALL credits_archive('2100-01-01');
SELECT count(*) FROM credits.archives;

-- what holds it back, by name
SELECT DISTINCT obstacle FROM credits_archive_obstacles('2030-01-01') ORDER BY 1;
SET credits.key_retention = '1 day';
SET credits.refund_window = '1 day';
SET credits.test_clock = '2031-01-01 00:00:00+00';
SELECT obstacle FROM credits_archive_obstacles() WHERE transaction_id >= 46001 ORDER BY 1;

-- too late to be undone
SELECT credits_refund(:spend);
SELECT credits_reverse_transfer(:transfer, 'late');
SET credits.refund_window = '2 years';
SELECT kind, amount FROM credits_refund(:spend);
SELECT kind, amount FROM credits_reverse_transfer(:transfer, 'in time');
RESET credits.refund_window;
RESET credits.key_retention;
RESET credits.test_clock;

SET ROLE regress_credits_app;
CALL credits_archive('2030-01-01');
SELECT * FROM credits_archive_obstacles();
RESET ROLE;
SELECT * FROM credits_verify('archive:1');
SELECT * FROM credits_verify('archive:2');
