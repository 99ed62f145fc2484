-- Peer "least": the least that anyone could write.  A balance, a log, and the
-- two indexes without which a log cannot be read or a key be kept unique.

CREATE SCHEMA least;

CREATE TABLE least.accounts (
	name text COLLATE "C" PRIMARY KEY,
	id bigint NOT NULL,
	balance bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 60);

CREATE TABLE least.transactions (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account_id bigint NOT NULL,
	amount bigint NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	idempotency_key text COLLATE "C",
	UNIQUE (account_id, idempotency_key)
);

INSERT INTO least.accounts
SELECT name, id, balance FROM credits.accounts ORDER BY id;
INSERT INTO least.transactions (account_id, amount)
SELECT id, balance FROM credits.accounts ORDER BY id;
