-- disputes: what accounts object to in the log, and what became of it

CREATE SEQUENCE credits.disputes_id_seq;

-- The row lock of the account guards its disputes.  Transactions leave the log when
-- they are archived, so nothing holds them there.
CREATE TABLE credits.disputes (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	transaction_id bigint NOT NULL,
	requested bigint NOT NULL,
	refunded bigint NOT NULL,
	refund_id bigint,
	opened_at timestamptz NOT NULL,
	reviewed_at timestamptz,
	overdue_at timestamptz,
	ended_at timestamptz,
	request bigint,
	status text COLLATE "C" NOT NULL,
	reason text COLLATE "C" NOT NULL,
	assignee text COLLATE "C",
	decided_by text COLLATE "C",
	role text COLLATE "C" NOT NULL,
	idempotency_key text COLLATE "C",
	description text,
	note text,
	actor text COLLATE "C",
	CONSTRAINT disputes_amounts
		CHECK (requested > 0 AND CASE status
			WHEN 'resolved' THEN refunded = requested
			WHEN 'resolved_in_part' THEN refunded > 0 AND refunded < requested
			ELSE refunded = 0 END),
	CONSTRAINT disputes_decided
		CHECK ((decided_by IS NOT NULL) = (status IN ('resolved', 'resolved_in_part', 'rejected'))),
	CONSTRAINT disputes_ended
		CHECK ((ended_at IS NULL) = (status IN ('open', 'in_review'))),
	CONSTRAINT disputes_reason
		CHECK (reason IN ('not_received', 'not_as_described', 'duplicate', 'wrong_amount', 'unauthorized', 'other')),
	CONSTRAINT disputes_refund CHECK ((refund_id IS NULL) = (refunded = 0)),
	CONSTRAINT disputes_review
		CHECK ((assignee IS NULL) = (reviewed_at IS NULL)
			AND (assignee IS NULL OR status <> 'open')
			AND (assignee IS NOT NULL OR status <> 'in_review')),
	CONSTRAINT disputes_status
		CHECK (status IN ('open', 'in_review', 'resolved', 'resolved_in_part', 'rejected', 'withdrawn'))
);

ALTER SEQUENCE credits.disputes_id_seq OWNED BY credits.disputes.id;
ALTER TABLE credits.disputes ADD CONSTRAINT disputes_pkey PRIMARY KEY (id);
-- one at a time
CREATE UNIQUE INDEX disputes_transaction_id_idx ON credits.disputes (transaction_id)
	WHERE ended_at IS NULL;
CREATE UNIQUE INDEX disputes_idempotency_key_idx ON credits.disputes (account_id, idempotency_key)
	WHERE idempotency_key IS NOT NULL;
-- with all that the queue is filtered by
CREATE INDEX disputes_account_id_idx ON credits.disputes (account_id, opened_at, id)
	INCLUDE (status, reason, assignee);
-- for the queue, which looks at one status and one reason after the other
CREATE INDEX disputes_status_idx ON credits.disputes (status, reason, opened_at, id);
CREATE INDEX disputes_assignee_idx ON credits.disputes (assignee, status, reason, opened_at, id)
	WHERE assignee IS NOT NULL;
-- for credits.dispute_deadline
CREATE INDEX disputes_opened_at_idx ON credits.disputes (opened_at, id)
	WHERE ended_at IS NULL AND overdue_at IS NULL;
CREATE INDEX disputes_ended_at_idx ON credits.disputes (ended_at)
	WHERE ended_at IS NOT NULL;

COMMENT ON TABLE credits.disputes IS
	'one row per dispute: a spend that an account objects to; changed only by the credits_* functions';
COMMENT ON COLUMN credits.disputes.account_id IS
	'the account that has opened it: that of the transaction, or the member of a pool that has spent';
COMMENT ON COLUMN credits.disputes.transaction_id IS
	'the spend, which may have been archived since';
