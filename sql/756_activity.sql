-- activity: rules for what is suspicious, and what was found by them

CREATE TABLE credits.activity_rules (
	name text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	threshold numeric NOT NULL,
	span interval NOT NULL,
	minimum bigint,
	baseline interval,
	pauses boolean NOT NULL,
	enabled boolean NOT NULL,
	set_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT activity_rules_kind
		CHECK (kind IN ('spend', 'refunds', 'refusals', 'redemptions')),
	CONSTRAINT activity_rules_threshold CHECK (threshold > 0 AND threshold <= 1000000000),
	CONSTRAINT activity_rules_minimum
		CHECK ((minimum IS NULL) = (kind IN ('refusals', 'redemptions')) AND minimum > 0),
	CONSTRAINT activity_rules_baseline CHECK ((baseline IS NULL) = (kind <> 'spend'))
);
ALTER TABLE credits.activity_rules ADD CONSTRAINT activity_rules_pkey PRIMARY KEY (name);

COMMENT ON TABLE credits.activity_rules IS
	'what is suspicious in the activity of an account; credits_watch looks for it';
COMMENT ON COLUMN credits.activity_rules.kind IS
	'what is looked at: spend, refunds, refusals or redemptions';
COMMENT ON COLUMN credits.activity_rules.threshold IS
	'what is above it is suspicious: a multiple of the mean for spend, a share of what was spent for refunds, a number for refusals and redemptions';
COMMENT ON COLUMN credits.activity_rules.span IS
	'length of the windows, in hours; they follow each other since 2000-01-01 00:00 UTC';
COMMENT ON COLUMN credits.activity_rules.minimum IS
	'with fewer credits spent, or refunded, nothing is suspicious';
COMMENT ON COLUMN credits.activity_rules.baseline IS
	'how far back the mean of spend goes, in hours';
COMMENT ON COLUMN credits.activity_rules.pauses IS 'is the account paused?';
COMMENT ON COLUMN credits.activity_rules.set_at IS
	'when it was last set: windows that had ended by then are not looked at';
COMMENT ON COLUMN credits.activity_rules.role IS 'session_user that set it last';

-- Sums of the log by account and hour, made by the job, for as long as the rules look
-- back.  An update names no column of an index.
CREATE TABLE credits.activity_hours (
	account_id bigint NOT NULL,
	hour timestamptz NOT NULL,
	spent bigint NOT NULL,
	refunded bigint NOT NULL,
	last_id bigint NOT NULL,
	last_at timestamptz NOT NULL
) WITH (fillfactor = 80);
ALTER TABLE credits.activity_hours ADD CONSTRAINT activity_hours_pkey
	PRIMARY KEY (account_id, hour);
CREATE INDEX activity_hours_hour_idx ON credits.activity_hours (hour);

COMMENT ON TABLE credits.activity_hours IS
	'what accounts have spent by the hour, as far as credits_watch has come';
COMMENT ON COLUMN credits.activity_hours.spent IS
	'by deductions, holds, transfers and gifts, less what holds, transfers and gifts gave back';
COMMENT ON COLUMN credits.activity_hours.refunded IS 'by refunds';
COMMENT ON COLUMN credits.activity_hours.last_id IS
	'the transactions of the account are counted up to this one';
COMMENT ON COLUMN credits.activity_hours.last_at IS 'when that was made';

CREATE TABLE credits.activity_hits (
	account_id bigint NOT NULL,
	rule text COLLATE "C" NOT NULL,
	starts_at timestamptz NOT NULL,
	ends_at timestamptz NOT NULL,
	found_at timestamptz NOT NULL,
	event_id bigint NOT NULL,
	pauses boolean NOT NULL,
	paused_at timestamptz
);
ALTER TABLE credits.activity_hits ADD CONSTRAINT activity_hits_pkey
	PRIMARY KEY (account_id, rule, starts_at);
CREATE INDEX activity_hits_ends_at_idx ON credits.activity_hits (ends_at);
CREATE INDEX activity_hits_pause_idx ON credits.activity_hits (found_at, event_id)
	WHERE pauses AND paused_at IS NULL;

