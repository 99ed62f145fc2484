-- chain: recomputed with plain SQL from the view, as an outsider would
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 60001;
ALTER SEQUENCE credits.grants_id_seq RESTART 60001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 60001;
SET ROLE regress_credits_admin;

-- the canonical form, from the documentation
CREATE FUNCTION regress_shop.text_bytes(value text) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT CASE WHEN value IS NULL THEN int4send(-1)
		ELSE int4send(octet_length(value)) || convert_to(value, getdatabaseencoding()) END
$$;
CREATE FUNCTION regress_shop.id_bytes(value bigint) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT CASE WHEN value IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || int8send(value) END
$$;
CREATE FUNCTION regress_shop.canonical(c credits.chain) RETURNS bytea LANGUAGE sql AS $$
	SELECT '\x02'::bytea || int8send(c.id) || int8send(c.account_id)
		|| regress_shop.text_bytes(c.kind)
		|| int8send(c.amount) || int8send(c.held)
		|| int8send(c.balance_after) || int8send(c.held_after)
		|| int8send(c.created_at)
		|| regress_shop.id_bytes(c.target_id) || regress_shop.id_bytes(c.member_id)
		|| regress_shop.text_bytes(c.role)
		|| regress_shop.text_bytes(c.operation)
		|| CASE WHEN c.draws IS NULL THEN int4send(-1)
		   ELSE int4send(coalesce(array_length(c.draws, 1), 0))
			|| coalesce((SELECT string_agg(int8send(c.draws[i][1]) || int8send(c.draws[i][2]), ''::bytea ORDER BY i)
						 FROM generate_subscripts(c.draws, 1) AS i), '') END
		|| regress_shop.text_bytes(c.terms)
		|| CASE WHEN c.salt IS NULL THEN '\x00'::bytea
		   WHEN length(c.salt) = 64 THEN '\x01'::bytea || decode(c.salt, 'hex')
		   ELSE '\x01'::bytea || sha256(decode(c.salt, 'hex')
			|| regress_shop.text_bytes(c.idempotency_key)
			|| regress_shop.text_bytes(c.reference)
			|| regress_shop.id_bytes(c.request)
			|| regress_shop.text_bytes(c.reason) || regress_shop.text_bytes(c.metadata)
			|| regress_shop.text_bytes(c.actor)) END
$$;
CREATE VIEW regress_shop.recomputed AS
SELECT account_id, id, kind, hash,
	   encode(sha256(coalesce(lag(decode(hash, 'hex')) OVER (PARTITION BY account_id ORDER BY id), '')
					 || regress_shop.canonical(c)), 'hex') AS expected
FROM credits.chain AS c;

-- rows of every shape
SET credits.test_clock = '2030-01-01 00:00:00.000001+00';
SELECT kind FROM credits_open_account('chain:1', 100);
SET credits.actor = E'\u00e4ctor';
SELECT balance FROM credits_allocate('chain:1', 50, 'key 1', 'order:1', E'Gr\u00fc\u00dfe', '{"b": 1, "a": [1.50, null, "x"]}', 'purchase', '2031-01-01',
	priority => 3, price => 9.99, currency => 'EUR');