COMMENT ON COLUMN credits.disputes.requested IS 'how much is to be given back';
COMMENT ON COLUMN credits.disputes.refunded IS 'how much was given back; 0 until it is resolved';
COMMENT ON COLUMN credits.disputes.refund_id IS 'the transaction that gave it back; NULL if none did';
COMMENT ON COLUMN credits.disputes.reviewed_at IS 'when somebody began to review it';
COMMENT ON COLUMN credits.disputes.overdue_at IS
	'when event dispute_overdue was written; NULL if it was not';
COMMENT ON COLUMN credits.disputes.ended_at IS
	'when it was resolved, rejected or withdrawn; NULL if it is open or in review';
COMMENT ON COLUMN credits.disputes.request IS
	'fingerprint of the request, to distinguish a retry from a reused key; NULL without a key';
COMMENT ON COLUMN credits.disputes.status IS
	'open, in_review, resolved, resolved_in_part, rejected or withdrawn';
COMMENT ON COLUMN credits.disputes.reason IS
	'not_received, not_as_described, duplicate, wrong_amount, unauthorized or other';
COMMENT ON COLUMN credits.disputes.assignee IS 'who reviews it, or did last; NULL if nobody has';
COMMENT ON COLUMN credits.disputes.decided_by IS
	'who resolved or rejected it: the setting credits.actor or, if that is empty, session_user';
COMMENT ON COLUMN credits.disputes.role IS 'session_user that opened it';
COMMENT ON COLUMN credits.disputes.description IS 'what the account says about it; NULL if it was erased';
COMMENT ON COLUMN credits.disputes.note IS 'what the account is answered; NULL if it was erased';
COMMENT ON COLUMN credits.disputes.actor IS
	'the setting credits.actor of who opened it; NULL if it was erased';

SELECT pg_catalog.pg_extension_config_dump('credits.disputes', '');
SELECT pg_catalog.pg_extension_config_dump('credits.disputes_id_seq', '');
GRANT SELECT ON credits.disputes, credits.disputes_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER disputes_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.disputes
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.disputes ENABLE ALWAYS TRIGGER disputes_refuse_change;

CREATE TYPE credits.dispute AS (
	dispute_id bigint,
	account text,
	transaction_id bigint,
	reason text,
	requested bigint,
	status text,
	assignee text,
	refunded bigint,
	refund_id bigint,
	opened_at timestamptz,
	ended_at timestamptz,
	replayed boolean
);
COMMENT ON TYPE credits.dispute IS
	'what a function that opens or changes a dispute returns: the dispute, and whether that was done before';

