-- packages: credits sold in one piece, and the grants that come with them

CREATE SEQUENCE credits.packages_id_seq;

-- As with operations, each version is a row and is never changed, so that the one
-- a purchase refers to can always be read.
CREATE TABLE credits.packages (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	credits bigint NOT NULL,
	price numeric NOT NULL,
	currency text COLLATE "C" NOT NULL,
	unit text COLLATE "C",
	expires_in interval,
	priority integer NOT NULL,
	extras jsonb NOT NULL,
	active_from timestamptz NOT NULL,
	active_until timestamptz,
	metadata jsonb,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT packages_credits CHECK (credits > 0),
	-- NaN counts as above Infinity
	CONSTRAINT packages_price CHECK (price >= 0 AND price < 'Infinity'),
	CONSTRAINT packages_currency CHECK (currency ~ '^[A-Z]{3}$'),
	CONSTRAINT packages_extras CHECK (jsonb_typeof(extras) = 'array')
);

ALTER SEQUENCE credits.packages_id_seq OWNED BY credits.packages.id;
ALTER TABLE credits.packages ADD CONSTRAINT packages_pkey PRIMARY KEY (id);
CREATE INDEX packages_name_idx ON credits.packages (name, active_from, id);

COMMENT ON TABLE credits.packages IS
	'packages, all versions; the one in force has the latest active_from that has come; of several, the last one made';
COMMENT ON COLUMN credits.packages.credits IS 'the credits that the price is paid for';
COMMENT ON COLUMN credits.packages.unit IS 'unit of the accounts that can buy it, NULL if any';
COMMENT ON COLUMN credits.packages.expires_in IS
	'how long the credits live once they are given, NULL if they do not expire';
COMMENT ON COLUMN credits.packages.priority IS 'priority in which the credits burn';
COMMENT ON COLUMN credits.packages.extras IS
	'further grants that are free: an array of objects with credits, source, priority, expires_in and unit';
COMMENT ON COLUMN credits.packages.active_until IS
	'from this instant on it is not for sale; not later than active_from if it ends the package';
COMMENT ON COLUMN credits.packages.role IS 'session_user that set it';

SELECT pg_catalog.pg_extension_config_dump('credits.packages', '');
SELECT pg_catalog.pg_extension_config_dump('credits.packages_id_seq', '');
GRANT SELECT ON credits.packages, credits.packages_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER packages_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.packages
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.packages ENABLE ALWAYS TRIGGER packages_refuse_change;

CREATE VIEW credits.sold_packages AS
SELECT p.name,
	   p.credits,
	   p.price,
	   p.currency,
	   p.unit,
	   p.expires_in,
	   p.extras,
	   p.active_until,
	   p.metadata,
	   p.id AS package_id,
	   -- ordered, so that the index is used if there are many offers of others
	   (SELECT o.id FROM credits.offers AS o
		WHERE o.kind OPERATOR(pg_catalog.=) 'package'
		  AND o.name OPERATOR(pg_catalog.=) p.name
		ORDER BY COALESCE(o.account_id, 0) LIMIT 1) IS NOT NULL
	   AND NOT EXISTS (
		SELECT FROM credits.offers AS o
		WHERE o.kind OPERATOR(pg_catalog.=) 'package'
		  AND o.name OPERATOR(pg_catalog.=) p.name
		  AND o.withdrawn_at IS NULL
		  AND COALESCE(o.account_id, 0) OPERATOR(pg_catalog.=) 0
		  AND COALESCE(o.metadata::text COLLATE "C", '') OPERATOR(pg_catalog.=) '') AS private
FROM (
	SELECT DISTINCT ON (v.name) v.*
	FROM credits.packages AS v
	WHERE v.active_from OPERATOR(pg_catalog.<=) credits.now()
	ORDER BY v.name, v.active_from DESC, v.id DESC
) AS p
WHERE p.active_until IS NULL
   OR p.active_until OPERATOR(pg_catalog.>) credits.now();
COMMENT ON VIEW credits.sold_packages IS
	'packages that are for sale now, also those that are offered to some accounts only';
GRANT SELECT ON credits.sold_packages TO credits_admin, credits_auditor;

CREATE VIEW credits.current_packages AS
SELECT p.name, p.credits, p.price, p.currency, p.unit, p.expires_in, p.extras,
	   p.active_until, p.metadata, p.package_id
FROM credits.sold_packages AS p
WHERE NOT p.private;
COMMENT ON VIEW credits.current_packages IS
	'packages that any account can buy now';
GRANT SELECT ON credits.current_packages
	TO credits_app, credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_packages(account text)
RETURNS SETOF credits.current_packages
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.name, p.credits, p.price, p.currency, p.unit, p.expires_in, p.extras,
		   p.active_until, p.metadata, p.package_id
	FROM credits.accounts AS a, credits.sold_packages AS p
	WHERE a.id = credits.account_id($1)
	  AND (p.unit IS NULL OR p.unit = a.unit)
	  AND (NOT p.private OR EXISTS (
		SELECT FROM credits.offers AS o
		WHERE o.kind = 'package' AND o.name = p.name AND o.withdrawn_at IS NULL
		  AND COALESCE(o.account_id, 0) = a.id)
	   OR EXISTS (
		SELECT FROM credits.offers AS o
		WHERE o.kind = 'package' AND o.name = p.name AND o.withdrawn_at IS NULL
		  AND COALESCE(o.account_id, 0) = 0 AND a.metadata @> o.metadata))
	ORDER BY p.name
$$;
COMMENT ON FUNCTION @extschema@.credits_packages IS
	'packages that are offered to an account now: those for everybody, and those for itself';
REVOKE ALL ON FUNCTION @extschema@.credits_packages FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_packages
	TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_package(
	name text,
	credits bigint DEFAULT NULL,
	price numeric DEFAULT NULL,
	currency text DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	extras jsonb DEFAULT NULL,
	unit text DEFAULT NULL,
	priority integer DEFAULT NULL,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_package IS
	'put a package on sale, or a new version of it, from now or a later instant on; what is left out stays; returns the id of the version';
REVOKE ALL ON FUNCTION @extschema@.credits_set_package FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_package TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_package(
	name text,
	at timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_package IS
	'end a package, now or at a later instant: it can no longer be bought; returns the id of the version that records this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_package FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_package TO credits_admin;
