-- promotions: what is cheaper for a while, or comes with more

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
	'terms of promotions, all versions; in force are those with the latest active_from that has come, of several the last made';
COMMENT ON COLUMN credits.promotions.kind IS
	'percent or fixed, off the price, or bonus, credits on top';
COMMENT ON COLUMN credits.promotions.value IS
	'so many percent, so much money, or so many credits';
COMMENT ON COLUMN credits.promotions.currency IS 'of a fixed value';
COMMENT ON COLUMN credits.promotions.expires_in IS
	'how long bonus credits live once they are given, NULL if they do not expire';
COMMENT ON COLUMN credits.promotions.plans IS
	'only for accounts with an active or trialing subscription to one of these plans, NULL if for all';
COMMENT ON COLUMN credits.promotions.per_account IS
	'how many purchases of one account may have it, NULL if any number';
COMMENT ON COLUMN credits.promotions.max_uses IS
	'how many purchases may have it at all, NULL if any number';
COMMENT ON COLUMN credits.promotions.active_until IS
	'from this instant on it does not apply; no later than active_from for one that ends the promotion';
COMMENT ON COLUMN credits.promotions.role IS 'session_user who set it';

-- One row a promotion, whatever its terms: who counts a use locks it.
CREATE TABLE credits.promotion_totals (
	promotion text COLLATE "C" NOT NULL,
	uses bigint NOT NULL,
	CONSTRAINT promotion_totals_pkey PRIMARY KEY (promotion),
	CONSTRAINT promotion_totals_not_negative CHECK (uses >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE credits.promotion_totals IS
	'how often each promotion is used: rows of credits.promotion_uses that are not released';

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
	'which purchase has had which promotion';
COMMENT ON COLUMN credits.promotion_uses.promotion_id IS
	'the terms that were in force';
COMMENT ON COLUMN credits.promotion_uses.released_at IS
	'when the purchase had failed or expired, and so the promotion could be used again; NULL if it has not';

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
	   p.id
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
	kind text,
	value numeric,
	currency text DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	per_account bigint DEFAULT 1,
	max_uses bigint DEFAULT NULL,
	plans text[] DEFAULT NULL,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_promotion IS
	'set the terms of a promotion, from now or a later instant on; returns their id';
REVOKE ALL ON FUNCTION @extschema@.credits_set_promotion FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_promotion TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_promotion(
	name text,
	at timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_promotion IS
	'let a promotion no longer apply, from now or a later instant on; returns the id of the terms that say so';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_promotion FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_promotion TO credits_admin;