CREATE FUNCTION @extschema@.credits_open_dispute(
	account text,
	transaction_id bigint,
	reason text,
	description text DEFAULT NULL,
	requested bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS credits.dispute
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_open_dispute IS
	'object to a spend of an account, and ask for some of it back; for all that can still be refunded unless an amount is given';
REVOKE ALL ON FUNCTION @extschema@.credits_open_dispute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_open_dispute TO credits_app;

CREATE FUNCTION @extschema@.credits_withdraw_dispute(account text, dispute_id bigint)
RETURNS credits.dispute
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_withdraw_dispute IS
	'withdraw a dispute of an account that is not decided yet';
REVOKE ALL ON FUNCTION @extschema@.credits_withdraw_dispute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_withdraw_dispute TO credits_app;

CREATE FUNCTION @extschema@.credits_assign_dispute(dispute_id bigint, assignee text DEFAULT NULL)
RETURNS credits.dispute
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_assign_dispute IS
	'say who reviews a dispute, the caller by default; it is in review from then on';
REVOKE ALL ON FUNCTION @extschema@.credits_assign_dispute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_assign_dispute TO credits_admin;

CREATE FUNCTION @extschema@.credits_resolve_dispute(
	dispute_id bigint,
	amount bigint,
	note text DEFAULT NULL)
RETURNS credits.dispute
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resolve_dispute IS
	'decide a dispute, and refund what is granted: all that was requested, a part of it, or 0 to reject it';
REVOKE ALL ON FUNCTION @extschema@.credits_resolve_dispute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resolve_dispute TO credits_admin;

CREATE FUNCTION @extschema@.credits_erase_dispute(dispute_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_erase_dispute IS
	'erase description, note, key and actor of a dispute for good; false if it has none of them';
REVOKE ALL ON FUNCTION @extschema@.credits_erase_dispute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_erase_dispute TO credits_admin;

CREATE FUNCTION credits.dispute_position(dispute_id bigint)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_dispute_position' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.dispute_position IS
	'opened_at of a dispute, NULL for NULL; PT404 if there is no such dispute';
REVOKE ALL ON FUNCTION credits.dispute_position FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.dispute_position TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_disputes(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	dispute_id bigint,
	transaction_id bigint,
	reason text,
	description text,
	requested bigint,
	status text,
	refunded bigint,
	refund_id bigint,
	note text,
	opened_at timestamptz,
	reviewed_at timestamptz,
	ended_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.id, d.transaction_id, d.reason, d.description, d.requested, d.status,
		   d.refunded, d.refund_id, d.note, d.opened_at, d.reviewed_at, d.ended_at
	FROM credits.disputes AS d
	WHERE d.account_id = (SELECT credits.account_id($1))
	  AND (d.opened_at, d.id) < ((SELECT COALESCE(credits.dispute_position($3), 'infinity')),
								 (SELECT COALESCE($3, 9223372036854775807)))
	ORDER BY d.opened_at DESC, d.id DESC
	LIMIT credits.max_rows($2)
$$;
COMMENT ON FUNCTION @extschema@.credits_disputes IS
	'disputes of an account, newest first; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_disputes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_disputes TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_dispute_queue(
	statuses text[] DEFAULT '{open,in_review}',
	reason text DEFAULT NULL,
	assignee text DEFAULT NULL,
	account text DEFAULT NULL,
	older_than interval DEFAULT NULL,
	max_rows integer DEFAULT 50,
	after_id bigint DEFAULT NULL)
RETURNS TABLE (
	dispute_id bigint,
	account text,
	transaction_id bigint,
	reason text,
	description text,
	requested bigint,
	status text,
	assignee text,
	refunded bigint,
	refund_id bigint,
	decided_by text,
	note text,
	opened_at timestamptz,
	reviewed_at timestamptz,
	ended_at timestamptz,
	age interval,
	overdue boolean)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- Each of the three looks at one index, and only one of them at all.  For each status
	-- and reason, that of the first two begins where the page does, in its order.
	WITH bounds AS MATERIALIZED (
		SELECT COALESCE(credits.dispute_position($7), '-infinity') AS after_at,
			   COALESCE($7, 0) AS after_id,
			   COALESCE(credits.now() - $5, 'infinity') AS until,
			   CASE WHEN $4 IS NOT NULL THEN credits.account_id($4) END AS account_id
	), wanted AS MATERIALIZED (
		SELECT b.after_at, b.after_id, b.until, s.status, r.reason
		FROM bounds AS b,
			 unnest(ARRAY['open', 'in_review', 'resolved', 'resolved_in_part',
						  'rejected', 'withdrawn']) AS s (status),
			 unnest(ARRAY['not_received', 'not_as_described', 'duplicate', 'wrong_amount',
						  'unauthorized', 'other']) AS r (reason)
		WHERE ($1 IS NULL OR s.status = ANY ($1)) AND ($2 IS NULL OR r.reason = $2)
	), page AS MATERIALIZED (
		SELECT p.id, p.opened_at
		FROM (
			SELECT q.id, q.opened_at
			FROM wanted AS w CROSS JOIN LATERAL (
				SELECT d.id, d.opened_at
				FROM credits.disputes AS d
				WHERE $3 IS NULL AND $4 IS NULL
				  AND d.status = w.status AND d.reason = w.reason
				  AND (d.opened_at, d.id) > (w.after_at, w.after_id) AND d.opened_at <= w.until
				ORDER BY d.opened_at, d.id LIMIT credits.max_rows($6)) AS q
			UNION ALL
			SELECT q.id, q.opened_at
			FROM wanted AS w CROSS JOIN LATERAL (
				SELECT d.id, d.opened_at
				FROM credits.disputes AS d
				WHERE $3 IS NOT NULL AND $4 IS NULL
				  AND d.assignee = $3 AND d.status = w.status AND d.reason = w.reason
				  AND (d.opened_at, d.id) > (w.after_at, w.after_id) AND d.opened_at <= w.until
				ORDER BY d.opened_at, d.id LIMIT credits.max_rows($6)) AS q
			UNION ALL
			SELECT q.id, q.opened_at
			FROM bounds AS b CROSS JOIN LATERAL (
				SELECT d.id, d.opened_at
				FROM credits.disputes AS d
				WHERE $4 IS NOT NULL AND d.account_id = b.account_id
				  AND (d.opened_at, d.id) > (b.after_at, b.after_id) AND d.opened_at <= b.until
				  AND ($1 IS NULL OR d.status = ANY ($1)) AND ($2 IS NULL OR d.reason = $2)
				  AND ($3 IS NULL OR d.assignee = $3)
				ORDER BY d.opened_at, d.id LIMIT credits.max_rows($6)) AS q
		) AS p
		ORDER BY p.opened_at, p.id LIMIT credits.max_rows($6)
	)
	SELECT d.id, (SELECT a.name FROM credits.accounts AS a WHERE a.id = d.account_id),
		   d.transaction_id, d.reason, d.description, d.requested, d.status, d.assignee,
		   d.refunded, d.refund_id, d.decided_by, d.note, d.opened_at, d.reviewed_at,
		   d.ended_at, COALESCE(d.ended_at, credits.now()) - d.opened_at,
		   d.overdue_at IS NOT NULL
	FROM page AS p CROSS JOIN LATERAL (
		SELECT r.* FROM credits.disputes AS r WHERE r.id = p.id OFFSET 0) AS d
	ORDER BY p.opened_at, p.id
$$;
COMMENT ON FUNCTION @extschema@.credits_dispute_queue IS
	'disputes to be decided, oldest first, or others by status; page on with after_id';
REVOKE ALL ON FUNCTION @extschema@.credits_dispute_queue FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_dispute_queue TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_dispute_statistics(
	since timestamptz DEFAULT NULL,
	until timestamptz DEFAULT NULL)
RETURNS TABLE (
	reason text,
	decided_by text,
	disputes bigint,
	resolved bigint,
	resolved_in_part bigint,
	rejected bigint,
	withdrawn bigint,
	requested numeric,
	refunded numeric,
	share numeric,
	median_time interval,
	p90_time interval,
	p99_time interval,
	overdue bigint)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 20
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.reason, d.decided_by, count(*),
		   count(*) FILTER (WHERE d.status = 'resolved'),
		   count(*) FILTER (WHERE d.status = 'resolved_in_part'),
		   count(*) FILTER (WHERE d.status = 'rejected'),
		   count(*) FILTER (WHERE d.status = 'withdrawn'),
		   sum(d.requested), sum(d.refunded),
		   round(sum(d.refunded) / sum(d.requested), 4),
		   percentile_disc(0.5) WITHIN GROUP (ORDER BY d.ended_at - d.opened_at)
			   FILTER (WHERE d.status <> 'withdrawn'),
		   percentile_disc(0.9) WITHIN GROUP (ORDER BY d.ended_at - d.opened_at)
			   FILTER (WHERE d.status <> 'withdrawn'),
		   percentile_disc(0.99) WITHIN GROUP (ORDER BY d.ended_at - d.opened_at)
			   FILTER (WHERE d.status <> 'withdrawn'),
		   count(d.overdue_at)
	FROM credits.disputes AS d
	WHERE d.ended_at >= COALESCE($1, '-infinity') AND d.ended_at < COALESCE($2, 'infinity')
	GROUP BY GROUPING SETS ((), (d.reason), (d.decided_by))
	HAVING GROUPING(d.decided_by) = 1 OR d.decided_by IS NOT NULL
	ORDER BY GROUPING(d.reason) + GROUPING(d.decided_by) DESC, d.reason, d.decided_by
$$;
COMMENT ON FUNCTION @extschema@.credits_dispute_statistics IS
	'disputes that ended within a time: outcomes, share of what was requested that was refunded, and time to the decision; in all, by reason and by administrator';
REVOKE ALL ON FUNCTION @extschema@.credits_dispute_statistics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_dispute_statistics TO credits_admin, credits_auditor;
