-- promotions: discounts and bonus credits, for a while

CREATE SEQUENCE credits.promotions_id_seq;

CREATE TABLE credits.promotions (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	value numeric NOT NULL,
	currency text COLLATE "C",
	expires_in interval,
	plans text[],
	per_account bigint,
	max_uses bigint,
	active_from timestamptz NOT NULL,
	active_until timestamptz,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT promotions_kind CHECK (kind IN ('percent', 'fixed', 'bonus')),
	CONSTRAINT promotions_value
		CHECK (value > 0 AND value < 'Infinity'
			AND (kind <> 'percent' OR value <= 100)
			AND (kind <> 'bonus' OR value = trunc(value))),
	CONSTRAINT promotions_currency
		CHECK (currency ~ '^[A-Z]{3}$'
			AND (kind = 'fixed') = (currency IS NOT NULL)),
	CONSTRAINT promotions_expires_in
		CHECK (expires_in IS NULL OR kind = 'bonus'),
	CONSTRAINT promotions_limits CHECK (per_account > 0 AND max_uses > 0)
);

ALTER SEQUENCE credits.promotions_id_seq OWNED BY credits.promotions.id;
ALTER TABLE credits.promotions ADD CONSTRAINT promotions_pkey PRIMARY KEY (id);
CREATE INDEX promotions_name_idx ON credits.promotions (name, active_from, id);

COMMENT ON TABLE credits.promotions IS
	'terms of promotions, all versions; those in force have the latest active_from that has come; of several, the last ones made';
COMMENT ON COLUMN credits.promotions.kind IS
	'percent or fixed: off the price; bonus: additional credits';
COMMENT ON COLUMN credits.promotions.value IS
	'a percentage, an amount of money, or a number of credits';
COMMENT ON COLUMN credits.promotions.currency IS 'currency of a fixed value';
COMMENT ON COLUMN credits.promotions.expires_in IS
	'how long bonus credits live once they are given, NULL if they do not expire';
COMMENT ON COLUMN credits.promotions.plans IS
	'only for accounts with an active or trialing subscription to one of these plans; NULL for all accounts';
COMMENT ON COLUMN credits.promotions.per_account IS
	'how many purchases of one account may use it; NULL for any number';
COMMENT ON COLUMN credits.promotions.max_uses IS
	'how many purchases may use it in all; NULL for any number';
COMMENT ON COLUMN credits.promotions.active_until IS
	'from this instant on it does not apply; not later than active_from if it ends the promotion';
COMMENT ON COLUMN credits.promotions.role IS 'session_user that set it';

-- One row per promotion, whatever its terms.  It is locked to count a use.
CREATE TABLE credits.promotion_totals (
	promotion text COLLATE "C" NOT NULL,
	uses bigint NOT NULL,
	CONSTRAINT promotion_totals_pkey PRIMARY KEY (promotion),
	CONSTRAINT promotion_totals_not_negative CHECK (uses >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE credits.promotion_totals IS
	'how often each promotion was used: the rows of credits.promotion_uses that are not released';

CREATE TABLE credits.promotion_uses (
	purchase_id bigint NOT NULL,
	account_id bigint NOT NULL,
	promotion text COLLATE "C" NOT NULL,
	promotion_id bigint NOT NULL,
	created_at timestamptz NOT NULL,
	released_at timestamptz,
	CONSTRAINT promotion_uses_pkey PRIMARY KEY (purchase_id)
);

CREATE INDEX promotion_uses_promotion_idx
	ON credits.promotion_uses (promotion, account_id) WHERE released_at IS NULL;

COMMENT ON TABLE credits.promotion_uses IS
	'which purchase used which promotion';
COMMENT ON COLUMN credits.promotion_uses.promotion_id IS
	'the terms that were in force';
COMMENT ON COLUMN credits.promotion_uses.released_at IS
	'when the purchase failed or expired, so that the promotion could be used again; NULL if it has not';

SELECT pg_catalog.pg_extension_config_dump('credits.promotions', '');
SELECT pg_catalog.pg_extension_config_dump('credits.promotions_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('credits.promotion_totals', '');
SELECT pg_catalog.pg_extension_config_dump('credits.promotion_uses', '');
GRANT SELECT ON credits.promotions, credits.promotions_id_seq,
		credits.promotion_totals, credits.promotion_uses
	TO credits_admin, credits_auditor;

CREATE TRIGGER promotions_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.promotions
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.promotions ENABLE ALWAYS TRIGGER promotions_refuse_change;
CREATE TRIGGER promotion_totals_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.promotion_totals
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.promotion_totals
	ENABLE ALWAYS TRIGGER promotion_totals_refuse_change;
CREATE TRIGGER promotion_uses_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.promotion_uses
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.promotion_uses
	ENABLE ALWAYS TRIGGER promotion_uses_refuse_change;

CREATE VIEW credits.current_promotions AS
SELECT p.name,
	   p.kind,
	   p.value,
	   p.currency,
	   p.expires_in,
	   p.plans,
	   p.per_account,
	   p.max_uses,
	   t.uses,
	   p.max_uses OPERATOR(pg_catalog.-) t.uses AS left_over,
	   p.active_until,
	   p.id AS promotion_id
FROM (
	SELECT DISTINCT ON (v.name) v.*
	FROM credits.promotions AS v
	WHERE v.active_from OPERATOR(pg_catalog.<=) credits.now()
	ORDER BY v.name, v.active_from DESC, v.id DESC
) AS p
JOIN credits.promotion_totals AS t ON t.promotion OPERATOR(pg_catalog.=) p.name
WHERE p.active_until IS NULL
   OR p.active_until OPERATOR(pg_catalog.>) credits.now();
COMMENT ON VIEW credits.current_promotions IS
	'each promotion that applies now, and how often it is used';
GRANT SELECT ON credits.current_promotions TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_promotion(
	name text,
	kind text DEFAULT NULL,
	value numeric DEFAULT NULL,
	currency text DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	per_account bigint DEFAULT NULL,
	max_uses bigint DEFAULT NULL,
	plans text[] DEFAULT NULL,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_promotion IS
	'set the terms of a promotion, from now or a later instant on; what is left out stays; returns their id';
REVOKE ALL ON FUNCTION @extschema@.credits_set_promotion FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_promotion TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_promotion(
	name text,
	at timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_promotion IS
	'end a promotion, now or at a later instant: it no longer applies; returns the id of the terms that record this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_promotion FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_promotion TO credits_admin;
