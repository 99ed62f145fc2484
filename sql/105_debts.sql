-- debts: credits to be taken back that were already spent

-- The part of claimed that is not gone, owed or paid was taken from the grant.
CREATE TABLE credits.debts (
	grant_id bigint NOT NULL,
	account_id bigint NOT NULL,
	claimed bigint NOT NULL,
	gone bigint NOT NULL,
	owed bigint NOT NULL,
	paid bigint NOT NULL,
	payers bigint[],
	group_id bigint,
	lasts_until timestamptz,
	CONSTRAINT debts_not_negative
		CHECK (gone >= 0 AND owed >= 0 AND paid >= 0
			AND claimed >= gone + owed + paid)
);

ALTER TABLE credits.debts ADD CONSTRAINT debts_pkey PRIMARY KEY (grant_id);
CREATE INDEX debts_account_id_idx ON credits.debts (account_id, grant_id);
CREATE INDEX debts_owed_idx ON credits.debts (account_id, grant_id) WHERE owed > 0;
CREATE INDEX debts_group_gone_idx ON credits.debts (group_id, lasts_until, grant_id)
	WHERE group_id IS NOT NULL AND gone > 0;
CREATE INDEX debts_group_taken_idx ON credits.debts (group_id, lasts_until, grant_id)
	WHERE group_id IS NOT NULL AND claimed > gone + owed + paid;
CREATE INDEX debts_group_owed_idx ON credits.debts (group_id, lasts_until, grant_id)
	WHERE group_id IS NOT NULL AND owed + paid > 0;

COMMENT ON TABLE credits.debts IS
	'one row per grant of which credits were ever to be taken back because their money was paid back, or less of a subscription was due';
COMMENT ON COLUMN credits.debts.claimed IS
	'the total of the grant to be taken back; what is not gone, owed or paid was taken from the grant';
COMMENT ON COLUMN credits.debts.gone IS
	'the part of it that the grant had lost by expiring or being voided: nobody owes it';
COMMENT ON COLUMN credits.debts.owed IS
	'the part of it that was spent, held or given away and is not paid yet; accounts.debt is the sum over the account''s grants';
COMMENT ON COLUMN credits.debts.paid IS 'the part of it that was owed and that other grants have paid';
COMMENT ON COLUMN credits.debts.payers IS 'the grants that paid it: {{grant, amount}, ...}';
COMMENT ON COLUMN credits.debts.group_id IS 'that of the grant';
COMMENT ON COLUMN credits.debts.lasts_until IS
	'of a grant with a group: when it expires, or was to before a refund''s grace; NULL if never';

SELECT pg_catalog.pg_extension_config_dump('credits.debts', '');
GRANT SELECT ON credits.debts TO credits_admin, credits_auditor;

CREATE TRIGGER debts_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.debts
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.debts ENABLE ALWAYS TRIGGER debts_refuse_change;
