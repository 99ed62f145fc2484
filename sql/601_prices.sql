-- prices: unit prices, volume discounts, and the price of what is bought

CREATE SEQUENCE credits.unit_prices_id_seq;

CREATE TABLE credits.unit_prices (
	id bigint NOT NULL,
	unit text COLLATE "C" NOT NULL,
	currency text COLLATE "C" NOT NULL,
	price numeric NOT NULL,
	active_from timestamptz NOT NULL,
	active_until timestamptz,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT unit_prices_price CHECK (price >= 0 AND price < 'Infinity'),
	CONSTRAINT unit_prices_currency CHECK (currency ~ '^[A-Z]{3}$')
);

ALTER SEQUENCE credits.unit_prices_id_seq OWNED BY credits.unit_prices.id;
ALTER TABLE credits.unit_prices ADD CONSTRAINT unit_prices_pkey PRIMARY KEY (id);
CREATE INDEX unit_prices_unit_idx
	ON credits.unit_prices (unit, currency, active_from, id);

COMMENT ON TABLE credits.unit_prices IS
	'prices of one credit of a unit in a currency, all versions; the one in force has the latest active_from that has come; of several, the last one made';
COMMENT ON COLUMN credits.unit_prices.unit IS 'unit of the accounts that buy';
COMMENT ON COLUMN credits.unit_prices.price IS
	'price of one credit; may be less than the currency''s smallest coin';
COMMENT ON COLUMN credits.unit_prices.active_until IS
	'from this instant on it is not in force; not later than active_from if it ends the price';
COMMENT ON COLUMN credits.unit_prices.role IS 'session_user that set it';

CREATE SEQUENCE credits.volume_discounts_id_seq;

CREATE TABLE credits.volume_discounts (
	id bigint NOT NULL,
	unit text COLLATE "C" NOT NULL,
	currency text COLLATE "C",
	from_credits bigint[],
	percents numeric[],
	active_from timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT volume_discounts_currency CHECK (currency ~ '^[A-Z]{3}$'),
	CONSTRAINT volume_discounts_tiers
		CHECK ((from_credits IS NULL) = (percents IS NULL)
			AND cardinality(from_credits) = cardinality(percents)
			AND 0 <= ALL (percents) AND 100 >= ALL (percents))
);

ALTER SEQUENCE credits.volume_discounts_id_seq
	OWNED BY credits.volume_discounts.id;
ALTER TABLE credits.volume_discounts
	ADD CONSTRAINT volume_discounts_pkey PRIMARY KEY (id);
CREATE INDEX volume_discounts_unit_idx
	ON credits.volume_discounts (unit, currency, active_from, id);

COMMENT ON TABLE credits.volume_discounts IS
	'volume discounts, all versions; the one in force has the latest active_from that has come; of several, the last one made';
COMMENT ON COLUMN credits.volume_discounts.unit IS 'unit of the accounts that buy';
COMMENT ON COLUMN credits.volume_discounts.currency IS
	'NULL for every currency that has none of its own';
COMMENT ON COLUMN credits.volume_discounts.from_credits IS
	'where each tier begins, ascending; NULL if the currency has none of its own';
COMMENT ON COLUMN credits.volume_discounts.percents IS
	'the percentage that each tier takes off the price of the whole amount';
COMMENT ON COLUMN credits.volume_discounts.role IS 'session_user that set it';

SELECT pg_catalog.pg_extension_config_dump('credits.unit_prices', '');
SELECT pg_catalog.pg_extension_config_dump('credits.unit_prices_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('credits.volume_discounts', '');
SELECT pg_catalog.pg_extension_config_dump('credits.volume_discounts_id_seq', '');
GRANT SELECT ON credits.unit_prices, credits.unit_prices_id_seq,
		credits.volume_discounts, credits.volume_discounts_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER unit_prices_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.unit_prices
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.unit_prices ENABLE ALWAYS TRIGGER unit_prices_refuse_change;
CREATE TRIGGER volume_discounts_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.volume_discounts
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.volume_discounts
	ENABLE ALWAYS TRIGGER volume_discounts_refuse_change;

CREATE VIEW credits.current_unit_prices AS
SELECT p.unit,
	   p.currency,
	   p.price,
	   p.active_until,
	   p.id AS unit_price_id
FROM (
	SELECT DISTINCT ON (v.unit, v.currency) v.*
	FROM credits.unit_prices AS v
	WHERE v.active_from OPERATOR(pg_catalog.<=) credits.now()
	ORDER BY v.unit, v.currency, v.active_from DESC, v.id DESC
) AS p
WHERE p.active_until IS NULL
   OR p.active_until OPERATOR(pg_catalog.>) credits.now();
COMMENT ON VIEW credits.current_unit_prices IS
	'what one credit costs now, by unit and currency';

CREATE VIEW credits.current_volume_discounts AS
SELECT d.unit,
	   d.currency,
	   t.from_credits,
	   t.percent,
	   d.id AS volume_discount_id
FROM (
	SELECT DISTINCT ON (v.unit, v.currency) v.*
	FROM credits.volume_discounts AS v
	WHERE v.active_from OPERATOR(pg_catalog.<=) credits.now()
	ORDER BY v.unit, v.currency, v.active_from DESC, v.id DESC
) AS d,
LATERAL ROWS FROM (pg_catalog.unnest(d.from_credits), pg_catalog.unnest(d.percents))
	AS t(from_credits, percent);
COMMENT ON VIEW credits.current_volume_discounts IS
	'each tier of the volume discounts that are in force now';

GRANT SELECT ON credits.current_unit_prices, credits.current_volume_discounts
	TO credits_app, credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_unit_price(
	currency text,
	price numeric DEFAULT NULL,
	unit text DEFAULT 'credit',
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_unit_price IS
	'set what one credit costs in a currency, from now or a later instant on; what is left out stays; returns the id of the price';
REVOKE ALL ON FUNCTION @extschema@.credits_set_unit_price FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_unit_price TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_unit_price(
	currency text,
	unit text DEFAULT 'credit',
	at timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_unit_price IS
	'end a unit price, now or at a later instant: amounts can no longer be bought in its currency; returns the id of the price that records this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_unit_price FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_unit_price TO credits_admin;

CREATE FUNCTION @extschema@.credits_set_volume_discount(
	from_credits bigint[],
	percents numeric[],
	currency text DEFAULT NULL,
	unit text DEFAULT 'credit',
	active_from timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_volume_discount IS
	'set all tiers of the volume discount, for one currency or for all others, from now or a later instant on; returns its id';
REVOKE ALL ON FUNCTION @extschema@.credits_set_volume_discount FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_volume_discount TO credits_admin;

CREATE TYPE credits.price AS (
	credits bigint,
	bonus bigint,
	subtotal numeric,
	volume_discount numeric,
	promotion_discount numeric,
	total numeric,
	currency text,
	amount_minor bigint,
	price_per_credit numeric,
	grants jsonb,
	computation jsonb
);
COMMENT ON TYPE credits.price IS
	'what credits_price returns: what is bought, what it costs, what is given for it, and how that was computed';

CREATE FUNCTION @extschema@.credits_price(
	account text,
	package text DEFAULT NULL,
	amount bigint DEFAULT NULL,
	promotion text DEFAULT NULL,
	currency text DEFAULT NULL)
RETURNS credits.price
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_price IS
	'what a package, or an amount of credits, would cost an account now; nothing is changed';
REVOKE ALL ON FUNCTION @extschema@.credits_price FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_price TO credits_app, credits_auditor;
