-- privacy: export everything that is held about a person, and erase it

-- where messages name an account: a name may be a word that stands in quotation marks for
-- something else, too
CREATE FUNCTION credits.renamed_in_message(message text, name text, alias text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT replace(replace(replace(replace($1,
		'account ' || n.name, 'account ' || n.alias), 'Account ' || n.name, 'Account ' || n.alias),
		'pool ' || n.name, 'pool ' || n.alias), 'above ' || n.name, 'above ' || n.alias)
	FROM (SELECT '"' || $2 || '"', '"' || $3 || '"') AS n (name, alias)
$$;
COMMENT ON FUNCTION credits.renamed_in_message IS
	'a message in which an account has another name';

CREATE FUNCTION credits.renamed(document jsonb, name text, alias text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT $1 || COALESCE(jsonb_object_agg(d.key, CASE
		WHEN d.key IN ('account', 'pool') THEN $3
		ELSE credits.renamed_in_message(d.value, $2, $3) END), '{}')
	FROM jsonb_each_text($1) AS d
	WHERE d.key IN ('account', 'pool') AND d.value = $2 OR d.key IN ('message', 'missing')
$$;
COMMENT ON FUNCTION credits.renamed IS
	'a document in which an account has another name';

CREATE FUNCTION credits.erased_reference(salt bytea, reference text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN $2 ~ '^erased:[0-9a-f]{32}$' THEN $2
		-- what Stripe says later about a payment, an invoice or a subscription is found by it
		WHEN EXISTS (SELECT FROM credits.stripe_subjects AS s WHERE s.subject = $2)
		  OR EXISTS (SELECT FROM credits.stripe_links AS l WHERE $2 IN (l.payment, l.invoice))
		  OR EXISTS (SELECT FROM credits.stripe_invoices AS i WHERE i.invoice = $2)
		THEN $2
		ELSE 'erased:' || left(encode(sha256($1 || convert_to($2, 'UTF8')), 'hex'), 32)
	END
$$;
COMMENT ON FUNCTION credits.erased_reference IS
	'what stands for a reference of a person who is erased; ids of Stripe''s payments, invoices and subscriptions stay';

CREATE FUNCTION credits.erased_customer(customer text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN $1 ~ '^erased:[0-9a-f]{64}$' THEN $1
		   ELSE 'erased:' || encode(sha256(convert_to($1, 'UTF8')), 'hex') END
$$;
COMMENT ON FUNCTION credits.erased_customer IS
	'digest of Stripe''s id of a customer, by which one who was erased is recognised';

CREATE FUNCTION credits.erased_facts(facts jsonb, account_id bigint, alias text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN NOT $1 ? 'reference' OR EXISTS (
			SELECT FROM credits.purchases AS p
			WHERE p.reference = $1 ->> 'reference' AND p.account_id = $2)
		THEN f.facts ELSE f.facts - 'reference' END
	FROM (SELECT $1
		|| CASE WHEN $1 ? 'account' THEN jsonb_build_object('account', $3) ELSE '{}' END
		|| CASE WHEN $1 ? 'customer'
				THEN jsonb_build_object('customer', credits.erased_customer($1 ->> 'customer'))
				ELSE '{}' END) AS f (facts)
$$;
COMMENT ON FUNCTION credits.erased_facts IS
	'the facts of an event of Stripe without what names a person: amounts and ids of payments stay';

CREATE FUNCTION credits.stripe_ids_of(account_id bigint)
RETURNS SETOF text
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH p AS MATERIALIZED (
		SELECT p.payment_reference AS id
		FROM credits.purchases AS p
		WHERE p.account_id = $1 AND p.payment_reference IS NOT NULL
		UNION
		SELECT s.external_id
		FROM credits.subscriptions AS s
		WHERE s.account_id = $1 AND s.external_id IS NOT NULL
	),
	i AS MATERIALIZED (
		SELECT p.id FROM p
		UNION
		SELECT l.invoice FROM p JOIN credits.stripe_links AS l ON l.payment = p.id
		UNION
		SELECT l.invoice FROM p JOIN credits.stripe_lines AS l ON l.subscription = p.id
	)
	SELECT i.id FROM i
	UNION
	SELECT l.payment FROM i JOIN credits.stripe_links AS l ON l.invoice = i.id
$$;
COMMENT ON FUNCTION credits.stripe_ids_of IS
	'ids that Stripe gave to the payments, invoices and subscriptions of an account';

REVOKE ALL ON FUNCTION credits.renamed_in_message, credits.renamed, credits.erased_reference, credits.erased_customer,
	credits.erased_facts, credits.stripe_ids_of FROM PUBLIC;

CREATE FUNCTION credits.personal_data(
	OUT table_name text,
	OUT column_name text,
	OUT erased boolean,
	OUT exported boolean,
	OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'credits_personal_data' LANGUAGE C STABLE PARALLEL SAFE ROWS 600;
COMMENT ON FUNCTION credits.personal_data IS
	'every column of every table: whether credits_erase_person erases it, and why not, and whether credits_export_person shows its rows';
REVOKE ALL ON FUNCTION credits.personal_data FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.personal_data TO credits_admin, credits_auditor;

CREATE PROCEDURE @extschema@.credits_erase_person(
	account text,
	reason text,
	batch_size integer DEFAULT 1000,
	INOUT alias text DEFAULT NULL,
	INOUT erased bigint DEFAULT NULL,
	INOUT ended boolean DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_erase_person IS
	'close an account, and erase everything that names or describes the person who has it, a commit per batch; balances and sums stay, and the chain verifies';
REVOKE ALL ON PROCEDURE @extschema@.credits_erase_person FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_erase_person TO credits_admin;

CREATE FUNCTION @extschema@.credits_export_person(account text)
RETURNS TABLE (place text, item jsonb)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_export_person(text) IS
	'everything that is held about the person who has an account: a row per row of each table that has any';
REVOKE ALL ON FUNCTION @extschema@.credits_export_person FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_export_person TO credits_admin;

CREATE FUNCTION @extschema@.credits_export_person_json(account text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT COALESCE(jsonb_object_agg(p.place, p.items), '{}')
	FROM (SELECT e.place, jsonb_agg(e.item) AS items
		  FROM @extschema@.credits_export_person($1) AS e
		  GROUP BY e.place) AS p
$$;
COMMENT ON FUNCTION @extschema@.credits_export_person_json IS
	'everything that is held about the person who has an account, as one document';
REVOKE ALL ON FUNCTION @extschema@.credits_export_person_json FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_export_person_json TO credits_admin;
