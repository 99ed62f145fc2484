-- find_accounts: search among all accounts

CREATE FUNCTION @extschema@.credits_find_accounts(
	name_prefix text DEFAULT NULL,
	status text DEFAULT NULL,
	unit text DEFAULT NULL,
	min_balance bigint DEFAULT NULL,
	max_balance bigint DEFAULT NULL,
	plan text DEFAULT NULL,
	used_since timestamptz DEFAULT NULL,
	unused_since timestamptz DEFAULT NULL,
	in_debt boolean DEFAULT NULL,
	reference text DEFAULT NULL,
	after_account text DEFAULT NULL,
	max_rows integer DEFAULT 50)
RETURNS TABLE (
	account text,
	unit text,
	status text,
	balance bigint,
	held bigint,
	debt bigint,
	plans text[],
	created_at timestamptz,
	last_at timestamptz)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 50;
COMMENT ON FUNCTION @extschema@.credits_find_accounts IS
	'accounts that fulfill all conditions; a row with a name only ends a page that goes on though fewer were found; page on with after_account until there are no rows';
REVOKE ALL ON FUNCTION @extschema@.credits_find_accounts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_find_accounts TO credits_admin, credits_auditor;