RESET credits.actor;
SET credits.test_clock = '2030-01-01 00:00:00.999999+00';
SELECT balance FROM credits_deduct('chain:1', 60, 'key 2', E'op\u00e9ration', 'request:1');
SELECT balance FROM credits_deduct('chain:1', 1, metadata => '{}');
SELECT balance FROM credits_refund(60003, 55);
SELECT balance FROM credits_allocate('chain:1', 5, effective_at => '2030-06-01');
SELECT kind FROM credits_pause_account('chain:1', 'pause');
SELECT kind FROM credits_set_alerts('chain:1', '3');
SELECT kind FROM credits_resume_account('chain:1', 'resume');
SET credits.test_clock = '2031-06-01 00:00:00.5+00';
SELECT balance FROM credits_adjust('chain:1', -1, 'adjust');
SELECT balance FROM credits_void_grant(60003, 'void');
SELECT kind FROM credits_close_account('chain:1', 'close');
-- as far back and as far ahead as the clock goes
SET credits.test_clock = '1970-01-01 00:00:00.000001+00';
SELECT kind, created_at FROM credits_open_account('chain:2', 5);
SET credits.test_clock = '1999-12-31 23:59:59.999999+00';
SELECT kind, created_at FROM credits_open_account('chain:3', 5);
SET credits.test_clock = '9999-12-31 23:59:59.999999+00';
SELECT kind, created_at FROM credits_open_account('chain:4', 5);
SET credits.test_clock = '9998-12-31 23:59:59.123457+00';
SELECT kind, created_at FROM credits_open_account('chain:5', 5);
RESET credits.test_clock;
SELECT kind FROM credits_open_account('chain:6', 5);
-- what is held, what moves, and what a member spends from a pool
SELECT kind FROM credits_open_account('chain:7', 100);
SELECT kind FROM credits_open_account('chain:8', 10);
SELECT kind FROM credits_add_member('chain:7', 'chain:8', 50);
SELECT transaction_id AS hold FROM credits_hold('chain:8', 30, pool => 'chain:7', mode => 'own_first',
	idempotency_key => 'hold') \gset
SELECT kind FROM credits_extend_hold(:hold, '1 hour');
SELECT kind, amount FROM credits_capture(:hold, 25, metadata => '{"used": 25}');
SELECT transaction_id AS hold FROM credits_hold('chain:7', 5) \gset
SELECT kind, amount FROM credits_release(:hold, reason => 'unused');
SELECT transaction_id AS transfer FROM credits_transfer('chain:7', 'chain:8', 20, reason => 'moved') \gset
SELECT kind, amount FROM credits_reverse_transfer(:transfer, 'moved back', 5);
SELECT kind FROM credits_set_limits('chain:8', max_spend => 1000);

SELECT id, kind FROM regress_shop.recomputed
WHERE account_id BETWEEN 60001 AND 60999 AND hash <> expected ORDER BY id;
SELECT count(*), bool_and(hash = expected) FROM regress_shop.recomputed
WHERE account_id = 60001;
SELECT count(*) FILTER (WHERE hash <> expected) AS wrong
FROM regress_shop.recomputed;
SELECT kind, count(*) > 0 AS seen FROM credits.chain
WHERE account_id BETWEEN 60001 AND 60999 GROUP BY kind ORDER BY kind;
-- the accounts keep the heads
SELECT count(*) FROM credits.accounts AS a
JOIN LATERAL (SELECT r.expected, r.id FROM regress_shop.recomputed AS r
			  WHERE r.account_id = a.id ORDER BY r.id DESC LIMIT 1) AS r ON true
WHERE a.id BETWEEN 60001 AND 60999
  AND (encode(a.head, 'hex') <> r.expected OR a.last_transaction_id <> r.id);
-- and the digest is over all of them
SELECT credits_digest() = sha256(string_agg(int8send(id) || int8send(transaction_count) || head,
	''::bytea ORDER BY id)) AS same
FROM credits.accounts;
-- created_at in the view is exact
SELECT count(*) FROM credits.chain AS c JOIN credits.transactions AS t USING (id)
WHERE c.created_at <> (extract(epoch FROM t.created_at) * 1000000)::bigint;
SELECT * FROM credits_verify();

-- a new session continues the chain
\c -
SET timezone = 'UTC';
SELECT balance FROM credits_deduct('chain:6', 1);
SELECT count(*) FROM regress_shop.recomputed
WHERE account_id = 60006 AND hash = expected;
DROP VIEW regress_shop.recomputed;
DROP FUNCTION regress_shop.canonical, regress_shop.text_bytes, regress_shop.id_bytes;
