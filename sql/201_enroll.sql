-- enroll: accounts for the rows of an application's table

CREATE FUNCTION @extschema@.credits_open_account_for_row()
RETURNS trigger
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_open_account_for_row IS
	'trigger AFTER INSERT FOR EACH ROW: opens an account for the new row; arguments: key column, name prefix, optional initial credits';
REVOKE ALL ON FUNCTION @extschema@.credits_open_account_for_row FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_open_account_for_row TO credits_admin;

CREATE FUNCTION @extschema@.credits_open_accounts(
	relation regclass,
	key_column name,
	prefix text DEFAULT '',
	initial_credits bigint DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_open_accounts IS
	'open an account for each row of a table in one pass; returns how many were opened';
REVOKE ALL ON FUNCTION @extschema@.credits_open_accounts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_open_accounts TO credits_admin;
