-- alerts: the levels of an account

CREATE FUNCTION @extschema@.credits_set_alerts(
	account text,
	levels text DEFAULT NULL,
	base bigint DEFAULT NULL,
	reason text DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_alerts IS
	'set the levels at which an account alerts, and the base of which they are percentages; what is left out stays, and what clear names goes back to the setting, or to the highest balance';
REVOKE ALL ON FUNCTION @extschema@.credits_set_alerts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_alerts TO credits_admin;
