-- history: the log of one account, newest first

CREATE FUNCTION credits.history_position(account text, transaction_id bigint)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_history_position' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.history_position IS
	'created_at of a transaction of the account, infinity for NULL; PT404 if the account has no such transaction';
REVOKE ALL ON FUNCTION credits.history_position FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.history_position TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_history(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL,
	kinds text[] DEFAULT NULL,
	since timestamptz DEFAULT NULL,
	until timestamptz DEFAULT NULL)
RETURNS TABLE (
	transaction_id bigint,
	created_at timestamptz,
	kind text,
	amount bigint,
	held bigint,
	balance bigint,
	operation text,
	reference text,
	reason text,
	metadata jsonb,
	target_id bigint,
	idempotency_key text,
	role text,
	actor text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH s AS MATERIALIZED (
		SELECT * FROM credits.book_starts
		WHERE account_id = (SELECT credits.account_id($1))
	)
	(SELECT t.id, t.created_at, credits.kind_name(t.kind_code), t.amount,
			COALESCE(t.held, 0), t.balance_after, t.operation, t.reference, t.reason,
			t.metadata, t.target_id, t.idempotency_key, credits.role_name(t.role_id),
			t.actor
	 FROM credits.log_rows((SELECT credits.account_id($1)),
						   (SELECT credits.history_position($1, $3)), $3,
						   (SELECT s.transaction_id FROM s), $5, $6, $4, $2) AS t)
	UNION ALL
	-- where the rest is
	SELECT s.transaction_id, s.created_at, 'archived', 0, 0, s.balance,
		   NULL, NULL, NULL, jsonb_build_object('transactions', s.transaction_count),
		   NULL, NULL, NULL, NULL
	FROM s
	WHERE (s.created_at, s.transaction_id) <
		  ((SELECT credits.history_position($1, $3)),
		   COALESCE($3, 9223372036854775807))
	  AND s.created_at >= COALESCE($5, '-infinity'::timestamptz)
	  AND s.created_at < COALESCE($6, 'infinity'::timestamptz)
	  AND ($4 IS NULL OR 'archived' = ANY ($4))
	ORDER BY 2 DESC, 1 DESC
	LIMIT credits.max_rows($2)
$$;
COMMENT ON FUNCTION @extschema@.credits_history IS
	'transactions of an account, newest first, each with the balance after it; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_history TO credits_app, credits_auditor;
