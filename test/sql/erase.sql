-- erase: a row of the log forgets what may name a person, and the chain stays whole
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 69001;
ALTER SEQUENCE credits.grants_id_seq RESTART 69001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 69001;
ALTER SEQUENCE credits.events_id_seq RESTART 69001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('erase:1', 100);
SET credits.actor = 'support: ann';
SELECT transaction_id FROM credits_deduct('erase:1', 10, 'order-4711', 'chat', 'invoice of ann@example.com',
	'{"name": "Ann"}');
SELECT transaction_id FROM credits_adjust('erase:1', 5, 'Ann has complained');
RESET credits.actor;
SELECT transaction_id FROM credits_deduct('erase:1', 1);
SELECT id, hash INTO TEMP hashes FROM credits.transactions WHERE account_id = 69001;

-- once, and where there is something to erase
SELECT credits_erase_text(69002);
SELECT credits_erase_text(69002);
SELECT credits_erase_text(transaction_id => 69003);
SELECT credits_erase_text(69004);
SELECT id, kind, amount, balance_after, idempotency_key, request, operation, reference, reason, metadata, actor,
	   octet_length(salt) AS salt, draws IS NOT NULL AS draws
FROM credits.transactions WHERE account_id = 69001 ORDER BY id;
SELECT count(*) AS same FROM hashes JOIN credits.transactions USING (id, hash);
SELECT * FROM credits_verify();
SELECT id, transaction_id, kind, detail = jsonb_build_object('role', session_user) AS by_us
FROM credits.events WHERE account_id = 69001 ORDER BY id;
SELECT kind, reference, reason, metadata FROM credits_history('erase:1');

-- what is left can still be refunded; the key is forgotten with the rest
SELECT kind, amount FROM credits_refund(69002, 4);
SELECT replayed, balance FROM credits_deduct('erase:1', 2, 'order-4711');
SELECT replayed, balance FROM credits_deduct('erase:1', 2, 'order-4711');
SELECT * FROM credits_verify();

-- undone with the transaction
BEGIN;
SELECT credits_erase_text(max(id)) FROM credits.transactions WHERE account_id = 69001;
ROLLBACK;
SELECT max(idempotency_key) FROM credits.transactions WHERE account_id = 69001;

-- the digest gives nothing away: equal texts have different ones
SELECT transaction_id AS a FROM credits_deduct('erase:1', 1, reference => 'the same') \gset
SELECT transaction_id AS b FROM credits_deduct('erase:1', 1, reference => 'the same') \gset
SELECT credits_erase_text(:a), credits_erase_text(:b);
SELECT count(DISTINCT salt) FROM credits.transactions WHERE id IN (:a, :b);
-- and equal requests have different fingerprints
SELECT kind FROM credits_open_account('erase:2', 100);
SELECT kind FROM credits_deduct('erase:2', 3, 'key');
SELECT kind FROM credits_deduct('erase:1', 3, 'key');
SELECT count(*), count(DISTINCT request) FROM credits.transactions
WHERE account_id IN (69001, 69002) AND idempotency_key = 'key';

-- nobody else's business
SELECT credits_erase_text(NULL);
SELECT credits_erase_text(0);
SELECT credits_erase_text(-69002);
SELECT credits_erase_text(9223372036854775807);
BEGIN READ ONLY;
SELECT credits_erase_text(:a);
ROLLBACK;
SET ROLE regress_credits_app;
SELECT credits_erase_text(69005);
RESET ROLE;
-- the log is immutable for all others, even if they do the same
UPDATE credits.log_default SET salt = sha256('x'), idempotency_key = NULL, request = NULL WHERE id = 69006;

-- texts that come back, or that lose their salt, are noticed
BEGIN;
ALTER TABLE credits.log_default DISABLE TRIGGER USER;
UPDATE credits.log_default SET reason = 'again' WHERE id = 69002;
UPDATE credits.log_default SET salt = substr(salt, 1, 16) WHERE id = 69003;
SELECT transaction_id, problem, detail FROM credits_verify('erase:1') ORDER BY 1, 3;
ROLLBACK;