COMMENT ON TABLE credits.activity_hits IS
	'what was found suspicious: once for each account, rule and window';
COMMENT ON COLUMN credits.activity_hits.starts_at IS 'the window begins then, and ends before ends_at';
COMMENT ON COLUMN credits.activity_hits.event_id IS 'the event activity_suspicious';
COMMENT ON COLUMN credits.activity_hits.pauses IS 'is the account to be paused for it?';
COMMENT ON COLUMN credits.activity_hits.paused_at IS
	'when the account was paused, or found to be paused or closed already';

-- One row, while there are rules.
CREATE TABLE credits.activity_position (
	one boolean NOT NULL,
	safe_id bigint NOT NULL,
	refused_at timestamptz NOT NULL,
	again_id bigint NOT NULL,
	again_at timestamptz NOT NULL,
	last_id bigint NOT NULL,
	last_at timestamptz NOT NULL,
	since timestamptz NOT NULL,
	system bigint,
	mark_id bigint,
	mark_xid xid8,
	mark_at timestamptz,
	CONSTRAINT activity_position_one CHECK (one),
	CONSTRAINT activity_position_mark
		CHECK ((system IS NULL) = (mark_id IS NULL) AND (system IS NULL) = (mark_xid IS NULL)
			   AND (system IS NULL) = (mark_at IS NULL))
) WITH (fillfactor = 50);
ALTER TABLE credits.activity_position ADD CONSTRAINT activity_position_pkey PRIMARY KEY (one);

COMMENT ON TABLE credits.activity_position IS
	'how far credits_watch has come; there is a row while there are rules';
COMMENT ON COLUMN credits.activity_position.safe_id IS
	'all transactions up to this id that there will ever be have been examined';
COMMENT ON COLUMN credits.activity_position.refused_at IS
	'all refusals up to this instant that there will ever be have been examined';
COMMENT ON COLUMN credits.activity_position.again_id IS
	'the last_id of the run before: while the mark is not reached, runs read again from there';
COMMENT ON COLUMN credits.activity_position.again_at IS
	'the last_at of the run before: the same for refusals';
COMMENT ON COLUMN credits.activity_position.last_id IS
	'the newest id when the last run began';
COMMENT ON COLUMN credits.activity_position.last_at IS 'when the last run began';
COMMENT ON COLUMN credits.activity_position.since IS
	'credits.activity_hours is complete from this instant on';
COMMENT ON COLUMN credits.activity_position.system IS
	'system identifier of the cluster that mark_xid belongs to; that of another one does not count';
COMMENT ON COLUMN credits.activity_position.mark_id IS 'the next safe_id, see mark_xid';
COMMENT ON COLUMN credits.activity_position.mark_xid IS
	'a run that begins when all transactions below this id have ended moves to the mark when it ends';
COMMENT ON COLUMN credits.activity_position.mark_at IS 'the next refused_at, see mark_xid';

SELECT pg_catalog.pg_extension_config_dump('credits.activity_rules', '');
SELECT pg_catalog.pg_extension_config_dump('credits.activity_hours', '');
SELECT pg_catalog.pg_extension_config_dump('credits.activity_hits', '');
SELECT pg_catalog.pg_extension_config_dump('credits.activity_position', '');
GRANT SELECT ON credits.activity_rules, credits.activity_hours, credits.activity_hits, credits.activity_position
	TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_activity_rule(
	name text,
	kind text DEFAULT NULL,
	threshold numeric DEFAULT NULL,
	span interval DEFAULT NULL,
	minimum bigint DEFAULT NULL,
	baseline interval DEFAULT NULL,
	pauses boolean DEFAULT NULL,
	enabled boolean DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_activity_rule IS
	'set a rule for what is suspicious in the activity of an account; what is left out stays; returns whether that was a change';
REVOKE ALL ON FUNCTION @extschema@.credits_set_activity_rule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_activity_rule TO credits_admin;

CREATE FUNCTION @extschema@.credits_remove_activity_rule(name text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_remove_activity_rule IS
	'remove a rule for what is suspicious';
REVOKE ALL ON FUNCTION @extschema@.credits_remove_activity_rule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_remove_activity_rule TO credits_admin;
