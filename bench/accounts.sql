-- Ours: the accounts that every script spends from, opened by real calls, with
-- so many credits that nothing is ever refused and no alert goes out.

CREATE EXTENSION credits;

SELECT count(credits_open_account('user:' || i, 1000000000))
FROM generate_series(1, :accounts) AS i;
