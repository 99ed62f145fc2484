-- chargebacks: the buyer's bank takes the money of a purchase back

CREATE FUNCTION @extschema@.credits_open_chargeback(
	purchase_id bigint,
	reference text,
	money numeric DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_open_chargeback IS
	'take back the credits of a purchase whose money the buyer''s bank takes back; what is already spent becomes debt';
REVOKE ALL ON FUNCTION @extschema@.credits_open_chargeback FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_open_chargeback TO credits_admin;

CREATE FUNCTION @extschema@.credits_close_chargeback(
	purchase_id bigint,
	reference text,
	outcome text)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_close_chargeback IS
	'record that a chargeback is won, and give back exactly what it took, or that it is lost';
REVOKE ALL ON FUNCTION @extschema@.credits_close_chargeback FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_close_chargeback TO credits_admin;
