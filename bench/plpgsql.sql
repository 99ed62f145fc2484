-- Peer "plpgsql", after twin.sql: the guarantees of credits_deduct in one
-- PL/pgSQL function.  It locks the account, answers a replay, checks the
-- clock, the status and the balance, burns grants in order, chains the log
-- row by sha256, and alerts on a low balance.
--
-- What it lacks: it only finds out that grants are due, it does not settle
-- them (none is here), and nothing but privileges keeps others from the
-- balance and the log.

CREATE TYPE plpgsql.receipt AS (
	transaction_id bigint,
	account text,
	kind text,
	amount bigint,
	balance bigint,
	held bigint,
	replayed boolean,
	created_at timestamptz
);

CREATE FUNCTION plpgsql.deduct(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS plpgsql.receipt
LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a record;
	g record;
	earlier record;
	at timestamptz;
	request bigint;
	needed bigint := amount;
	taken bigint;
	draws bigint[] := '{}';
	drawn bytea := '';
	actor text := nullif(current_setting('credits.actor', true), '');
	salt bytea;
	private bytea := '\x00';
	new_id bigint;
	hash bytea;
	threshold bigint;
BEGIN
	IF account IS NULL OR amount IS NULL THEN
		RAISE EXCEPTION 'account and amount must not be null'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF amount < 1
		OR octet_length(idempotency_key) NOT BETWEEN 1 AND 255
		OR octet_length(operation) NOT BETWEEN 1 AND 255
		OR octet_length(reference) NOT BETWEEN 1 AND 255
	THEN
		RAISE EXCEPTION 'invalid argument'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	SELECT t.id, t.status, t.balance, t.held, t.alert_levels, t.due_at,
		   t.last_at, t.head
	INTO a
	FROM plpgsql.accounts AS t
	WHERE t.name = account
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account "%" does not exist', account
			USING ERRCODE = 'PT404';
	END IF;

	-- a statement of its own: it must see what the lock waited for
	request := hashtextextended(
		concat_ws(e'\x01', 'deduction', amount,
				  quote_nullable(operation), quote_nullable(reference)), 0);
	IF idempotency_key IS NOT NULL THEN
		SELECT t.id, t.kind, t.amount, t.balance_after, t.held_after,
			   t.request, t.created_at
		INTO earlier
		FROM plpgsql.transactions AS t
		WHERE coalesce(t.member_id, t.account_id) = a.id
		  AND t.idempotency_key = deduct.idempotency_key;
		IF FOUND THEN
			IF earlier.request <> request THEN
				RAISE EXCEPTION 'idempotency key was used for another request'
					USING ERRCODE = 'PT409';
			END IF;
			RETURN (earlier.id, account, earlier.kind, earlier.amount,
					earlier.balance_after, earlier.held_after, true,
					earlier.created_at)::plpgsql.receipt;
		END IF;
	END IF;

	at := greatest(clock_timestamp(), a.last_at);
	IF a.due_at <= at THEN
		RAISE EXCEPTION 'grants of account "%" must be settled', account
			USING ERRCODE = 'feature_not_supported';
	END IF;
	IF a.status <> 'active' THEN
		RAISE EXCEPTION 'account "%" is %', account, a.status
			USING ERRCODE = 'PT423';
	END IF;
	IF a.balance < amount THEN
		RAISE EXCEPTION 'not enough credits'
			USING ERRCODE = 'PT402',
				  DETAIL = format('Account "%s" has %s, but %s are needed.',
								  account, a.balance, amount);
	END IF;

	FOR g IN
		SELECT t.id, t.remaining
		FROM plpgsql.grants AS t
		WHERE t.account_id = a.id AND t.status = 'open'
		ORDER BY t.priority, t.expires_at, t.effective_at, t.id
	LOOP
		taken := least(needed, g.remaining);
		UPDATE plpgsql.grants AS t
		SET remaining = g.remaining - taken,
			status = CASE WHEN taken = g.remaining THEN 'used'
						  ELSE t.status END
		WHERE t.id = g.id;
		draws := draws || ARRAY[ARRAY[g.id, -taken]];
		drawn := drawn || int8send(g.id) || int8send(-taken);
		needed := needed - taken;
		EXIT WHEN needed = 0;
	END LOOP;
	IF needed > 0 THEN
		RAISE EXCEPTION 'balance and grants of account "%" disagree', account
			USING ERRCODE = 'data_corrupted';
	END IF;

	new_id := nextval('plpgsql.transactions_id_seq');
	IF metadata IS NOT NULL OR actor IS NOT NULL THEN
		salt := uuid_send(gen_random_uuid());
		private := '\x01'::bytea || sha256(salt
			|| '\xffffffff'::bytea
			|| coalesce(int4send(octet_length(metadata::text))
						|| convert_to(metadata::text, 'UTF8'), '\xffffffff')
			|| coalesce(int4send(octet_length(actor))
						|| convert_to(actor, 'UTF8'), '\xffffffff'));
	END IF;
	hash := sha256(a.head || '\x01'::bytea
		|| int8send(new_id) || int8send(a.id)
		|| '\x00000009646564756374696f6e'::bytea	-- 9, deduction
		|| int8send(-amount) || int8send(0)
		|| int8send(a.balance - amount) || int8send(a.held)
		|| timestamptz_send(at)
		|| '\x000001'::bytea || int8send(request)	-- no target, no member
		|| int4send(octet_length(session_user))
		|| convert_to(session_user, 'UTF8')
		|| coalesce(int4send(octet_length(idempotency_key))
					|| convert_to(idempotency_key, 'UTF8'), '\xffffffff')
		|| coalesce(int4send(octet_length(operation))
					|| convert_to(operation, 'UTF8'), '\xffffffff')
		|| coalesce(int4send(octet_length(reference))
					|| convert_to(reference, 'UTF8'), '\xffffffff')
		|| int4send(array_length(draws, 1)) || drawn || private);

	UPDATE plpgsql.accounts AS t
	SET balance = a.balance - amount,
		spent = t.spent + amount,
		transaction_count = t.transaction_count + 1,
		last_transaction_id = new_id,
		last_at = at,
		head = hash
	WHERE t.id = a.id;

	INSERT INTO plpgsql.transactions (
		id, account_id, created_at, amount, held, balance_after, held_after,
		request, kind, role, idempotency_key, operation, reference, draws,
		metadata, actor, salt, hash)
	VALUES (
		new_id, a.id, at, -amount, 0, a.balance - amount, a.held,
		request, 'deduction', session_user, idempotency_key, operation,
		reference, draws, metadata, actor, salt, hash);

	threshold := coalesce(a.alert_levels::bigint,
		nullif(current_setting('credits.alert_levels', true), '')::bigint, 10);
	IF a.balance - amount < threshold
		AND (a.balance >= threshold OR a.balance = amount)
	THEN
		PERFORM pg_notify('low_balance', json_build_object(
			'account', account, 'balance', a.balance - amount,
			'threshold', threshold, 'transaction_id', new_id, 'at', at)::text);
	END IF;

	RETURN (new_id, account, 'deduction', -amount, a.balance - amount, a.held,
			false, at)::plpgsql.receipt;
END
$$;
