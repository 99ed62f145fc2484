-- calendar: when each period of a subscription begins

-- what a time zone means can change with the data of the system: not immutable
CREATE FUNCTION credits.period_start(
	anchor timestamptz,
	timezone text,
	period text,
	every integer,
	n bigint)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_period_start' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.period_start IS
	'when period n of a subscription begins: n periods after its anchor, by the wall clock of its time zone';

CREATE FUNCTION credits.period_number(
	anchor timestamptz,
	timezone text,
	period text,
	every integer,
	at timestamptz)
RETURNS bigint
AS 'MODULE_PATHNAME', 'credits_period_number' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.period_number IS
	'the period of a subscription that an instant is in: the last one that has begun by then';

REVOKE ALL ON FUNCTION credits.period_start, credits.period_number FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.period_start, credits.period_number
	TO credits_app, credits_admin, credits_auditor;
