-- Four ways to write 10,000 items, each in one transaction of one session.
-- :way says which, :accounts how many accounts there are.  Prints items per
-- second.
\set quiet on
\o /dev/null

-- the items, the same for all; account 1 is the one of many items
CREATE TEMP TABLE item AS
SELECT 'user:' || 1 + (random() * (:accounts - 1))::bigint AS account,
	   'request:' || (1e18 + random() * 8e18)::bigint AS key
FROM generate_series(1, 10000);
SELECT :'way' = 'calls' AS calls, :'way' = 'many' AS many, :'way' = 'one' AS one
\gset

\if :calls
	-- one prepared statement, executed 10,000 times from here
	PREPARE one_call(text, text) AS SELECT credits_deduct($1, 1, $2);
	SELECT format('EXECUTE one_call(%L, %L);', account, key) FROM item
	\g (tuples_only=on format=unaligned) :calls_file
	BEGIN;
	SELECT credits_deduct('user:1', 1);
	SELECT extract(epoch FROM clock_timestamp()) AS begun \gset
	\i :calls_file
	SELECT extract(epoch FROM clock_timestamp()) AS ended \gset
	COMMIT;
\elif :many
	BEGIN;
	SELECT credits_deduct('user:1', 1);
	SELECT extract(epoch FROM clock_timestamp()) AS begun \gset
	SELECT count(*) FROM credits_deduct_many(ARRAY(
		SELECT (account, 1, key, NULL, NULL, NULL)::credits.deduction FROM item));
	SELECT extract(epoch FROM clock_timestamp()) AS ended \gset
	COMMIT;
\elif :one
	BEGIN;
	SELECT credits_deduct('user:1', 1);
	SELECT extract(epoch FROM clock_timestamp()) AS begun \gset
	SELECT count(*) FROM credits_deduct_many(ARRAY(
		SELECT ('user:1', 1, key, NULL, NULL, NULL)::credits.deduction FROM item));
	SELECT extract(epoch FROM clock_timestamp()) AS ended \gset
	COMMIT;
\else
	-- rows like those of a batch, without anything that makes them right
	BEGIN;
	SELECT extract(epoch FROM clock_timestamp()) AS begun \gset
	INSERT INTO bare.transactions (
		id, account_id, created_at, amount, held, balance_after, held_after,
		role_id, request, kind_code, idempotency_key, draws, hash)
	SELECT nextval('bare.transactions_id_seq'), 1, now(), -1, NULL, 1000000, NULL,
		   1, 1, 'd', key, '\x0201'::bytea,
		   '\x0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'::bytea
	FROM item;
	SELECT extract(epoch FROM clock_timestamp()) AS ended \gset
	COMMIT;
\endif
\o
SELECT 10000 / (:ended - :begun);
