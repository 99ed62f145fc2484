-- sets: functions that leave alone what they are not given
SET ROLE regress_credits_admin;

-- each says which of its arguments can be cleared, and names them as the catalog does
CREATE FUNCTION pg_temp.hint(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	EXECUTE command;
	RETURN 'no error';
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN hint;
END
$$;
CREATE TEMP TABLE setters AS
SELECT p.oid::regproc::text AS function, p.proargnames[1:p.pronargs] AS arguments,
	pg_temp.hint(format('SELECT %s(%s, clear => ''{no such argument}'')', p.proname,
		(SELECT string_agg(quote_literal(CASE a.name WHEN 'currency' THEN 'EUR' ELSE 'x' END), ', ' ORDER BY a.n)
		 FROM unnest(p.proargnames) WITH ORDINALITY AS a (name, n) WHERE a.n <= p.pronargs - p.pronargdefaults))) AS hint
FROM pg_proc AS p WHERE 'clear' = ANY (p.proargnames) AND p.proname LIKE 'credits!_%' ESCAPE '!';
SELECT function, hint FROM setters ORDER BY function COLLATE "C";
SELECT function FROM setters WHERE arguments[cardinality(arguments)] <> 'clear'
	OR NOT string_to_array(substring(hint FROM 'Use some of (.*)\.$'), ', ') <@ arguments;
