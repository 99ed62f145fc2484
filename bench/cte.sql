-- Peer "cte", after twin.sql: hand-written SQL without a chain has no hashes.

ALTER TABLE cte.accounts ALTER COLUMN head DROP NOT NULL;
ALTER TABLE cte.transactions ALTER COLUMN hash DROP NOT NULL;
UPDATE cte.transactions SET hash = NULL;
UPDATE cte.accounts SET head = NULL;
VACUUM FULL cte.transactions;
VACUUM FULL cte.accounts;
