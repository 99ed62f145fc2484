-- references: what refers to what, for whoever reads the catalog

-- Tools that draw a schema, or generate code from it, find relations by foreign
-- keys.  PostgreSQL does not check these: the functions see to it that references
-- lead somewhere, under the locks of accounts, and credits_verify proves it.  A
-- check of each row would take time from every spend and, when a dump is
-- restored, memory for every row.  From PostgreSQL 18 on they are NOT ENFORCED;
-- before, the triggers of the checks are disabled.  pg_upgrade makes these
-- triggers anew and enabled: store.c leaves them out.
--
-- The log is partitioned, and has no key that spans its partitions: what refers to it
-- is not declared, nor what it refers to.  Nor do grants refer to each other there:
-- that would close a circle, of which pg_dump warns.
DO $$
DECLARE
	reference record;
	check_trigger record;
BEGIN
	FOR reference IN
		SELECT r.source, r.source_column, r.target, r.target_column
		FROM (VALUES
			('grants', 'account_id', 'accounts', 'id'),
			('events', 'account_id', 'accounts', 'id'),
			('deliveries', 'account_id', 'accounts', 'id'),
			('activity_hours', 'account_id', 'accounts', 'id'),
			('activity_hits', 'account_id', 'accounts', 'id'),
			('debts', 'grant_id', 'grants', 'id'),
			('debts', 'group_id', 'grants', 'id'),
			('debts', 'account_id', 'accounts', 'id'),
			('limits', 'account_id', 'accounts', 'id'),
			('hold_states', 'account_id', 'accounts', 'id'),
			('members', 'pool_id', 'accounts', 'id'),
			('members', 'account_id', 'accounts', 'id'),
			('codes', 'account_id', 'accounts', 'id'),
			('redemptions', 'code_id', 'codes', 'id'),
			('redemptions', 'account_id', 'accounts', 'id'),
			('subscriptions', 'account_id', 'accounts', 'id'),
			('subscriptions', 'plan_id', 'plans', 'id'),
			('subscriptions', 'next_plan_id', 'plans', 'id'),
			('periods', 'subscription_id', 'subscriptions', 'id'),
			('periods', 'account_id', 'accounts', 'id'),
			('periods', 'plan_id', 'plans', 'id'),
			('periods', 'grant_id', 'grants', 'id'),
			('periods', 'grace_grant_id', 'grants', 'id'),
			('paid_parts', 'subscription_id', 'subscriptions', 'id'),
			('paid_parts', 'plan_id', 'plans', 'id'),
			('period_refunds', 'subscription_id', 'subscriptions', 'id'),
			('plan_changes', 'subscription_id', 'subscriptions', 'id'),
			('plan_changes', 'plan_id', 'plans', 'id'),
			('offers', 'account_id', 'accounts', 'id'),
			('purchases', 'account_id', 'accounts', 'id'),
			('purchases', 'promotion_id', 'promotions', 'id'),
			('reversals', 'purchase_id', 'purchases', 'id'),
			('promotion_uses', 'purchase_id', 'purchases', 'id'),
			('promotion_uses', 'account_id', 'accounts', 'id'),
			('promotion_uses', 'promotion_id', 'promotions', 'id'),
			('stripe_events', 'subject', 'stripe_subjects', 'subject'),
			('stripe_customers', 'account_id', 'accounts', 'id'),
			('stripe_subscriptions', 'subscription_id', 'subscriptions', 'id'),
			('stripe_subscriptions', 'plan_id', 'plans', 'id'),
			('stripe_invoices', 'subscription', 'stripe_subscriptions', 'subscription'),
			('stripe_lines', 'subscription', 'stripe_subscriptions', 'subscription'),
			('stripe_items', 'version_id', 'stripe_price_versions', 'id'),
			('stripe_items', 'plan_id', 'plans', 'id'),
			('audit_log', 'account_id', 'accounts', 'id'),
			('contacts', 'account_id', 'accounts', 'id'),
			('preferences', 'account_id', 'accounts', 'id'),
			('quiet_hours', 'account_id', 'accounts', 'id'),
			('disputes', 'account_id', 'accounts', 'id'),
			('correction_items', 'correction_id', 'corrections', 'id'),
			('correction_items', 'account_id', 'accounts', 'id'),
			('rewards', 'account_id', 'accounts', 'id'),
			('rewards', 'program_id', 'reward_programs', 'id'),
			('topups', 'account_id', 'accounts', 'id'),
			('topup_requests', 'account_id', 'accounts', 'id'),
			('topup_requests', 'purchase_id', 'purchases', 'id'),
			('erasures', 'account_id', 'accounts', 'id')
		) AS r (source, source_column, target, target_column)
	LOOP
		EXECUTE pg_catalog.format(
			'ALTER TABLE credits.%1$I ADD CONSTRAINT %2$I FOREIGN KEY (%3$I) REFERENCES credits.%4$I (%5$I)%6$s',
			reference.source,
			pg_catalog.concat_ws('_', reference.source, reference.source_column, 'fkey'),
			reference.source_column, reference.target, reference.target_column,
			CASE WHEN pg_catalog.current_setting('server_version_num')::integer OPERATOR(pg_catalog.>=) 180000
				 THEN ' NOT ENFORCED' ELSE '' END);
	END LOOP;

	FOR check_trigger IN
		SELECT t.tgrelid::pg_catalog.regclass AS source, t.tgname AS name
		FROM pg_catalog.pg_trigger AS t
		JOIN pg_catalog.pg_constraint AS c ON c.oid OPERATOR(pg_catalog.=) t.tgconstraint
		WHERE c.connamespace OPERATOR(pg_catalog.=) 'credits'::pg_catalog.regnamespace
	LOOP
		EXECUTE pg_catalog.format('ALTER TABLE %s DISABLE TRIGGER %I',
								  check_trigger.source, check_trigger.name);
	END LOOP;
END
$$;
