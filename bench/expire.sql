-- Peer "expire", after twin.sql: what is due, a batch of 1,000 grants at a time,
-- each in a transaction of its own.  What it lacks: the chain, the instant at
-- which an account is due again, who did it, and accounts that fail and are left
-- out.

ALTER TABLE expire.accounts ALTER COLUMN head DROP NOT NULL;
ALTER TABLE expire.transactions ALTER COLUMN hash DROP NOT NULL;
UPDATE expire.transactions SET hash = NULL;
UPDATE expire.accounts SET head = NULL;
VACUUM FULL expire.transactions;
VACUUM FULL expire.accounts;

CREATE PROCEDURE expire.settle(now timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	last_at timestamptz := '-infinity';
	last_id bigint := 0;
BEGIN
	LOOP
		WITH due AS MATERIALIZED (
			SELECT id, account_id, remaining, expires_at
			FROM expire.grants
			WHERE status = 'open' AND (expires_at, id) > (last_at, last_id) AND expires_at <= settle.now
			ORDER BY expires_at, id
			LIMIT 1000
			FOR UPDATE SKIP LOCKED
		), g AS (
			UPDATE expire.grants AS t SET status = 'expired', remaining = 0
			FROM due WHERE t.id = due.id
		), a AS (
			UPDATE expire.accounts AS t
			SET balance = t.balance - d.amount,
				expired = t.expired + d.amount,
				transaction_count = t.transaction_count + d.n,
				last_at = d.expires_at,
				due_at = 'infinity'
			FROM (
				SELECT account_id, sum(remaining) AS amount, count(*) AS n, max(expires_at) AS expires_at
				FROM due GROUP BY account_id
			) AS d
			WHERE t.id = d.account_id
			RETURNING t.id, t.balance
		), t AS (
			INSERT INTO expire.transactions (
				id, account_id, created_at, amount, held, balance_after, held_after, kind, role, draws)
			SELECT nextval('expire.transactions_id_seq'), d.account_id, d.expires_at, -d.remaining, 0,
				   a.balance, 0, 'expiration', session_user, ARRAY[ARRAY[d.id, -d.remaining]]
			FROM due AS d JOIN a ON a.id = d.account_id
			ORDER BY d.expires_at, d.id
		)
		SELECT d.expires_at, d.id INTO last_at, last_id
		FROM due AS d ORDER BY d.expires_at DESC, d.id DESC LIMIT 1;
		EXIT WHEN NOT FOUND;
		COMMIT;
	END LOOP;
END
$$;
