-- schema: what CREATE EXTENSION makes, down to the last column
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

-- Compares rows by what they print, whatever the collations of their columns.
CREATE FUNCTION pg_temp.rows_are(is_query text, should_query text, description text) RETURNS text
LANGUAGE sql AS $$
	SELECT public.results_eq(
		format('SELECT q::text COLLATE "C" FROM (%s) AS q', is_query),
		format('SELECT q::text COLLATE "C" FROM (%s) AS q', should_query), description)
$$;

-- all members of the extension
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid, (pg_identify_object(d.classid, d.objid, d.objsubid)).*
FROM pg_depend AS d
JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'credits' AND d.deptype = 'e';
CREATE TEMP VIEW routine AS
SELECT p.*, n.nspname, n.nspname || '.' || p.proname AS name
FROM pg_proc AS p
JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
JOIN pg_namespace AS n ON n.oid = p.pronamespace;
CREATE TEMP VIEW relation AS
SELECT c.*, n.nspname, n.nspname || '.' || c.relname AS name
FROM pg_class AS c
JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
JOIN pg_namespace AS n ON n.oid = c.relnamespace;

SELECT has_extension('credits');
SELECT is((SELECT extrelocatable FROM pg_extension WHERE extname = 'credits'), false,
	'the extension stays where it is');
SELECT is((SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
		   WHERE extname = 'credits'), 'public', 'the functions are where the DBA put them');
SELECT is((SELECT extversion FROM pg_extension WHERE extname = 'credits'),
	(SELECT default_version FROM pg_available_extensions WHERE name = 'credits'),
	'the version is that of the control file');

-- relations
SELECT tables_are('credits', ARRAY[
	'accounts',
	'activity_hits',
	'activity_hours',
	'activity_position',
	'activity_rules',
	'anchor_parts',
	'anchors',
	'archived_grants',
	'archived_log',
	'archived_log_default',
	'archives',
	'audit_log',
	'carried_rows',
	'codes',
	'consumer_positions',
	'consumers',
	'contacts',
	'correction_items',
	'corrections',
	'debts',
	'deliveries',
	'disputes',
	'erasures',
	'event_order',
	'events',
	'grants',
	'hold_states',
	'job_runs',
	'limits',
	'log',
	'log_default',
	'members',
	'offers',
	'operations',
	'packages',
	'paid_parts',
	'period_refunds',
	'periods',
	'plan_changes',
	'plans',
	'preferences',
	'promotion_totals',
	'promotion_uses',
	'promotions',
	'purchases',
	'quiet_hours',
	'redemptions',
	'reversals',
	'reward_programs',
	'reward_totals',
	'rewards',
	'roles',
	'schedules',
	'service_pause',
	'stripe_credit_notes',
	'stripe_customers',
	'stripe_dismissals',
	'stripe_events',
	'stripe_invoices',
	'stripe_items',
	'stripe_lines',
	'stripe_links',
	'stripe_other_invoices',
	'stripe_payments',
	'stripe_price_versions',
	'stripe_secrets',
	'stripe_subjects',
	'stripe_subscriptions',
	'subscriptions',
	'templates',
	'topup_requests',
	'topups',
	'unit_prices',
	'unsubscribe_secrets',
	'webhook_secrets',
	'volume_discounts',
	'warnings'
]);
SELECT views_are('credits', ARRAY[
	'all_transactions',
	'archived_chain',
	'archived_transactions',
	'book_starts',
	'chain',
	'charges',
	'consumer_list',
	'current_packages',
	'current_plans',
	'current_promotions',
	'current_reward_programs',
	'current_unit_prices',
	'current_volume_discounts',
	'delivery_list',
	'draws',
	'event_kinds',
	'gifts',
	'holds',
	'jobs',
	'offer_list',
	'partitions',
	'pool_members',
	'pool_usage',
	'promo_codes',
	'purchase_list',
	'referral_counts',
	'referrals',
	'sold_packages',
	'sold_plans',
	'stripe_attention',
	'stripe_prices',
	'stripe_refusals',
	'subscription_list',
	'topup_list',
	'transactions'
]);
SELECT sequences_are('credits', ARRAY[
	'accounts_id_seq',
	'audit_log_id_seq',
	'codes_id_seq',
	'contacts_id_seq',
	'corrections_id_seq',
	'deliveries_id_seq',
	'disputes_id_seq',
	'events_id_seq',
	'grants_id_seq',
	'job_runs_id_seq',
	'offers_id_seq',
	'operations_id_seq',
	'packages_id_seq',
	'plans_id_seq',
	'promotions_id_seq',
	'purchases_id_seq',
	'reward_programs_id_seq',
	'roles_id_seq',
	'stripe_price_versions_id_seq',
	'stripe_refused_seq',
	'subscriptions_id_seq',
	'templates_id_seq',
	'topup_requests_id_seq',
	'transactions_id_seq',
	'unit_prices_id_seq',
	'volume_discounts_id_seq'
]);
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class AS c
	WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
	  AND c.oid NOT IN (SELECT oid FROM relation)
$$, 'every relation of the schema is a member of the extension');
SELECT is_empty($$ SELECT name FROM relation WHERE nspname <> 'credits' $$,
	'no relation is anywhere else');
SELECT is_empty($$ SELECT name FROM relation WHERE relrowsecurity OR relforcerowsecurity $$,
	'no row security, which dumps badly');
SELECT is_empty($$ SELECT name FROM relation WHERE relpersistence <> 'p' $$, 'nothing is unlogged');
SELECT is_empty($$
	SELECT name FROM relation WHERE relkind = 'r' AND relreplident <> 'd'
$$, 'replica identity is the primary key');
SELECT is_empty($$
	SELECT name FROM relation AS r WHERE relkind = 'r'
	  AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = r.oid AND i.indisprimary)
$$, 'which every table has');

SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull,
		   (SELECT collname FROM pg_collation AS c WHERE c.oid = attcollation AND collname <> 'default')::text
	FROM pg_attribute WHERE attrelid = 'credits.accounts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true, NULL),
	('name', 'text', true, 'C'),
	('unit', 'text', true, NULL),
	('status', 'text', true, NULL),
	('metadata', 'jsonb', false, NULL),
	('limited', 'boolean', true, NULL),
	('debt', 'bigint', true, NULL),
	('created_at', 'timestamp with time zone', true, NULL),
	('alert_levels', 'text', false, NULL),
	('alert_base', 'bigint', false, NULL),
	('topup_below', 'bigint', false, NULL),
	('due_at', 'timestamp with time zone', true, NULL),
	('base', 'bigint', true, NULL),
	('granted', 'bigint', true, NULL),
	('refunded', 'bigint', true, NULL),
	('expired', 'bigint', true, NULL),
	('held', 'bigint', true, NULL),
	('balance', 'bigint', true, NULL),
	('spent', 'bigint', true, NULL),
	('transaction_count', 'bigint', true, NULL),
	('last_transaction_id', 'bigint', true, NULL),
	('last_at', 'timestamp with time zone', true, NULL),
	('head', 'bytea', true, NULL),
	('renews_at', 'timestamp with time zone', false, NULL)
$$, 'columns of accounts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.grants'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', true),
	('transaction_id', 'bigint', true),
	('effective_at', 'timestamp with time zone', true),
	('expires_at', 'timestamp with time zone', false),
	('granted_until', 'timestamp with time zone', false),
	('amount', 'bigint', true),
	('priority', 'integer', true),
	('source', 'text', true),
	('price', 'numeric', false),
	('currency', 'text', false),
	('status', 'text', true),
	('remaining', 'bigint', true),
	('lost', 'bigint', false),
	('group_id', 'bigint', false),
	('all_claimed', 'boolean', false),
	('lost_claimed', 'boolean', false),
	('group_owed', 'bigint', false)
$$, 'columns of grants');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull,
		   (SELECT collname FROM pg_collation AS c WHERE c.oid = attcollation AND collname <> 'default')::text
	FROM pg_attribute WHERE attrelid = 'credits.log_default'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true, NULL),
	('account_id', 'bigint', true, NULL),
	('created_at', 'timestamp with time zone', true, NULL),
	('amount', 'bigint', true, NULL),
	('balance_after', 'bigint', true, NULL),
	('held', 'bigint', false, NULL),
	('held_after', 'bigint', false, NULL),
	('target_id', 'bigint', false, NULL),
	('member_id', 'bigint', false, NULL),
	('role_id', 'integer', true, NULL),
	('request', 'integer', false, NULL),
	('kind_code', '"char"', true, NULL),
	('idempotency_key', 'text', false, 'C'),
	('draws', 'bytea', false, NULL),
	('operation', 'text', false, NULL),
	('reference', 'text', false, 'C'),
	('terms', 'jsonb', false, NULL),
	('reason', 'text', false, NULL),
	('metadata', 'jsonb', false, NULL),
	('actor', 'text', false, NULL),
	('salt', 'bytea', false, NULL),
	('hash', 'bytea', true, NULL)
$$, 'columns of the log');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod),
		   (SELECT collname FROM pg_collation AS c WHERE c.oid = attcollation AND collname <> 'default')::text
	FROM pg_attribute WHERE attrelid = 'credits.transactions'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', NULL),
	('account_id', 'bigint', NULL),
	('created_at', 'timestamp with time zone', NULL),
	('amount', 'bigint', NULL),
	('held', 'bigint', NULL),
	('balance_after', 'bigint', NULL),
	('held_after', 'bigint', NULL),
	('target_id', 'bigint', NULL),
	('member_id', 'bigint', NULL),
	('request', 'bigint', NULL),
	('kind', 'text', NULL),
	('role', 'text', NULL),
	('idempotency_key', 'text', 'C'),
	('operation', 'text', NULL),
	('reference', 'text', 'C'),
	('draws', 'bigint[]', NULL),
	('terms', 'jsonb', NULL),
	('reason', 'text', NULL),
	('metadata', 'jsonb', NULL),
	('actor', 'text', NULL),
	('salt', 'bytea', NULL),
	('hash', 'bytea', NULL)
$$, 'columns of the view transactions');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.events'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', false),
	('transaction_id', 'bigint', false),
	('created_at', 'timestamp with time zone', true),
	('kind', 'text', true),
	('detail', 'jsonb', true)
$$, 'columns of events');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.event_order'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('event_id', 'bigint', true),
	('xid', 'xid8', true),
	('system', 'bigint', true)
$$, 'columns of event_order');
SELECT pg_temp.rows_are($$
	SELECT attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attnum > 0 AND attrelid IN ('credits.activity_hits'::regclass, 'credits.activity_hours'::regclass,
		'credits.activity_position'::regclass, 'credits.activity_rules'::regclass) ORDER BY attrelid::regclass::text COLLATE "C", attnum
$$, $$ VALUES
	('credits.activity_hits', 'account_id', 'bigint', true),
	('credits.activity_hits', 'rule', 'text', true),
	('credits.activity_hits', 'starts_at', 'timestamp with time zone', true),
	('credits.activity_hits', 'ends_at', 'timestamp with time zone', true),
	('credits.activity_hits', 'found_at', 'timestamp with time zone', true),
	('credits.activity_hits', 'event_id', 'bigint', true),
	('credits.activity_hits', 'pauses', 'boolean', true),
	('credits.activity_hits', 'paused_at', 'timestamp with time zone', false),
	('credits.activity_hours', 'account_id', 'bigint', true),
	('credits.activity_hours', 'hour', 'timestamp with time zone', true),
	('credits.activity_hours', 'spent', 'bigint', true),
	('credits.activity_hours', 'refunded', 'bigint', true),
	('credits.activity_hours', 'last_id', 'bigint', true),
	('credits.activity_hours', 'last_at', 'timestamp with time zone', true),
	('credits.activity_position', 'one', 'boolean', true),
	('credits.activity_position', 'safe_id', 'bigint', true),
	('credits.activity_position', 'refused_at', 'timestamp with time zone', true),
	('credits.activity_position', 'again_id', 'bigint', true),
	('credits.activity_position', 'again_at', 'timestamp with time zone', true),
	('credits.activity_position', 'last_id', 'bigint', true),
	('credits.activity_position', 'last_at', 'timestamp with time zone', true),
	('credits.activity_position', 'since', 'timestamp with time zone', true),
	('credits.activity_position', 'system', 'bigint', false),
	('credits.activity_position', 'mark_id', 'bigint', false),
	('credits.activity_position', 'mark_xid', 'xid8', false),
	('credits.activity_position', 'mark_at', 'timestamp with time zone', false),
	('credits.activity_rules', 'name', 'text', true),
	('credits.activity_rules', 'kind', 'text', true),
	('credits.activity_rules', 'threshold', 'numeric', true),
	('credits.activity_rules', 'span', 'interval', true),
	('credits.activity_rules', 'minimum', 'bigint', false),
	('credits.activity_rules', 'baseline', 'interval', false),
	('credits.activity_rules', 'pauses', 'boolean', true),
	('credits.activity_rules', 'enabled', 'boolean', true),
	('credits.activity_rules', 'set_at', 'timestamp with time zone', true),
	('credits.activity_rules', 'role', 'text', true)
$$, 'columns of activity');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull,
		   (SELECT collname FROM pg_collation AS c WHERE c.oid = attcollation AND collname <> 'default')::text
	FROM pg_attribute WHERE attrelid = 'credits.deliveries'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true, NULL),
	('event_id', 'bigint', true, NULL),
	('account_id', 'bigint', true, NULL),
	('contact_id', 'bigint', true, NULL),
	('template_id', 'bigint', false, NULL),
	('event_at', 'timestamp with time zone', true, NULL),
	('waiting_since', 'timestamp with time zone', true, NULL),
	('due_at', 'timestamp with time zone', true, NULL),
	('ended_at', 'timestamp with time zone', false, NULL),
	('lease', 'bigint', false, NULL),
	('attempts', 'integer', true, NULL),
	('channel', 'text', true, 'C'),
	('status', 'text', true, 'C'),
	('kind', 'text', true, 'C'),
	('message_id', 'text', true, 'C'),
	('level', 'text', false, 'C'),
	('error', 'text', false, NULL)
$$, 'columns of deliveries');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.audit_log'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('at', 'timestamp with time zone', true),
	('account_id', 'bigint', false),
	('transaction_id', 'bigint', false),
	('amount', 'bigint', false),
	('topic', 'text', true),
	('name', 'text', false),
	('role', 'text', true),
	('actor', 'text', false),
	('old_values', 'jsonb', false),
	('new_values', 'jsonb', false)
$$, 'columns of audit_log');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.correction_items'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('correction_id', 'bigint', true),
	('account_id', 'bigint', false),
	('balance', 'bigint', false),
	('balance_after', 'bigint', false),
	('transaction_id', 'bigint', false),
	('reverted_id', 'bigint', false),
	('number', 'integer', true),
	('code', 'text', false),
	('name', 'text', false)
$$, 'columns of correction_items');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.corrections'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('delta', 'bigint', true),
	('accounts', 'integer', true),
	('accepted', 'integer', true),
	('previewed_at', 'timestamp with time zone', true),
	('expires_at', 'timestamp with time zone', true),
	('applied_at', 'timestamp with time zone', false),
	('ended_at', 'timestamp with time zone', false),
	('balance_before', 'numeric', true),
	('balance_after', 'numeric', true),
	('token', 'text', true),
	('status', 'text', true),
	('refused_id', 'bigint', false),
	('refusal', 'text', false),
	('role', 'text', true),
	('applied_role', 'text', false),
	('reason', 'text', false),
	('actor', 'text', false),
	('applied_actor', 'text', false)
$$, 'columns of corrections');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.reward_programs'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('name', 'text', true),
	('kind', 'text', true),
	('amounts', 'bigint[]', true),
	('expires_in', 'interval', false),
	('grace_days', 'integer', false),
	('timezone', 'text', true),
	('per_account', 'bigint', false),
	('budget', 'bigint', false),
	('metadata', 'jsonb', false),
	('active_from', 'timestamp with time zone', true),
	('active_until', 'timestamp with time zone', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of reward_programs');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.reward_totals'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('program', 'text', true),
	('given', 'bigint', true)
$$, 'columns of reward_totals');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.rewards'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('transaction_id', 'bigint', true),
	('account_id', 'bigint', true),
	('program_id', 'bigint', true),
	('amount', 'bigint', true),
	('number', 'bigint', true),
	('created_at', 'timestamp with time zone', true),
	('program', 'text', true),
	('award', 'text', true)
$$, 'columns of rewards');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.topups'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account_id', 'bigint', true),
	('below', 'bigint', true),
	('target', 'bigint', false),
	('package', 'text', false),
	('currency', 'text', false),
	('max_requests', 'bigint', true),
	('max_money', 'numeric', false),
	('period', 'interval', true),
	('resumed_id', 'bigint', true),
	('due_at', 'timestamp with time zone', false),
	('state', 'text', true),
	('message', 'text', false),
	('set_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of topups');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.topup_requests'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', true),
	('purchase_id', 'bigint', true),
	('balance', 'bigint', true),
	('requested_at', 'timestamp with time zone', true),
	('ended_at', 'timestamp with time zone', false)
$$, 'columns of topup_requests');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.disputes'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', true),
	('transaction_id', 'bigint', true),
	('requested', 'bigint', true),
	('refunded', 'bigint', true),
	('refund_id', 'bigint', false),
	('opened_at', 'timestamp with time zone', true),
	('reviewed_at', 'timestamp with time zone', false),
	('overdue_at', 'timestamp with time zone', false),
	('ended_at', 'timestamp with time zone', false),
	('request', 'bigint', false),
	('status', 'text', true),
	('reason', 'text', true),
	('assignee', 'text', false),
	('decided_by', 'text', false),
	('role', 'text', true),
	('idempotency_key', 'text', false),
	('description', 'text', false),
	('note', 'text', false),
	('actor', 'text', false)
$$, 'columns of disputes');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull,
		   (SELECT collname FROM pg_collation AS c WHERE c.oid = attcollation AND collname <> 'default')::text
	FROM pg_attribute WHERE attrelid = 'credits.consumers'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('name', 'text', true, 'C'),
	('safe_id', 'bigint', true, NULL),
	('created_at', 'timestamp with time zone', true, NULL),
	('role', 'text', true, NULL)
$$, 'columns of consumers');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull,
		   (SELECT collname FROM pg_collation AS c WHERE c.oid = attcollation AND collname <> 'default')::text
	FROM pg_attribute WHERE attrelid = 'credits.consumer_positions'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('consumer', 'text', true, 'C'),
	('system', 'bigint', true, NULL),
	('origin', 'bigint', true, NULL),
	('version', 'bigint', true, NULL),
	('snapshot', 'pg_snapshot', false, NULL),
	('next_xid', 'xid8', false, NULL),
	('last_id', 'bigint', false, NULL),
	('batch_snapshot', 'pg_snapshot', false, NULL),
	('batch_next_xid', 'xid8', false, NULL),
	('batch_last_id', 'bigint', false, NULL),
	('read_id', 'bigint', false, NULL),
	('mark_xid', 'xid8', false, NULL),
	('mark_id', 'bigint', false, NULL),
	('acknowledged_at', 'timestamp with time zone', false, NULL)
$$, 'columns of consumer_positions');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.anchor_parts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account_id', 'bigint', true),
	('transaction_id', 'bigint', true),
	('number', 'integer', true),
	('kind', 'text', true),
	('id', 'bigint', true),
	('state', 'jsonb', true)
$$, 'columns of anchor_parts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.anchors'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account_id', 'bigint', true),
	('transaction_id', 'bigint', true),
	('until_id', 'bigint', true),
	('transaction_count', 'bigint', true),
	('created_at', 'timestamp with time zone', true),
	('status', 'text', true),
	('balance', 'bigint', true),
	('held', 'bigint', true),
	('debt', 'bigint', true),
	('granted', 'bigint', true),
	('spent', 'bigint', true),
	('refunded', 'bigint', true),
	('expired', 'bigint', true),
	('opening_id', 'bigint', true),
	('opening_amount', 'bigint', true),
	('limits', 'jsonb', false),
	('hash', 'bytea', true)
$$, 'columns of anchors');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.archives'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('until_id', 'bigint', true),
	('from_id', 'bigint', true),
	('before', 'timestamp with time zone', true),
	('begun_at', 'timestamp with time zone', true),
	('done_account_id', 'bigint', true),
	('ended_at', 'timestamp with time zone', false)
$$, 'columns of archives');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.carried_rows'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('until_id', 'bigint', true),
	('previous', 'bytea', true),
	('hash', 'bytea', true)
$$, 'columns of carried_rows');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.hold_states'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', true),
	('created_at', 'timestamp with time zone', true),
	('reserved', 'bigint', true),
	('expires_at', 'timestamp with time zone', true),
	('status', 'text', true),
	('captured', 'bigint', true),
	('released', 'bigint', true)
$$, 'columns of hold_states');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.job_runs'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('job', 'text', true),
	('role', 'text', true),
	('pid', 'integer', true),
	('backend_start', 'timestamp with time zone', true),
	('statement_start', 'timestamp with time zone', true),
	('started_at', 'timestamp with time zone', true),
	('updated_at', 'timestamp with time zone', true),
	('ended_at', 'timestamp with time zone', false),
	('done', 'bigint', true),
	('failed', 'bigint', true),
	('failed_id', 'bigint', false),
	('error_code', 'text', false),
	('error', 'text', false)
$$, 'columns of job_runs');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.limits'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account_id', 'bigint', true),
	('max_balance', 'bigint', false),
	('excess', 'text', false),
	('min_spend', 'bigint', false),
	('max_spend', 'bigint', false),
	('max_spend_per_day', 'bigint', false),
	('max_spend_per_month', 'bigint', false),
	('timezone', 'text', true),
	('day_start', 'timestamp with time zone', true),
	('day_used', 'bigint', true),
	('month_start', 'timestamp with time zone', true),
	('month_used', 'bigint', true)
$$, 'columns of limits');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.members'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('pool_id', 'bigint', true),
	('account_id', 'bigint', true),
	('cap', 'bigint', false),
	('per', 'text', true),
	('timezone', 'text', true),
	('created_at', 'timestamp with time zone', true),
	('window_start', 'timestamp with time zone', true),
	('used', 'bigint', true),
	('since_id', 'bigint', true)
$$, 'columns of members');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.codes'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', false),
	('transaction_id', 'bigint', false),
	('created_at', 'timestamp with time zone', true),
	('credits', 'bigint', false),
	('active_from', 'timestamp with time zone', true),
	('active_until', 'timestamp with time zone', true),
	('per_account', 'integer', true),
	('kind', 'text', true),
	('code', 'text', true),
	('expires_in', 'interval', false),
	('new_accounts_within', 'interval', false),
	('message', 'text', false),
	('metadata', 'jsonb', false),
	('max_uses', 'bigint', false),
	('uses', 'bigint', true),
	('active', 'boolean', true)
$$, 'columns of codes');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.operations'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('name', 'text', true),
	('base_cost', 'numeric', true),
	('unit_cost', 'numeric', true),
	('unit_name', 'text', false),
	('included_units', 'numeric', true),
	('rounding', 'text', true),
	('minimum', 'bigint', true),
	('active_from', 'timestamp with time zone', true),
	('active_until', 'timestamp with time zone', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of operations');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.redemptions'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('transaction_id', 'bigint', true),
	('code_id', 'bigint', true),
	('account_id', 'bigint', true),
	('created_at', 'timestamp with time zone', true),
	('kind', 'text', true)
$$, 'columns of redemptions');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.schedules'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('job', 'text', true),
	('role', 'text', true),
	('database', 'text', true),
	('schedule', 'text', true),
	('scheduled_at', 'timestamp with time zone', true)
$$, 'columns of schedules');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.warnings'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('kind', 'text', true),
	('lead', 'interval', true),
	('reached_at', 'timestamp with time zone', true),
	('reached_id', 'bigint', true)
$$, 'columns of warnings');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.packages'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('name', 'text', true),
	('credits', 'bigint', true),
	('price', 'numeric', true),
	('currency', 'text', true),
	('unit', 'text', false),
	('expires_in', 'interval', false),
	('priority', 'integer', true),
	('extras', 'jsonb', true),
	('active_from', 'timestamp with time zone', true),
	('active_until', 'timestamp with time zone', false),
	('metadata', 'jsonb', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of packages');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.promotion_totals'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('promotion', 'text', true),
	('uses', 'bigint', true)
$$, 'columns of promotion_totals');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.promotion_uses'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('purchase_id', 'bigint', true),
	('account_id', 'bigint', true),
	('promotion', 'text', true),
	('promotion_id', 'bigint', true),
	('created_at', 'timestamp with time zone', true),
	('released_at', 'timestamp with time zone', false)
$$, 'columns of promotion_uses');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.promotions'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('name', 'text', true),
	('kind', 'text', true),
	('value', 'numeric', true),
	('currency', 'text', false),
	('expires_in', 'interval', false),
	('plans', 'text[]', false),
	('per_account', 'bigint', false),
	('max_uses', 'bigint', false),
	('active_from', 'timestamp with time zone', true),
	('active_until', 'timestamp with time zone', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of promotions');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.unit_prices'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('unit', 'text', true),
	('currency', 'text', true),
	('price', 'numeric', true),
	('active_from', 'timestamp with time zone', true),
	('active_until', 'timestamp with time zone', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of unit_prices');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.volume_discounts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('unit', 'text', true),
	('currency', 'text', false),
	('from_credits', 'bigint[]', false),
	('percents', 'numeric[]', false),
	('active_from', 'timestamp with time zone', true),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of volume_discounts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.draws'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('transaction_id', 'bigint'),
	('account_id', 'bigint'),
	('kind', 'text'),
	('ordinal', 'integer'),
	('grant_id', 'bigint'),
	('amount', 'bigint'),
	('created_at', 'timestamp with time zone')
$$, 'columns of the view draws');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.jobs'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('job', 'text'),
	('purpose', 'text'),
	('schedule', 'text'),
	('role', 'text'),
	('problem', 'text'),
	('running', 'bigint'),
	('started_at', 'timestamp with time zone'),
	('updated_at', 'timestamp with time zone'),
	('ended_at', 'timestamp with time zone'),
	('interrupted', 'boolean'),
	('done', 'bigint'),
	('failed', 'bigint'),
	('failed_id', 'bigint'),
	('error_code', 'text'),
	('error', 'text'),
	('behind', 'interval')
$$, 'columns of the view jobs');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.chain'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account_id', 'bigint'),
	('id', 'bigint'),
	('created_at', 'bigint'),
	('kind', 'text'),
	('amount', 'bigint'),
	('held', 'bigint'),
	('balance_after', 'bigint'),
	('held_after', 'bigint'),
	('target_id', 'bigint'),
	('member_id', 'bigint'),
	('request', 'bigint'),
	('role', 'text'),
	('idempotency_key', 'text'),
	('operation', 'text'),
	('reference', 'text'),
	('draws', 'bigint[]'),
	('terms', 'text'),
	('reason', 'text'),
	('metadata', 'text'),
	('actor', 'text'),
	('salt', 'text'),
	('hash', 'text')
$$, 'columns of the view chain');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.holds'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('hold_id', 'bigint'),
	('account', 'text'),
	('member', 'text'),
	('status', 'text'),
	('reserved', 'bigint'),
	('captured', 'bigint'),
	('released', 'bigint'),
	('remaining', 'bigint'),
	('expires_at', 'timestamp with time zone'),
	('created_at', 'timestamp with time zone'),
	('operation', 'text'),
	('reference', 'text')
$$, 'columns of the view holds');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.pool_members'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('pool', 'text'),
	('account', 'text'),
	('cap', 'bigint'),
	('per', 'text'),
	('timezone', 'text'),
	('window_start', 'timestamp with time zone'),
	('used', 'bigint'),
	('remaining', 'bigint'),
	('created_at', 'timestamp with time zone')
$$, 'columns of the view pool_members');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.pool_usage'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('pool', 'text'),
	('account', 'text'),
	('window_start', 'timestamp with time zone'),
	('used', 'bigint'),
	('transactions', 'bigint')
$$, 'columns of the view pool_usage');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.charges'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('transaction_id', 'bigint'),
	('account', 'text'),
	('member', 'text'),
	('operation', 'text'),
	('quantity', 'numeric'),
	('price_id', 'bigint'),
	('cost', 'bigint'),
	('created_at', 'timestamp with time zone')
$$, 'columns of the view charges');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.gifts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('gift_id', 'bigint'),
	('code', 'text'),
	('account', 'text'),
	('status', 'text'),
	('credits', 'bigint'),
	('expires_at', 'timestamp with time zone'),
	('message', 'text'),
	('metadata', 'jsonb'),
	('transaction_id', 'bigint'),
	('created_at', 'timestamp with time zone'),
	('redeemed_by', 'text'),
	('redeemed_at', 'timestamp with time zone')
$$, 'columns of the view gifts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.promo_codes'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('code_id', 'bigint'),
	('code', 'text'),
	('status', 'text'),
	('credits', 'bigint'),
	('uses', 'bigint'),
	('max_uses', 'bigint'),
	('per_account', 'integer'),
	('active_from', 'timestamp with time zone'),
	('active_until', 'timestamp with time zone'),
	('expires_in', 'interval'),
	('new_accounts_within', 'interval'),
	('metadata', 'jsonb'),
	('created_at', 'timestamp with time zone')
$$, 'columns of the view promo_codes');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.referral_counts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account', 'text'),
	('code', 'text'),
	('referrals', 'bigint'),
	('credits', 'bigint'),
	('last_at', 'timestamp with time zone')
$$, 'columns of the view referral_counts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.referrals'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('transaction_id', 'bigint'),
	('referrer', 'text'),
	('referee', 'text'),
	('referrer_credits', 'bigint'),
	('referee_credits', 'bigint'),
	('created_at', 'timestamp with time zone')
$$, 'columns of the view referrals');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.sold_packages'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('name', 'text'),
	('credits', 'bigint'),
	('price', 'numeric'),
	('currency', 'text'),
	('unit', 'text'),
	('expires_in', 'interval'),
	('extras', 'jsonb'),
	('active_until', 'timestamp with time zone'),
	('metadata', 'jsonb'),
	('package_id', 'bigint'),
	('private', 'boolean')
$$, 'columns of the view sold_packages');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.current_packages'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('name', 'text'),
	('credits', 'bigint'),
	('price', 'numeric'),
	('currency', 'text'),
	('unit', 'text'),
	('expires_in', 'interval'),
	('extras', 'jsonb'),
	('active_until', 'timestamp with time zone'),
	('metadata', 'jsonb'),
	('package_id', 'bigint')
$$, 'columns of the view current_packages');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.current_unit_prices'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('unit', 'text'),
	('currency', 'text'),
	('price', 'numeric'),
	('active_until', 'timestamp with time zone'),
	('unit_price_id', 'bigint')
$$, 'columns of the view current_unit_prices');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.current_volume_discounts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('unit', 'text'),
	('currency', 'text'),
	('from_credits', 'bigint'),
	('percent', 'numeric'),
	('volume_discount_id', 'bigint')
$$, 'columns of the view current_volume_discounts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.current_promotions'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('name', 'text'),
	('kind', 'text'),
	('value', 'numeric'),
	('currency', 'text'),
	('expires_in', 'interval'),
	('plans', 'text[]'),
	('per_account', 'bigint'),
	('max_uses', 'bigint'),
	('uses', 'bigint'),
	('left_over', 'bigint'),
	('active_until', 'timestamp with time zone'),
	('promotion_id', 'bigint')
$$, 'columns of the view current_promotions');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.debts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('grant_id', 'bigint', true),
	('account_id', 'bigint', true),
	('claimed', 'bigint', true),
	('gone', 'bigint', true),
	('owed', 'bigint', true),
	('paid', 'bigint', true),
	('payers', 'bigint[]', false),
	('group_id', 'bigint', false),
	('lasts_until', 'timestamp with time zone', false)
$$, 'columns of debts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.erasures'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('account_id', 'bigint', true),
	('transaction_id', 'bigint', true),
	('begun_at', 'timestamp with time zone', true),
	('ended_at', 'timestamp with time zone', false),
	('role', 'text', true),
	('done', 'bigint', true),
	('name', 'text', false),
	('salt', 'bytea', false),
	('xid', 'xid8', false),
	('system', 'bigint', false),
	('last_pass', 'boolean', true),
	('place', 'text', false),
	('step', 'integer', true),
	('position', 'text', false)
$$, 'columns of erasures');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.purchases'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', true),
	('reference', 'text', true),
	('package', 'text', false),
	('credits', 'bigint', true),
	('promotion', 'text', false),
	('promotion_id', 'bigint', false),
	('price', 'numeric', true),
	('currency', 'text', true),
	('quote', 'jsonb', false),
	('status', 'text', true),
	('payment_reference', 'text', false),
	('money', 'numeric', false),
	('grant_ids', 'bigint[]', false),
	('transaction_id', 'bigint', false),
	('problem', 'text', false),
	('reason', 'text', false),
	('idempotency_key', 'text', false),
	('request', 'bigint', false),
	('metadata', 'jsonb', false),
	('created_at', 'timestamp with time zone', true),
	('expires_at', 'timestamp with time zone', true),
	('completed_at', 'timestamp with time zone', false),
	('role', 'text', true)
$$, 'columns of purchases');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.reversals'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('purchase_id', 'bigint', true),
	('reference', 'text', true),
	('kind', 'text', true),
	('status', 'text', true),
	('money', 'numeric', true),
	('credits', 'bigint', true),
	('reason', 'text', false),
	('created_at', 'timestamp with time zone', true),
	('updated_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of reversals');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.purchase_list'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('purchase_id', 'bigint'),
	('account', 'text'),
	('reference', 'text'),
	('package', 'text'),
	('credits', 'bigint'),
	('price', 'numeric'),
	('currency', 'text'),
	('promotion', 'text'),
	('status', 'text'),
	('money', 'numeric'),
	('money_back', 'numeric'),
	('chargeback_open', 'boolean'),
	('claimed', 'bigint'),
	('owed', 'bigint'),
	('payment_reference', 'text'),
	('created_at', 'timestamp with time zone'),
	('completed_at', 'timestamp with time zone'),
	('expires_at', 'timestamp with time zone')
$$, 'columns of the view purchase_list');

SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.plans'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('name', 'text', true),
	('version', 'integer', true),
	('unit', 'text', false),
	('credits', 'bigint', true),
	('period', 'text', true),
	('every', 'integer', true),
	('price', 'numeric', false),
	('currency', 'text', false),
	('rollover', 'text', true),
	('rollover_maximum', 'bigint', false),
	('rollover_share', 'numeric', false),
	('rollover_minimum', 'bigint', true),
	('rollover_periods', 'integer', false),
	('rollover_total', 'bigint', false),
	('rollover_again', 'boolean', true),
	('priority', 'integer', false),
	('trial', 'interval', false),
	('trial_credits', 'bigint', true),
	('catch_up', 'text', true),
	('grace', 'interval', false),
	('features', 'jsonb', false),
	('retired', 'boolean', true),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of plans');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.subscriptions'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('account_id', 'bigint', true),
	('plan_id', 'bigint', true),
	('external_id', 'text', false),
	('status', 'text', true),
	('collection', 'text', true),
	('timezone', 'text', true),
	('anchor', 'timestamp with time zone', true),
	('first_number', 'bigint', true),
	('period_number', 'bigint', true),
	('period_start', 'timestamp with time zone', true),
	('period_end', 'timestamp with time zone', true),
	('next_plan_id', 'bigint', false),
	('next_proration', 'text', false),
	('cancel_at', 'timestamp with time zone', false),
	('cancel_credits', 'text', false),
	('due_at', 'timestamp with time zone', true),
	('created_at', 'timestamp with time zone', true),
	('started_at', 'timestamp with time zone', true),
	('ended_at', 'timestamp with time zone', false),
	('metadata', 'jsonb', false)
$$, 'columns of subscriptions');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.periods'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('subscription_id', 'bigint', true),
	('starts_at', 'timestamp with time zone', true),
	('ends_at', 'timestamp with time zone', true),
	('number', 'bigint', true),
	('account_id', 'bigint', true),
	('plan_id', 'bigint', true),
	('status', 'text', true),
	('credits', 'bigint', true),
	('given', 'bigint', true),
	('unused', 'bigint', false),
	('again', 'bigint', false),
	('rolled', 'bigint', false),
	('rolled_grant_ids', 'bigint[]', true),
	('grace_grant_id', 'bigint', false),
	('grace_spent', 'bigint', false),
	('transaction_id', 'bigint', false),
	('grant_id', 'bigint', false),
	('withdrawn', 'bigint', false),
	('price', 'numeric', false),
	('currency', 'text', false),
	('claimed', 'bigint', false),
	('paid', 'bigint', false),
	('granted', 'bigint', false),
	('taken', 'bigint', false),
	('carried', 'bigint', false),
	('credited', 'bigint', false),
	('reversed', 'bigint', false),
	('late', 'bigint', false),
	('changed_at', 'timestamp with time zone', false),
	('earned', 'numeric', false),
	('earning', 'bigint', false),
	('earning_since', 'timestamp with time zone', false)
$$, 'columns of periods');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.paid_parts'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('subscription_id', 'bigint', true),
	('ends_at', 'timestamp with time zone', true),
	('reference', 'text', true),
	('starts_at', 'timestamp with time zone', true),
	('settled_at', 'timestamp with time zone', true),
	('plan_id', 'bigint', true),
	('credits', 'bigint', true),
	('reversed', 'bigint', true),
	('price', 'numeric', false),
	('currency', 'text', false),
	('trial', 'boolean', true),
	('finalized_at', 'timestamp with time zone', false),
	('funds', 'boolean', true)
$$, 'columns of paid_parts');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.period_refunds'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('subscription_id', 'bigint', true),
	('reference', 'text', true),
	('starts_at', 'timestamp with time zone', true),
	('money', 'numeric', false),
	('currency', 'text', false),
	('reason', 'text', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true)
$$, 'columns of period_refunds');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.plan_changes'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('subscription_id', 'bigint', true),
	('at', 'timestamp with time zone', true),
	('reference', 'text', true),
	('plan_id', 'bigint', true),
	('proration', 'text', true),
	('carried', 'numeric', false)
$$, 'columns of plan_changes');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attrelid = 'credits.offers'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('id', 'bigint', true),
	('kind', 'text', true),
	('name', 'text', true),
	('account_id', 'bigint', false),
	('metadata', 'jsonb', false),
	('created_at', 'timestamp with time zone', true),
	('role', 'text', true),
	('withdrawn_at', 'timestamp with time zone', false),
	('withdrawn_by', 'text', false)
$$, 'columns of offers');
SELECT pg_temp.rows_are($$
	SELECT attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod), attnotnull
	FROM pg_attribute WHERE attnum > 0 AND attrelid IN ('credits.contacts'::regclass, 'credits.preferences'::regclass,
		'credits.quiet_hours'::regclass, 'credits.templates'::regclass, 'credits.unsubscribe_secrets'::regclass)
	ORDER BY attrelid::regclass::text COLLATE "C", attnum
$$, $$ VALUES
	('credits.contacts', 'id', 'bigint', true),
	('credits.contacts', 'account_id', 'bigint', true),
	('credits.contacts', 'channel', 'text', true),
	('credits.contacts', 'address', 'text', false),
	('credits.contacts', 'verified', 'boolean', true),
	('credits.contacts', 'locale', 'text', false),
	('credits.contacts', 'created_at', 'timestamp with time zone', true),
	('credits.contacts', 'changed_at', 'timestamp with time zone', true),
	('credits.contacts', 'disabled_at', 'timestamp with time zone', false),
	('credits.contacts', 'role', 'text', true),
	('credits.preferences', 'account_id', 'bigint', true),
	('credits.preferences', 'kind', 'text', true),
	('credits.preferences', 'channel', 'text', true),
	('credits.preferences', 'enabled', 'boolean', true),
	('credits.preferences', 'changed_at', 'timestamp with time zone', true),
	('credits.preferences', 'role', 'text', true),
	('credits.quiet_hours', 'account_id', 'bigint', true),
	('credits.quiet_hours', 'quiet_from', 'time without time zone', true),
	('credits.quiet_hours', 'quiet_until', 'time without time zone', true),
	('credits.quiet_hours', 'timezone', 'text', true),
	('credits.quiet_hours', 'changed_at', 'timestamp with time zone', true),
	('credits.quiet_hours', 'role', 'text', true),
	('credits.templates', 'id', 'bigint', true),
	('credits.templates', 'kind', 'text', true),
	('credits.templates', 'channel', 'text', true),
	('credits.templates', 'locale', 'text', true),
	('credits.templates', 'version', 'integer', true),
	('credits.templates', 'subject', 'text', false),
	('credits.templates', 'body', 'text', false),
	('credits.templates', 'html', 'text', false),
	('credits.templates', 'created_at', 'timestamp with time zone', true),
	('credits.templates', 'role', 'text', true),
	('credits.unsubscribe_secrets', 'id', 'bigint', true),
	('credits.unsubscribe_secrets', 'secret', 'bytea', true),
	('credits.unsubscribe_secrets', 'created_at', 'timestamp with time zone', true)
$$, 'columns of contacts, preferences and the like');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.event_kinds'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('kind', 'text'),
	('description', 'text'),
	('told', 'boolean'),
	('required', 'boolean'),
	('critical', 'boolean'),
	('subject', 'text'),
	('body', 'text'),
	('example', 'jsonb')
$$, 'columns of the view event_kinds');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.offer_list'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('offer_id', 'bigint'),
	('kind', 'text'),
	('name', 'text'),
	('account', 'text'),
	('metadata', 'jsonb'),
	('everybody', 'boolean'),
	('created_at', 'timestamp with time zone'),
	('role', 'text'),
	('withdrawn_at', 'timestamp with time zone'),
	('withdrawn_by', 'text')
$$, 'columns of the view offer_list');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.sold_plans'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('plan_id', 'bigint'),
	('name', 'text'),
	('version', 'integer'),
	('unit', 'text'),
	('credits', 'bigint'),
	('period', 'text'),
	('every', 'integer'),
	('price', 'numeric'),
	('currency', 'text'),
	('rollover', 'text'),
	('rollover_maximum', 'bigint'),
	('rollover_share', 'numeric'),
	('rollover_minimum', 'bigint'),
	('rollover_periods', 'integer'),
	('rollover_total', 'bigint'),
	('rollover_again', 'boolean'),
	('priority', 'integer'),
	('trial', 'interval'),
	('trial_credits', 'bigint'),
	('catch_up', 'text'),
	('grace', 'interval'),
	('features', 'jsonb'),
	('private', 'boolean')
$$, 'columns of the view sold_plans');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.current_plans'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('plan_id', 'bigint'),
	('name', 'text'),
	('version', 'integer'),
	('unit', 'text'),
	('credits', 'bigint'),
	('period', 'text'),
	('every', 'integer'),
	('price', 'numeric'),
	('currency', 'text'),
	('rollover', 'text'),
	('rollover_maximum', 'bigint'),
	('rollover_share', 'numeric'),
	('rollover_minimum', 'bigint'),
	('rollover_periods', 'integer'),
	('rollover_total', 'bigint'),
	('rollover_again', 'boolean'),
	('priority', 'integer'),
	('trial', 'interval'),
	('trial_credits', 'bigint'),
	('catch_up', 'text'),
	('grace', 'interval'),
	('features', 'jsonb')
$$, 'columns of the view current_plans');
SELECT pg_temp.rows_are($$
	SELECT attname::text, format_type(atttypid, atttypmod)
	FROM pg_attribute WHERE attrelid = 'credits.subscription_list'::regclass AND attnum > 0 ORDER BY attnum
$$, $$ VALUES
	('subscription_id', 'bigint'),
	('account', 'text'),
	('plan', 'text'),
	('version', 'integer'),
	('status', 'text'),
	('collection', 'text'),
	('external_id', 'text'),
	('period_start', 'timestamp with time zone'),
	('period_end', 'timestamp with time zone'),
	('next_plan', 'text'),
	('cancel_at', 'timestamp with time zone'),
	('cancel_credits', 'text'),
	('timezone', 'text'),
	('anchor', 'timestamp with time zone'),
	('started_at', 'timestamp with time zone'),
	('ended_at', 'timestamp with time zone')
$$, 'columns of the view subscription_list');

-- types
SELECT pg_temp.rows_are($$
	SELECT t.typname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
	FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
	JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	WHERE t.typtype = 'c' AND (SELECT relkind FROM pg_class WHERE oid = t.typrelid) = 'c'
	ORDER BY t.typname, a.attnum
$$, $$ VALUES
	('allocation', 'account', 'text'),
	('allocation', 'amount', 'bigint'),
	('allocation', 'idempotency_key', 'text'),
	('allocation', 'reference', 'text'),
	('allocation', 'reason', 'text'),
	('allocation', 'metadata', 'jsonb'),
	('allocation', 'source', 'text'),
	('allocation', 'expires_at', 'timestamp with time zone'),
	('allocation', 'expires_in', 'interval'),
	('allocation', 'effective_at', 'timestamp with time zone'),
	('allocation', 'priority', 'integer'),
	('allocation', 'price', 'numeric'),
	('allocation', 'currency', 'text'),
	('attempt', 'ok', 'boolean'),
	('attempt', 'code', 'text'),
	('attempt', 'message', 'text'),
	('attempt', 'detail', 'text'),
	('attempt', 'hint', 'text'),
	('attempt', 'receipt', 'credits.receipt'),
	('capture_item', 'hold_id', 'bigint'),
	('capture_item', 'amount', 'bigint'),
	('capture_item', 'idempotency_key', 'text'),
	('capture_item', 'reference', 'text'),
	('capture_item', 'metadata', 'jsonb'),
	('capture_item', 'final', 'boolean'),
	('capture_item', 'allow_more', 'boolean'),
	('capture_item', 'account', 'text'),
	('checkout', 'purchase_id', 'bigint'),
	('checkout', 'account', 'text'),
	('checkout', 'status', 'text'),
	('checkout', 'reference', 'text'),
	('checkout', 'credits', 'bigint'),
	('checkout', 'price', 'numeric'),
	('checkout', 'currency', 'text'),
	('checkout', 'amount_minor', 'bigint'),
	('checkout', 'stripe_amount', 'bigint'),
	('checkout', 'expires_at', 'timestamp with time zone'),
	('checkout', 'metadata', 'jsonb'),
	('checkout', 'replayed', 'boolean'),
	('clawback', 'purchase_id', 'bigint'),
	('clawback', 'account', 'text'),
	('clawback', 'reference', 'text'),
	('clawback', 'status', 'text'),
	('clawback', 'money', 'numeric'),
	('clawback', 'credits', 'bigint'),
	('clawback', 'balance', 'bigint'),
	('clawback', 'debt', 'bigint'),
	('clawback', 'replayed', 'boolean'),
	('deduction', 'account', 'text'),
	('deduction', 'amount', 'bigint'),
	('deduction', 'idempotency_key', 'text'),
	('deduction', 'operation', 'text'),
	('deduction', 'reference', 'text'),
	('deduction', 'metadata', 'jsonb'),
	('dispute', 'dispute_id', 'bigint'),
	('dispute', 'account', 'text'),
	('dispute', 'transaction_id', 'bigint'),
	('dispute', 'reason', 'text'),
	('dispute', 'requested', 'bigint'),
	('dispute', 'status', 'text'),
	('dispute', 'assignee', 'text'),
	('dispute', 'refunded', 'bigint'),
	('dispute', 'refund_id', 'bigint'),
	('dispute', 'opened_at', 'timestamp with time zone'),
	('dispute', 'ended_at', 'timestamp with time zone'),
	('dispute', 'replayed', 'boolean'),
	('gift', 'code', 'text'),
	('gift', 'expires_at', 'timestamp with time zone'),
	('gift', 'receipt', 'credits.receipt'),
	('hold_item', 'account', 'text'),
	('hold_item', 'amount', 'bigint'),
	('hold_item', 'idempotency_key', 'text'),
	('hold_item', 'operation', 'text'),
	('hold_item', 'reference', 'text'),
	('hold_item', 'metadata', 'jsonb'),
	('hold_item', 'expires_in', 'interval'),
	('outcome', 'item', 'integer'),
	('outcome', 'ok', 'boolean'),
	('outcome', 'code', 'text'),
	('outcome', 'message', 'text'),
	('outcome', 'detail', 'text'),
	('outcome', 'hint', 'text'),
	('outcome', 'receipt', 'credits.receipt'),
	('payment', 'outcome', 'text'),
	('payment', 'purchase_id', 'bigint'),
	('payment', 'receipt', 'credits.receipt'),
	('period_refund', 'subscription_id', 'bigint'),
	('period_refund', 'account', 'text'),
	('period_refund', 'period_start', 'timestamp with time zone'),
	('period_refund', 'period_end', 'timestamp with time zone'),
	('period_refund', 'reference', 'text'),
	('period_refund', 'money', 'numeric'),
	('period_refund', 'currency', 'text'),
	('period_refund', 'credits', 'bigint'),
	('period_refund', 'balance', 'bigint'),
	('period_refund', 'debt', 'bigint'),
	('period_refund', 'replayed', 'boolean'),
	('plan_change', 'subscription_id', 'bigint'),
	('plan_change', 'plan', 'text'),
	('plan_change', 'version', 'integer'),
	('plan_change', 'at', 'timestamp with time zone'),
	('plan_change', 'scheduled', 'boolean'),
	('plan_change', 'period_start', 'timestamp with time zone'),
	('plan_change', 'period_end', 'timestamp with time zone'),
	('plan_change', 'entitlement', 'numeric'),
	('plan_change', 'given', 'bigint'),
	('plan_change', 'taken', 'bigint'),
	('plan_change', 'balance', 'bigint'),
	('plan_change', 'transaction_id', 'bigint'),
	('plan_change', 'replayed', 'boolean'),
	('price', 'credits', 'bigint'),
	('price', 'bonus', 'bigint'),
	('price', 'subtotal', 'numeric'),
	('price', 'volume_discount', 'numeric'),
	('price', 'promotion_discount', 'numeric'),
	('price', 'total', 'numeric'),
	('price', 'currency', 'text'),
	('price', 'amount_minor', 'bigint'),
	('price', 'price_per_credit', 'numeric'),
	('price', 'grants', 'jsonb'),
	('price', 'computation', 'jsonb'),
	('problem', 'account', 'text'),
	('problem', 'transaction_id', 'bigint'),
	('problem', 'problem', 'text'),
	('problem', 'detail', 'text'),
	('quote', 'cost', 'bigint'),
	('quote', 'sufficient', 'boolean'),
	('quote', 'balance', 'bigint'),
	('quote', 'remaining', 'bigint'),
	('quote', 'price_id', 'bigint'),
	('quote', 'draws', 'jsonb'),
	('quote', 'code', 'text'),
	('receipt', 'transaction_id', 'bigint'),
	('receipt', 'account', 'text'),
	('receipt', 'kind', 'text'),
	('receipt', 'amount', 'bigint'),
	('receipt', 'balance', 'bigint'),
	('receipt', 'held', 'bigint'),
	('receipt', 'replayed', 'boolean'),
	('receipt', 'created_at', 'timestamp with time zone'),
	('rendered_message', 'template_id', 'bigint'),
	('rendered_message', 'subject', 'text'),
	('rendered_message', 'body', 'text'),
	('rendered_message', 'html', 'text'),
	('settlement', 'balance', 'bigint'),
	('settlement', 'held', 'bigint'),
	('settlement', 'debt', 'bigint'),
	('settlement', 'expired', 'bigint'),
	('settlement', 'expiring_amount', 'bigint'),
	('settlement', 'expiring_at', 'timestamp with time zone'),
	('settlement', 'granted', 'bigint'),
	('stripe_result', 'event_id', 'text'),
	('stripe_result', 'type', 'text'),
	('stripe_result', 'result', 'text'),
	('stripe_result', 'detail', 'jsonb'),
	('subscription_state', 'subscription_id', 'bigint'),
	('subscription_state', 'account', 'text'),
	('subscription_state', 'plan', 'text'),
	('subscription_state', 'version', 'integer'),
	('subscription_state', 'status', 'text'),
	('subscription_state', 'period_start', 'timestamp with time zone'),
	('subscription_state', 'period_end', 'timestamp with time zone'),
	('subscription_state', 'cancel_at', 'timestamp with time zone'),
	('subscription_state', 'transaction_id', 'bigint'),
	('subscription_state', 'balance', 'bigint'),
	('subscription_state', 'replayed', 'boolean'),
	('transfer_item', 'from_account', 'text'),
	('transfer_item', 'to_account', 'text'),
	('transfer_item', 'amount', 'bigint'),
	('transfer_item', 'idempotency_key', 'text'),
	('transfer_item', 'reason', 'text'),
	('transfer_item', 'metadata', 'jsonb')
$$, 'composite types');

-- constraints and indexes
SELECT pg_temp.rows_are($$
	SELECT conrelid::regclass::text, conname::text, contype::text FROM pg_constraint
	WHERE connamespace = 'credits'::regnamespace AND contype <> 'n' ORDER BY 1, 2
$$, $$ VALUES
	('credits.accounts', 'accounts_name_key', 'u'),
	('credits.accounts', 'accounts_not_negative', 'c'),
	('credits.accounts', 'accounts_pkey', 'p'),
	('credits.activity_hits', 'activity_hits_account_id_fkey', 'f'),
	('credits.activity_hits', 'activity_hits_pkey', 'p'),
	('credits.activity_hours', 'activity_hours_account_id_fkey', 'f'),
	('credits.activity_hours', 'activity_hours_pkey', 'p'),
	('credits.activity_position', 'activity_position_mark', 'c'),
	('credits.activity_position', 'activity_position_one', 'c'),
	('credits.activity_position', 'activity_position_pkey', 'p'),
	('credits.activity_rules', 'activity_rules_baseline', 'c'),
	('credits.activity_rules', 'activity_rules_kind', 'c'),
	('credits.activity_rules', 'activity_rules_minimum', 'c'),
	('credits.activity_rules', 'activity_rules_pkey', 'p'),
	('credits.activity_rules', 'activity_rules_threshold', 'c'),
	('credits.anchor_parts', 'anchor_parts_pkey', 'p'),
	('credits.anchors', 'anchors_not_negative', 'c'),
	('credits.anchors', 'anchors_pkey', 'p'),
	('credits.archived_grants', 'archived_grants_pkey', 'p'),
	('credits.archived_log_default', 'archived_log_default_pkey', 'p'),
	('credits.archives', 'archives_pkey', 'p'),
	('credits.audit_log', 'audit_log_account_id_fkey', 'f'),
	('credits.audit_log', 'audit_log_pkey', 'p'),
	('credits.carried_rows', 'carried_rows_pkey', 'p'),
	('credits.codes', 'codes_account_id_fkey', 'f'),
	('credits.codes', 'codes_code_key', 'u'),
	('credits.codes', 'codes_not_too_often', 'c'),
	('credits.codes', 'codes_pkey', 'p'),
	('credits.consumer_positions', 'consumer_positions_batch', 'c'),
	('credits.consumer_positions', 'consumer_positions_mark', 'c'),
	('credits.consumer_positions', 'consumer_positions_pkey', 'p'),
	('credits.consumer_positions', 'consumer_positions_read', 'c'),
	('credits.consumers', 'consumers_pkey', 'p'),
	('credits.consumers', 'consumers_safe_id', 'c'),
	('credits.contacts', 'contacts_account_id_fkey', 'f'),
	('credits.contacts', 'contacts_channel', 'c'),
	('credits.contacts', 'contacts_inbox', 'c'),
	('credits.contacts', 'contacts_pkey', 'p'),
	('credits.correction_items', 'correction_items_account', 'c'),
	('credits.correction_items', 'correction_items_account_id_fkey', 'f'),
	('credits.correction_items', 'correction_items_balance', 'c'),
	('credits.correction_items', 'correction_items_correction_id_fkey', 'f'),
	('credits.correction_items', 'correction_items_pkey', 'p'),
	('credits.correction_items', 'correction_items_transaction', 'c'),
	('credits.corrections', 'corrections_accounts', 'c'),
	('credits.corrections', 'corrections_applied', 'c'),
	('credits.corrections', 'corrections_delta', 'c'),
	('credits.corrections', 'corrections_ended', 'c'),
	('credits.corrections', 'corrections_pkey', 'p'),
	('credits.corrections', 'corrections_refusal', 'c'),
	('credits.corrections', 'corrections_status', 'c'),
	('credits.debts', 'debts_account_id_fkey', 'f'),
	('credits.debts', 'debts_grant_id_fkey', 'f'),
	('credits.debts', 'debts_group_id_fkey', 'f'),
	('credits.debts', 'debts_not_negative', 'c'),
	('credits.debts', 'debts_pkey', 'p'),
	('credits.deliveries', 'deliveries_account_id_fkey', 'f'),
	('credits.deliveries', 'deliveries_attempts', 'c'),
	('credits.deliveries', 'deliveries_channel', 'c'),
	('credits.deliveries', 'deliveries_ended', 'c'),
	('credits.deliveries', 'deliveries_lease', 'c'),
	('credits.deliveries', 'deliveries_pkey', 'p'),
	('credits.deliveries', 'deliveries_status', 'c'),
	('credits.disputes', 'disputes_account_id_fkey', 'f'),
	('credits.disputes', 'disputes_amounts', 'c'),
	('credits.disputes', 'disputes_decided', 'c'),
	('credits.disputes', 'disputes_ended', 'c'),
	('credits.disputes', 'disputes_pkey', 'p'),
	('credits.disputes', 'disputes_reason', 'c'),
	('credits.disputes', 'disputes_refund', 'c'),
	('credits.disputes', 'disputes_review', 'c'),
	('credits.disputes', 'disputes_status', 'c'),
	('credits.erasures', 'erasures_account_id_fkey', 'f'),
	('credits.erasures', 'erasures_ended', 'c'),
	('credits.erasures', 'erasures_pkey', 'p'),
	('credits.event_order', 'event_order_pkey', 'p'),
	('credits.events', 'events_account_id_fkey', 'f'),
	('credits.events', 'events_pkey', 'p'),
	('credits.grants', 'grants_account_id_fkey', 'f'),
	('credits.grants', 'grants_not_negative', 'c'),
	('credits.grants', 'grants_pkey', 'p'),
	('credits.hold_states', 'hold_states_account_id_fkey', 'f'),
	('credits.hold_states', 'hold_states_not_negative', 'c'),
	('credits.hold_states', 'hold_states_pkey', 'p'),
	('credits.job_runs', 'job_runs_pkey', 'p'),
	('credits.limits', 'limits_account_id_fkey', 'f'),
	('credits.limits', 'limits_not_negative', 'c'),
	('credits.limits', 'limits_pkey', 'p'),
	('credits.log', 'log_not_negative', 'c'),
	('credits.log_default', 'log_default_pkey', 'p'),
	('credits.log_default', 'log_not_negative', 'c'),
	('credits.members', 'members_account_id_fkey', 'f'),
	('credits.members', 'members_not_negative', 'c'),
	('credits.members', 'members_pkey', 'p'),
	('credits.members', 'members_pool_id_fkey', 'f'),
	('credits.offers', 'offers_account_id_fkey', 'f'),
	('credits.offers', 'offers_kind', 'c'),
	('credits.offers', 'offers_metadata', 'c'),
	('credits.offers', 'offers_pkey', 'p'),
	('credits.offers', 'offers_reach', 'c'),
	('credits.offers', 'offers_withdrawn', 'c'),
	('credits.operations', 'operations_not_negative', 'c'),
	('credits.operations', 'operations_pkey', 'p'),
	('credits.operations', 'operations_rounding', 'c'),
	('credits.packages', 'packages_credits', 'c'),
	('credits.packages', 'packages_currency', 'c'),
	('credits.packages', 'packages_extras', 'c'),
	('credits.packages', 'packages_pkey', 'p'),
	('credits.packages', 'packages_price', 'c'),
	('credits.paid_parts', 'paid_parts_pkey', 'p'),
	('credits.paid_parts', 'paid_parts_plan_id_fkey', 'f'),
	('credits.paid_parts', 'paid_parts_range', 'c'),
	('credits.paid_parts', 'paid_parts_subscription_id_fkey', 'f'),
	('credits.period_refunds', 'period_refunds_money', 'c'),
	('credits.period_refunds', 'period_refunds_pkey', 'p'),
	('credits.period_refunds', 'period_refunds_subscription_id_fkey', 'f'),
	('credits.periods', 'periods_account_id_fkey', 'f'),
	('credits.periods', 'periods_grace_grant_id_fkey', 'f'),
	('credits.periods', 'periods_grant_id_fkey', 'f'),
	('credits.periods', 'periods_not_negative', 'c'),
	('credits.periods', 'periods_pkey', 'p'),
	('credits.periods', 'periods_plan_id_fkey', 'f'),
	('credits.periods', 'periods_status', 'c'),
	('credits.periods', 'periods_subscription_id_fkey', 'f'),
	('credits.plan_changes', 'plan_changes_pkey', 'p'),
	('credits.plan_changes', 'plan_changes_plan_id_fkey', 'f'),
	('credits.plan_changes', 'plan_changes_proration', 'c'),
	('credits.plan_changes', 'plan_changes_subscription_id_fkey', 'f'),
	('credits.plans', 'plans_catch_up', 'c'),
	('credits.plans', 'plans_not_negative', 'c'),
	('credits.plans', 'plans_period', 'c'),
	('credits.plans', 'plans_pkey', 'p'),
	('credits.plans', 'plans_rollover', 'c'),
	('credits.preferences', 'preferences_account_id_fkey', 'f'),
	('credits.preferences', 'preferences_channel', 'c'),
	('credits.preferences', 'preferences_pkey', 'p'),
	('credits.promotion_totals', 'promotion_totals_not_negative', 'c'),
	('credits.promotion_totals', 'promotion_totals_pkey', 'p'),
	('credits.promotion_uses', 'promotion_uses_account_id_fkey', 'f'),
	('credits.promotion_uses', 'promotion_uses_pkey', 'p'),
	('credits.promotion_uses', 'promotion_uses_promotion_id_fkey', 'f'),
	('credits.promotion_uses', 'promotion_uses_purchase_id_fkey', 'f'),
	('credits.promotions', 'promotions_currency', 'c'),
	('credits.promotions', 'promotions_expires_in', 'c'),
	('credits.promotions', 'promotions_kind', 'c'),
	('credits.promotions', 'promotions_limits', 'c'),
	('credits.promotions', 'promotions_pkey', 'p'),
	('credits.promotions', 'promotions_value', 'c'),
	('credits.purchases', 'purchases_account_id_fkey', 'f'),
	('credits.purchases', 'purchases_completed', 'c'),
	('credits.purchases', 'purchases_not_negative', 'c'),
	('credits.purchases', 'purchases_pkey', 'p'),
	('credits.purchases', 'purchases_promotion_id_fkey', 'f'),
	('credits.purchases', 'purchases_reference_key', 'u'),
	('credits.purchases', 'purchases_status', 'c'),
	('credits.quiet_hours', 'quiet_hours_account_id_fkey', 'f'),
	('credits.quiet_hours', 'quiet_hours_pkey', 'p'),
	('credits.redemptions', 'redemptions_account_id_fkey', 'f'),
	('credits.redemptions', 'redemptions_code_id_fkey', 'f'),
	('credits.redemptions', 'redemptions_pkey', 'p'),
	('credits.reversals', 'reversals_kind', 'c'),
	('credits.reversals', 'reversals_not_negative', 'c'),
	('credits.reversals', 'reversals_pkey', 'p'),
	('credits.reversals', 'reversals_purchase_id_fkey', 'f'),
	('credits.reversals', 'reversals_status', 'c'),
	('credits.reward_programs', 'reward_programs_amounts', 'c'),
	('credits.reward_programs', 'reward_programs_grace_days', 'c'),
	('credits.reward_programs', 'reward_programs_kind', 'c'),
	('credits.reward_programs', 'reward_programs_limits', 'c'),
	('credits.reward_programs', 'reward_programs_pkey', 'p'),
	('credits.reward_totals', 'reward_totals_not_negative', 'c'),
	('credits.reward_totals', 'reward_totals_pkey', 'p'),
	('credits.rewards', 'rewards_account_id_fkey', 'f'),
	('credits.rewards', 'rewards_pkey', 'p'),
	('credits.rewards', 'rewards_positive', 'c'),
	('credits.rewards', 'rewards_program_id_fkey', 'f'),
	('credits.roles', 'roles_pkey', 'p'),
	('credits.schedules', 'schedules_pkey', 'p'),
	('credits.service_pause', 'service_pause_one', 'c'),
	('credits.service_pause', 'service_pause_pkey', 'p'),
	('credits.stripe_credit_notes', 'stripe_credit_notes_pkey', 'p'),
	('credits.stripe_customers', 'stripe_customers_account_id_fkey', 'f'),
	('credits.stripe_customers', 'stripe_customers_pkey', 'p'),
	('credits.stripe_dismissals', 'stripe_dismissals_pkey', 'p'),
	('credits.stripe_events', 'stripe_events_pkey', 'p'),
	('credits.stripe_events', 'stripe_events_result', 'c'),
	('credits.stripe_events', 'stripe_events_subject_fkey', 'f'),
	('credits.stripe_invoices', 'stripe_invoices_pkey', 'p'),
	('credits.stripe_invoices', 'stripe_invoices_status', 'c'),
	('credits.stripe_invoices', 'stripe_invoices_subscription_fkey', 'f'),
	('credits.stripe_items', 'stripe_items_pkey', 'p'),
	('credits.stripe_items', 'stripe_items_plan_id_fkey', 'f'),
	('credits.stripe_items', 'stripe_items_version_id_fkey', 'f'),
	('credits.stripe_lines', 'stripe_lines_pkey', 'p'),
	('credits.stripe_lines', 'stripe_lines_subscription_fkey', 'f'),
	('credits.stripe_links', 'stripe_links_pkey', 'p'),
	('credits.stripe_other_invoices', 'stripe_other_invoices_pkey', 'p'),
	('credits.stripe_payments', 'stripe_payments_pkey', 'p'),
	('credits.stripe_price_versions', 'stripe_price_versions_give', 'c'),
	('credits.stripe_price_versions', 'stripe_price_versions_one', 'c'),
	('credits.stripe_price_versions', 'stripe_price_versions_pkey', 'p'),
	('credits.stripe_price_versions', 'stripe_price_versions_upgrade', 'c'),
	('credits.stripe_secrets', 'stripe_secrets_pkey', 'p'),
	('credits.stripe_subjects', 'stripe_subjects_pkey', 'p'),
	('credits.stripe_subscriptions', 'stripe_subscriptions_pkey', 'p'),
	('credits.stripe_subscriptions', 'stripe_subscriptions_plan_id_fkey', 'f'),
	('credits.stripe_subscriptions', 'stripe_subscriptions_subscription_id_fkey', 'f'),
	('credits.subscriptions', 'subscriptions_account_id_fkey', 'f'),
	('credits.subscriptions', 'subscriptions_collection', 'c'),
	('credits.subscriptions', 'subscriptions_next_plan_id_fkey', 'f'),
	('credits.subscriptions', 'subscriptions_pkey', 'p'),
	('credits.subscriptions', 'subscriptions_plan_id_fkey', 'f'),
	('credits.subscriptions', 'subscriptions_status', 'c'),
	('credits.templates', 'templates_channel', 'c'),
	('credits.templates', 'templates_pkey', 'p'),
	('credits.topup_requests', 'topup_requests_account_id_fkey', 'f'),
	('credits.topup_requests', 'topup_requests_pkey', 'p'),
	('credits.topup_requests', 'topup_requests_purchase_id_fkey', 'f'),
	('credits.topups', 'topups_account_id_fkey', 'f'),
	('credits.topups', 'topups_amounts', 'c'),
	('credits.topups', 'topups_choice', 'c'),
	('credits.topups', 'topups_pkey', 'p'),
	('credits.topups', 'topups_state', 'c'),
	('credits.unit_prices', 'unit_prices_currency', 'c'),
	('credits.unit_prices', 'unit_prices_pkey', 'p'),
	('credits.unit_prices', 'unit_prices_price', 'c'),
	('credits.unsubscribe_secrets', 'unsubscribe_secrets_pkey', 'p'),
	('credits.volume_discounts', 'volume_discounts_currency', 'c'),
	('credits.volume_discounts', 'volume_discounts_pkey', 'p'),
	('credits.volume_discounts', 'volume_discounts_tiers', 'c'),
	('credits.warnings', 'warnings_pkey', 'p'),
	('credits.webhook_secrets', 'webhook_secrets_pkey', 'p')
$$, 'constraints');
SELECT is_empty($$
	SELECT conname FROM pg_constraint WHERE connamespace = 'credits'::regnamespace AND NOT convalidated AND contype <> 'f'
$$, 'all constraints are valid, but foreign keys, which are not checked');
SELECT pg_temp.rows_are($$
	SELECT indexrelid::regclass::text, indisunique, indisprimary, pg_get_expr(indpred, indrelid),
		   (SELECT string_agg(pg_get_indexdef(indexrelid, k, true), ',' ORDER BY k) FROM generate_series(1, indnatts) AS k)
	FROM pg_index JOIN pg_class AS c ON c.oid = indrelid
	WHERE c.relnamespace = 'credits'::regnamespace ORDER BY 1
$$, $$ VALUES
	('credits.accounts_debt_idx', false, false, '(debt > 0)', 'id'),
	('credits.accounts_due_at_idx', false, false, '(due_at < ''infinity''::timestamp with time zone)', 'due_at,id'),
	('credits.accounts_name_key', true, false, NULL, 'name'),
	('credits.accounts_pkey', true, true, NULL, 'id'),
	('credits.accounts_status_idx', false, false, '(status <> ''active''::text)', 'status,id'),
	('credits.activity_hits_ends_at_idx', false, false, NULL, 'ends_at'),
	('credits.activity_hits_pause_idx', false, false, '(pauses AND (paused_at IS NULL))', 'found_at,event_id'),
	('credits.activity_hits_pkey', true, true, NULL, 'account_id,rule,starts_at'),
	('credits.activity_hours_hour_idx', false, false, NULL, 'hour'),
	('credits.activity_hours_pkey', true, true, NULL, 'account_id,hour'),
	('credits.activity_position_pkey', true, true, NULL, 'one'),
	('credits.activity_rules_pkey', true, true, NULL, 'name'),
	('credits.anchor_parts_pkey', true, true, NULL, 'account_id,transaction_id,number'),
	('credits.anchors_pkey', true, true, NULL, 'account_id,transaction_id'),
	('credits.archived_grants_pkey', true, true, NULL, 'id'),
	('credits.archived_log_default_account_id_idx', false, false, NULL, 'account_id,created_at,id'),
	('credits.archived_log_default_pkey', true, true, NULL, 'id'),
	('credits.archives_pkey', true, true, NULL, 'until_id'),
	('credits.audit_log_account_id_idx', false, false, '(account_id IS NOT NULL)', 'account_id,at,id'),
	('credits.audit_log_at_idx', false, false, NULL, 'at,id'),
	('credits.audit_log_configuration_idx', false, false, '(amount IS NULL)', 'at,id'),
	('credits.audit_log_pkey', true, true, NULL, 'id'),
	('credits.audit_log_topic_idx', false, false, NULL, 'topic,at,id'),
	('credits.carried_rows_pkey', true, true, NULL, 'id,until_id'),
	('credits.codes_code_key', true, false, NULL, 'code'),
	('credits.codes_giver_idx', false, false, '(kind = ''gift''::text)', 'account_id,id'),
	('credits.codes_pkey', true, true, NULL, 'id'),
	('credits.codes_referrer_idx', true, false, '(kind = ''referral''::text)', 'account_id'),
	('credits.codes_transaction_id_idx', true, false, '(transaction_id IS NOT NULL)', 'transaction_id'),
	('credits.consumer_positions_pkey', true, true, NULL, 'consumer'),
	('credits.consumers_pkey', true, true, NULL, 'name'),
	('credits.contacts_address_idx', true, false, NULL,
	 E'account_id,channel,(\nCASE\n    WHEN channel = ANY (ARRAY[''push''::text, ''webhook''::text]) THEN address\n    ELSE ''''::text\nEND)'),
	('credits.contacts_pkey', true, true, NULL, 'id'),
	('credits.correction_items_account_id_idx', false, false, NULL, 'account_id'),
	('credits.correction_items_name_idx', false, false, '(name IS NOT NULL)', 'name'),
	('credits.correction_items_pkey', true, true, NULL, 'correction_id,number'),
	('credits.corrections_pkey', true, true, NULL, 'id'),
	('credits.corrections_token_idx', true, false, NULL, 'token'),
	('credits.corrections_unfinished_idx', false, false, '(ended_at IS NULL)', 'id'),
	('credits.debts_account_id_idx', false, false, NULL, 'account_id,grant_id'),
	('credits.debts_group_gone_idx', false, false, '((group_id IS NOT NULL) AND (gone > 0))', 'group_id,lasts_until,grant_id'),
	('credits.debts_group_owed_idx', false, false, '((group_id IS NOT NULL) AND ((owed + paid) > 0))', 'group_id,lasts_until,grant_id'),
	('credits.debts_group_taken_idx', false, false, '((group_id IS NOT NULL) AND (claimed > ((gone + owed) + paid)))', 'group_id,lasts_until,grant_id'),
	('credits.debts_owed_idx', false, false, '(owed > 0)', 'account_id,grant_id'),
	('credits.debts_pkey', true, true, NULL, 'grant_id'),
	('credits.deliveries_due_at_idx', false, false, '(status = ''waiting''::text)', 'channel,due_at,id'),
	('credits.deliveries_event_id_idx', true, false, NULL, 'event_id,contact_id'),
	('credits.deliveries_level_idx', false, false, '(level IS NOT NULL)', 'account_id,kind,level,event_at'),
	('credits.deliveries_pkey', true, true, NULL, 'id'),
	('credits.disputes_account_id_idx', false, false, NULL, 'account_id,opened_at,id,status,reason,assignee'),
	('credits.disputes_assignee_idx', false, false, '(assignee IS NOT NULL)', 'assignee,status,reason,opened_at,id'),
	('credits.disputes_ended_at_idx', false, false, '(ended_at IS NOT NULL)', 'ended_at'),
	('credits.disputes_idempotency_key_idx', true, false, '(idempotency_key IS NOT NULL)', 'account_id,idempotency_key'),
	('credits.disputes_opened_at_idx', false, false, '((ended_at IS NULL) AND (overdue_at IS NULL))', 'opened_at,id'),
	('credits.disputes_pkey', true, true, NULL, 'id'),
	('credits.disputes_status_idx', false, false, NULL, 'status,reason,opened_at,id'),
	('credits.disputes_transaction_id_idx', true, false, '(ended_at IS NULL)', 'transaction_id'),
	('credits.erasures_pkey', true, true, NULL, 'account_id'),
	('credits.erasures_unfinished_idx', false, false, '(ended_at IS NULL)', 'account_id'),
	('credits.event_order_pkey', true, true, NULL, 'event_id'),
	('credits.event_order_xid_idx', false, false, NULL, 'xid,event_id'),
	('credits.events_account_id_idx', false, false, NULL, 'account_id,id'),
	('credits.events_failed_idx', false, false,
	 '(kind = ANY (ARRAY[''renewal_failed''::text, ''settle_failed''::text]))', 'account_id,id'),
	('credits.events_pkey', true, true, NULL, 'id'),
	('credits.events_refused_at_idx', false, false,
	 '(kind = ANY (ARRAY[''deduction_refused''::text, ''hold_refused''::text, ''redemption_refused''::text]))', 'created_at,id'),
	('credits.events_refused_idx', false, false,
	 '(kind = ANY (ARRAY[''deduction_refused''::text, ''hold_refused''::text, ''redemption_refused''::text, ''redemption_throttled''::text]))', 'account_id,created_at'),
	('credits.grants_account_id_idx', false, false, NULL, 'account_id,id'),
	('credits.grants_burn_order_idx', false, false, '(status = ANY (ARRAY[''open''::text, ''pending''::text]))',
	 'account_id,priority,expires_at,effective_at,id'),
	('credits.grants_effective_at_idx', false, false, '(status = ''pending''::text)',
	 'account_id,effective_at,priority,expires_at,id'),
	('credits.grants_expires_at_idx', false, false,
	 '((status = ''open''::text) AND (expires_at IS NOT NULL))', 'expires_at,id'),
	('credits.grants_group_id_idx', false, false, '(group_id IS NOT NULL)', 'group_id,id'),
	('credits.grants_group_left_idx', false, false, '((group_id IS NOT NULL) AND (status = ANY (ARRAY[''open''::text, ''pending''::text])))',
		'group_id,expires_at,id'),
	('credits.grants_group_lost_idx', false, false, '((group_id IS NOT NULL) AND (lost > 0) AND (lost_claimed IS NULL))', 'group_id,expires_at,id'),
	('credits.grants_group_unclaimed_idx', false, false, '((group_id IS NOT NULL) AND (all_claimed IS NULL))', 'group_id,expires_at,id'),
	('credits.grants_pkey', true, true, NULL, 'id'),
	('credits.hold_states_expires_at_idx', false, false, '(status = ''open''::text)', 'account_id,expires_at,id'),
	('credits.hold_states_pkey', true, true, NULL, 'id'),
	('credits.job_runs_job_idx', false, false, NULL, 'job,id'),
	('credits.job_runs_pkey', true, true, NULL, 'id'),
	('credits.limits_pkey', true, true, NULL, 'account_id'),
	('credits.log_default_account_id_idx', false, false, NULL, 'account_id,created_at,id'),
	('credits.log_default_idempotency_key_idx', true, false, '(idempotency_key IS NOT NULL)',
	 'COALESCE(member_id, account_id),credits.key_digest(idempotency_key)'),
	('credits.log_default_pkey', true, true, NULL, 'id'),
	('credits.log_default_reference_idx', false, false, '(reference IS NOT NULL)', 'reference'),
	('credits.log_default_target_id_idx', false, false, '(target_id IS NOT NULL)', 'target_id'),
	('credits.members_account_id_idx', false, false, NULL, 'account_id,pool_id'),
	('credits.members_pkey', true, true, NULL, 'pool_id,account_id'),
	('credits.offers_pkey', true, true, NULL, 'id'),
	('credits.offers_reach_idx', true, false, NULL,
	 E'kind,name,COALESCE(account_id, 0::bigint),COALESCE(metadata::text COLLATE "C", ''''::text),(\nCASE\n    WHEN withdrawn_at IS NULL THEN 0::bigint\n    ELSE id\nEND)'),
	('credits.operations_name_idx', false, false, NULL, 'name,active_from,id'),
	('credits.operations_pkey', true, true, NULL, 'id'),
	('credits.packages_name_idx', false, false, NULL, 'name,active_from,id'),
	('credits.packages_pkey', true, true, NULL, 'id'),
	('credits.paid_parts_finalized_at_idx', false, false, NULL, 'subscription_id,ends_at,finalized_at'),
	('credits.paid_parts_funds_idx', false, false, 'funds', 'subscription_id,ends_at,finalized_at'),
	('credits.paid_parts_pkey', true, true, NULL, 'subscription_id,ends_at,reference'),
	('credits.paid_parts_reference_idx', false, false, NULL, 'subscription_id,reference'),
	('credits.paid_parts_starts_at_idx', false, false, '((credits >= 0) AND (reference <> ''(plan change)''::text))', 'subscription_id,ends_at,starts_at,(- credits),plan_id'),
	('credits.period_refunds_pkey', true, true, NULL, 'subscription_id,reference'),
	('credits.period_refunds_starts_at_idx', false, false, NULL, 'subscription_id,starts_at'),
	('credits.periods_paid_key', true, false, '(granted IS NOT NULL)', 'subscription_id,ends_at'),
	('credits.periods_pkey', true, true, NULL, 'subscription_id,starts_at,ends_at'),
	('credits.plan_changes_pkey', true, true, NULL, 'subscription_id,at,reference'),
	('credits.plans_name_idx', true, false, NULL, 'name,version'),
	('credits.plans_pkey', true, true, NULL, 'id'),
	('credits.preferences_pkey', true, true, NULL, 'account_id,kind,channel'),
	('credits.promotion_totals_pkey', true, true, NULL, 'promotion'),
	('credits.promotion_uses_pkey', true, true, NULL, 'purchase_id'),
	('credits.promotion_uses_promotion_idx', false, false, '(released_at IS NULL)', 'promotion,account_id'),
	('credits.promotions_name_idx', false, false, NULL, 'name,active_from,id'),
	('credits.promotions_pkey', true, true, NULL, 'id'),
	('credits.purchases_account_id_idx', false, false, NULL, 'account_id,id'),
	('credits.purchases_expires_at_idx', false, false, '(status = ''pending''::text)', 'expires_at,id'),
	('credits.purchases_idempotency_key_idx', true, false, '(idempotency_key IS NOT NULL)', 'account_id,idempotency_key'),
	('credits.purchases_payment_reference_idx', true, false, '(payment_reference IS NOT NULL)', 'payment_reference'),
	('credits.purchases_pkey', true, true, NULL, 'id'),
	('credits.purchases_reference_key', true, false, NULL, 'reference'),
	('credits.quiet_hours_pkey', true, true, NULL, 'account_id'),
	('credits.redemptions_code_id_idx', false, false, NULL, 'code_id,account_id'),
	('credits.redemptions_gift_idx', false, false, '(kind = ''gift''::text)', 'account_id,code_id'),
	('credits.redemptions_pkey', true, true, NULL, 'transaction_id'),
	('credits.redemptions_referee_idx', true, false, '(kind = ''referral''::text)', 'account_id'),
	('credits.redemptions_referral_idx', false, false, '(kind = ''referral''::text)', 'code_id,transaction_id'),
	('credits.reversals_pkey', true, true, NULL, 'purchase_id,reference'),
	('credits.reward_programs_name_idx', false, false, NULL, 'name,active_from,id'),
	('credits.reward_programs_pkey', true, true, NULL, 'id'),
	('credits.reward_totals_pkey', true, true, NULL, 'program'),
	('credits.rewards_account_id_idx', false, false, NULL, 'account_id,transaction_id'),
	('credits.rewards_award_idx', true, false, NULL, 'account_id,program,award'),
	('credits.rewards_pkey', true, true, NULL, 'transaction_id'),
	('credits.roles_name_idx', false, false, NULL, 'name'),
	('credits.roles_pkey', true, true, NULL, 'id'),
	('credits.schedules_pkey', true, true, NULL, 'job,role'),
	('credits.service_pause_pkey', true, true, NULL, 'id'),
	('credits.stripe_credit_notes_invoice_idx', false, false, NULL, 'invoice'),
	('credits.stripe_credit_notes_pkey', true, true, NULL, 'credit_note'),
	('credits.stripe_customers_pkey', true, true, NULL, 'id'),
	('credits.stripe_dismissals_pkey', true, true, NULL, 'subject,what'),
	('credits.stripe_events_payload_idx', false, false, '((payload IS NOT NULL) OR (body IS NOT NULL))', 'received_at,id'),
	('credits.stripe_events_pkey', true, true, NULL, 'id'),
	('credits.stripe_events_subject_idx', false, false, NULL, 'subject,created'),
	('credits.stripe_invoices_incomplete_idx', false, false, '(NOT complete)', 'invoice'),
	('credits.stripe_invoices_pkey', true, true, NULL, 'invoice'),
	('credits.stripe_items_pkey', true, true, NULL, 'subscription,item,price'),
	('credits.stripe_lines_ends_at_idx', false, false, NULL, 'subscription,ends_at'),
	('credits.stripe_lines_invoice_idx', false, false, NULL, 'subscription,invoice'),
	('credits.stripe_lines_pkey', true, true, NULL, 'key'),
	('credits.stripe_lines_problem_idx', false, false, '(problem IS NOT NULL)', 'subscription'),
	('credits.stripe_lines_uncertain_idx', false, false, 'uncertain', 'subscription,invoice'),
	('credits.stripe_lines_whole_idx', false, false, '(NOT proration)', 'subscription,ends_at'),
	('credits.stripe_links_invoice_idx', false, false, NULL, 'invoice'),
	('credits.stripe_links_pkey', true, true, NULL, 'payment,invoice'),
	('credits.stripe_other_invoices_pkey', true, true, NULL, 'invoice'),
	('credits.stripe_payments_pkey', true, true, NULL, 'payment'),
	('credits.stripe_price_versions_pkey', true, true, NULL, 'id'),
	('credits.stripe_price_versions_price_idx', false, false, NULL, 'price,id'),
	('credits.stripe_secrets_pkey', true, true, NULL, 'name'),
	('credits.stripe_subjects_pkey', true, true, NULL, 'subject'),
	('credits.stripe_subjects_waiting_idx', false, false, '(waiting IS NOT NULL)', 'subject'),
	('credits.stripe_subscriptions_awaited_idx', false, false, '(awaited_since IS NOT NULL)', 'awaited_since'),
	('credits.stripe_subscriptions_pkey', true, true, NULL, 'subscription'),
	('credits.subscriptions_account_due_at_idx', false, false, '(due_at < ''infinity''::timestamp with time zone)', 'account_id,due_at,id'),
	('credits.subscriptions_account_id_idx', false, false, NULL, 'account_id,id'),
	('credits.subscriptions_due_at_idx', false, false, '(due_at < ''infinity''::timestamp with time zone)', 'due_at,id'),
	('credits.subscriptions_external_id_key', true, false, '(external_id IS NOT NULL)', 'external_id'),
	('credits.subscriptions_pkey', true, true, NULL, 'id'),
	('credits.subscriptions_plan_id_idx', false, false, '(status <> ''canceled''::text)', 'plan_id,account_id'),
	('credits.templates_kind_idx', true, false, NULL, 'kind,channel,locale,version'),
	('credits.templates_pkey', true, true, NULL, 'id'),
	('credits.topup_requests_account_id_idx', false, false, NULL, 'account_id,requested_at,id'),
	('credits.topup_requests_open_idx', true, false, '(ended_at IS NULL)', 'account_id'),
	('credits.topup_requests_pkey', true, true, NULL, 'id'),
	('credits.topup_requests_purchase_id_idx', true, false, NULL, 'purchase_id'),
	('credits.topups_due_at_idx', false, false, '(due_at IS NOT NULL)', 'due_at,account_id'),
	('credits.topups_pkey', true, true, NULL, 'account_id'),
	('credits.unit_prices_pkey', true, true, NULL, 'id'),
	('credits.unit_prices_unit_idx', false, false, NULL, 'unit,currency,active_from,id'),
	('credits.unsubscribe_secrets_pkey', true, true, NULL, 'id'),
	('credits.volume_discounts_pkey', true, true, NULL, 'id'),
	('credits.volume_discounts_unit_idx', false, false, NULL, 'unit,currency,active_from,id'),
	('credits.warnings_pkey', true, true, NULL, 'kind,lead'),
	('credits.webhook_secrets_pkey', true, true, NULL, 'contact_id,id')
$$, 'indexes');
SELECT is_empty($$
	SELECT i.indexrelid::regclass, a.attname
	FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
	WHERE (i.indrelid, a.attname) IN (VALUES
		('credits.accounts'::regclass, 'balance'::name), ('credits.accounts', 'held'),
		('credits.accounts', 'spent'), ('credits.accounts', 'transaction_count'),
		('credits.accounts', 'last_transaction_id'), ('credits.accounts', 'last_at'),
		('credits.accounts', 'head'), ('credits.grants', 'remaining'),
		('credits.codes', 'uses'), ('credits.codes', 'active'),
		('credits.limits', 'day_start'), ('credits.limits', 'day_used'),
		('credits.limits', 'month_start'), ('credits.limits', 'month_used'),
		('credits.members', 'window_start'), ('credits.members', 'used'))
$$, 'no index names a column that a spend changes');
SELECT is_empty($$
	SELECT i.indexrelid::regclass FROM pg_index AS i
	JOIN pg_class AS c ON c.oid = i.indrelid
	WHERE c.relnamespace = 'credits'::regnamespace
	  AND pg_get_expr(i.indpred, i.indrelid) ~ '\m(balance|held|spent|remaining|transaction_count|last_at|head)\M'
$$, 'nor does the predicate of one');

-- triggers: on all the time, for everyone
SELECT pg_temp.rows_are($$
	SELECT tgrelid::regclass::text, tgname::text, tgenabled::text, tgfoid::regproc::text,
		   tgtype & 1 = 1 AS row, tgtype & 2 = 2 AS before,
		   concat_ws(' ', CASE WHEN tgtype & 4 = 4 THEN 'insert' END, CASE WHEN tgtype & 16 = 16 THEN 'update' END,
			   CASE WHEN tgtype & 8 = 8 THEN 'delete' END, CASE WHEN tgtype & 32 = 32 THEN 'truncate' END)
	FROM pg_trigger JOIN pg_class AS c ON c.oid = tgrelid
	WHERE c.relnamespace = 'credits'::regnamespace AND NOT tgisinternal ORDER BY 1, 2
$$, $$ VALUES
	('credits.accounts', 'accounts_refuse_removal', 'A', 'credits.refuse_change', false, true, 'delete truncate'),
	('credits.accounts', 'accounts_write_log', 'A', 'credits.write_log', true, false, 'update'),
	('credits.activity_rules', 'activity_rules_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.activity_rules', 'activity_rules_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.anchor_parts', 'anchor_parts_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.anchor_parts', 'anchor_parts_refuse_row_change', 'A', 'credits.refuse_change', true, true,
	 'update delete'),
	('credits.anchors', 'anchors_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.anchors', 'anchors_refuse_row_change', 'A', 'credits.refuse_change', true, true,
	 'update delete'),
	('credits.archived_grants', 'archived_grants_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.archived_log', 'archived_log_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.archived_log_default', 'archived_log_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.archived_log_default', 'archived_log_refuse_row_change', 'A', 'credits.refuse_change', true, true,
	 'update delete'),
	('credits.archives', 'archives_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.audit_log', 'audit_log_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.carried_rows', 'carried_rows_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.carried_rows', 'carried_rows_refuse_row_change', 'A', 'credits.refuse_change', true, true,
	 'update delete'),
	('credits.codes', 'codes_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.consumers', 'consumers_audit', 'A', 'credits.note_change', true, false, 'insert delete'),
	('credits.consumers', 'consumers_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.correction_items', 'correction_items_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.corrections', 'corrections_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.debts', 'debts_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.disputes', 'disputes_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.erasures', 'erasures_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.events', 'events_erase_replicated', 'A', 'credits.erase_replicated', true, false, 'insert'),
	('credits.grants', 'grants_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.hold_states', 'hold_states_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.limits', 'limits_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.log', 'log_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.log_default', 'log_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.log_default', 'log_refuse_row_change', 'A', 'credits.refuse_change', true, true,
	 'update delete'),
	('credits.members', 'members_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.offers', 'offers_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.offers', 'offers_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.offers', 'offers_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.operations', 'operations_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.operations', 'operations_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.operations', 'operations_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.packages', 'packages_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.packages', 'packages_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.packages', 'packages_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.paid_parts', 'paid_parts_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.period_refunds', 'period_refunds_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.periods', 'periods_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.plan_changes', 'plan_changes_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.plans', 'plans_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.plans', 'plans_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.plans', 'plans_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.promotion_totals', 'promotion_totals_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.promotion_uses', 'promotion_uses_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.promotions', 'promotions_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.promotions', 'promotions_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.promotions', 'promotions_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.purchases', 'purchases_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.redemptions', 'redemptions_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.reversals', 'reversals_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.reward_programs', 'reward_programs_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.reward_programs', 'reward_programs_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.reward_programs', 'reward_programs_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.reward_totals', 'reward_totals_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.rewards', 'rewards_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.roles', 'roles_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.roles', 'roles_refuse_row_change', 'A', 'credits.refuse_change', true, true,
	 'update delete'),
	('credits.schedules', 'schedules_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.schedules', 'schedules_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.service_pause', 'service_pause_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.service_pause', 'service_pause_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.service_pause', 'service_pause_note', 'A', 'credits.note_service', true, false, 'insert update delete'),
	('credits.service_pause', 'service_pause_note_truncate', 'A', 'credits.note_service', false, false, 'truncate'),
	('credits.stripe_price_versions', 'stripe_price_versions_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.stripe_price_versions', 'stripe_price_versions_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.stripe_secrets', 'stripe_secrets_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.stripe_secrets', 'stripe_secrets_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.subscriptions', 'subscriptions_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.templates', 'templates_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.templates', 'templates_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.templates', 'templates_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.topup_requests', 'topup_requests_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.topups', 'topups_refuse_change', 'A', 'credits.refuse_change', false, true, 'update delete truncate'),
	('credits.unit_prices', 'unit_prices_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.unit_prices', 'unit_prices_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.unit_prices', 'unit_prices_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate'),
	('credits.unsubscribe_secrets', 'unsubscribe_secrets_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.unsubscribe_secrets', 'unsubscribe_secrets_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.volume_discounts', 'volume_discounts_audit', 'A', 'credits.note_change', true, false, 'insert update delete'),
	('credits.volume_discounts', 'volume_discounts_audit_truncate', 'A', 'credits.note_change', false, false, 'truncate'),
	('credits.volume_discounts', 'volume_discounts_refuse_change', 'A', 'credits.refuse_change', false, true,
	 'update delete truncate')
$$, 'triggers, all of them ENABLE ALWAYS');

-- functions: names, arguments, defaults, results
SELECT pg_temp.rows_are($$
	SELECT name, pg_get_function_arguments(oid), pg_get_function_result(oid) FROM routine ORDER BY name COLLATE "C", 2
$$, $$ VALUES
	('credits.account_id', 'account text', 'bigint'),
	('credits.advance_sequence', 'sequence regclass, id bigint', 'void'),
	('credits.archive_behind', '', 'interval'),
	('credits.archived_balance', 'account_id bigint, at timestamp with time zone', 'bigint'),
	('credits.consumer_lag', 'consumer text, OUT unread integer, OUT unread_since timestamp with time zone', 'record'),
	('credits.cron_reason', 'job text, role text', 'text'),
	('credits.dispute_position', 'dispute_id bigint', 'timestamp with time zone'),
	('credits.draws_of', 'draws bytea', 'bigint[]'),
	('credits.erase_replicated', '', 'trigger'),
	('credits.erased_customer', 'customer text', 'text'),
	('credits.erased_facts', 'facts jsonb, account_id bigint, alias text', 'jsonb'),
	('credits.erased_reference', 'salt bytea, reference text', 'text'),
	('credits.history_position', 'account text, transaction_id bigint', 'timestamp with time zone'),
	('credits.is_reachable', 'channel text, verified boolean', 'boolean'),
	('credits.is_told', 'account_id bigint, kind text, channel text', 'boolean'),
	('credits.job_is_running', 'pid integer, backend_start timestamp with time zone, statement_start timestamp with time zone',
	 'boolean'),
	('credits.key_digest', 'idempotency_key text', 'bigint'),
	('credits.kind_name', 'kind_code "char"', 'text'),
	('credits.log_rows',
	 'account_id bigint, at timestamp with time zone, before_id bigint, after_id bigint,'
	 ' since timestamp with time zone, until timestamp with time zone, kinds text[], max_rows integer',
	 'SETOF credits.log'),
	('credits.max_rows', 'max_rows integer', 'integer'),
	('credits.not_before', 'account_id bigint, kind text, at timestamp with time zone', 'timestamp with time zone'),
	('credits.note_change', '', 'trigger'),
	('credits.note_service', '', 'trigger'),
	('credits.now', '', 'timestamp with time zone'),
	('credits.period_number',
	 'anchor timestamp with time zone, timezone text, period text, every integer,'
	 ' at timestamp with time zone',
	 'bigint'),
	('credits.period_start',
	 'anchor timestamp with time zone, timezone text, period text, every integer, n bigint',
	 'timestamp with time zone'),
	('credits.personal_data', 'OUT table_name text, OUT column_name text, OUT erased boolean, OUT exported boolean, OUT reason text', 'SETOF record'),
	('credits.refuse_change', '', 'trigger'),
	('credits.renamed', 'document jsonb, name text, alias text', 'jsonb'),
	('credits.renamed_in_message', 'message text, name text, alias text', 'text'),
	('credits.required', 'value timestamp with time zone, argument text', 'timestamp with time zone'),
	('credits.role_name', 'id integer', 'text'),
	('credits.settled', 'account_id bigint, at timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'credits.settlement'),
	('credits.settled_grants',
	 'account_id bigint, max_rows integer DEFAULT NULL::integer, after_id bigint DEFAULT NULL::bigint,'
	 ' OUT grant_id bigint, OUT source text, OUT status text, OUT amount bigint, OUT remaining bigint,'
	 ' OUT priority integer, OUT effective_at timestamp with time zone,'
	 ' OUT expires_at timestamp with time zone, OUT price numeric, OUT currency text,'
	 ' OUT transaction_id bigint, OUT rolled_over boolean',
	 'SETOF record'),
	('credits.stripe_ids_of', 'account_id bigint', 'SETOF text'),
	('credits.warn_behind', '', 'interval'),
	('credits.write_log', '', 'trigger'),
	('public.credits_ack_events', 'consumer text, token text', 'boolean'),
	('public.credits_add_consumer', 'consumer text, after_id bigint DEFAULT NULL::bigint', 'boolean'),
	('public.credits_add_member',
	 'pool text, account text, cap bigint DEFAULT NULL::bigint, per text DEFAULT ''month''::text,'
	 ' timezone text DEFAULT ''UTC''::text',
	 'credits.receipt'),
	('public.credits_adjust',
	 'account text, delta bigint, reason text, idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb',
	 'credits.receipt'),
	('public.credits_allocate',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, reason text DEFAULT NULL::text,'
	 ' metadata jsonb DEFAULT NULL::jsonb, source text DEFAULT ''manual''::text,'
	 ' expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' expires_in interval DEFAULT NULL::interval,'
	 ' effective_at timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' priority integer DEFAULT NULL::integer, price numeric DEFAULT NULL::numeric,'
	 ' currency text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_allocate_many',
	 'items credits.allocation[], atomic boolean DEFAULT false, dry_run boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_allocate_many',
	 'items jsonb, atomic boolean DEFAULT false, dry_run boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_apply_correction',
	 'IN token text, INOUT correction_id bigint DEFAULT NULL::bigint, INOUT corrected integer DEFAULT NULL::integer,'
	 ' INOUT credits numeric DEFAULT NULL::numeric, INOUT replayed boolean DEFAULT NULL::boolean',
	 NULL),
	('public.credits_archive',
	 'IN before timestamp with time zone DEFAULT NULL::timestamp with time zone, IN batch_size integer DEFAULT 1000,'
	 ' INOUT archived_until bigint DEFAULT NULL::bigint, INOUT partitions integer DEFAULT NULL::integer',
	 NULL),
	('public.credits_archive_obstacles',
	 'before timestamp with time zone DEFAULT NULL::timestamp with time zone, OUT obstacle text,'
	 ' OUT since timestamp with time zone, OUT transaction_id bigint, OUT detail text',
	 'SETOF record'),
	('public.credits_assign_dispute', 'dispute_id bigint, assignee text DEFAULT NULL::text', 'credits.dispute'),
	('public.credits_audit',
	 'since timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' until timestamp with time zone DEFAULT NULL::timestamp with time zone, role text DEFAULT NULL::text,'
	 ' actor text DEFAULT NULL::text, topic text DEFAULT NULL::text, name text DEFAULT NULL::text,'
	 ' account text DEFAULT NULL::text, changes text DEFAULT NULL::text, after_id bigint DEFAULT NULL::bigint,'
	 ' max_rows integer DEFAULT 50',
	 'TABLE(id bigint, at timestamp with time zone, topic text, name text, account text, old_values jsonb,'
	 ' new_values jsonb, transaction_id bigint, amount bigint, reason text, role text, actor text)'),
	('public.credits_balance', 'account text', 'bigint'),
	('public.credits_balance_at', 'account text, at timestamp with time zone', 'bigint'),
	('public.credits_balance_by_source',
	 'account text',
	 'TABLE(source text, balance bigint, pending bigint, grants bigint,'
	 ' expiring_at timestamp with time zone)'),
	('public.credits_cancel_gift',
	 'code text, idempotency_key text DEFAULT NULL::text, reason text DEFAULT NULL::text,'
	 ' metadata jsonb DEFAULT NULL::jsonb, account text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_cancel_subscription',
	 'subscription_id bigint, at text DEFAULT ''period_end''::text, credits text DEFAULT ''keep''::text',
	 'credits.subscription_state'),
	('public.credits_capture',
	 'hold_id bigint, amount bigint DEFAULT NULL::bigint, idempotency_key text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb, final boolean DEFAULT true,'
	 ' allow_more boolean DEFAULT false, account text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_capture_many',
	 'items credits.capture_item[], atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_capture_many',
	 'items jsonb, atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_change_member',
	 'pool text, account text, cap bigint DEFAULT NULL::bigint, per text DEFAULT NULL::text, timezone text DEFAULT NULL::text,'
	 ' clear text[] DEFAULT NULL::text[]',
	 'credits.receipt'),
	('public.credits_change_plan',
	 'subscription_id bigint, plan text, idempotency_key text DEFAULT NULL::text,'
	 ' at text DEFAULT NULL::text, proration text DEFAULT ''prorate''::text',
	 'credits.plan_change'),
	('public.credits_charge',
	 'account text, operation text, quantity numeric DEFAULT 1, idempotency_key text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb, pool text DEFAULT NULL::text,'
	 ' mode text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_close_account', 'account text, reason text', 'credits.receipt'),
	('public.credits_close_chargeback',
	 'purchase_id bigint, reference text, outcome text',
	 'credits.clawback'),
	('public.credits_complete_purchase',
	 'purchase_id bigint, payment_reference text, money numeric, currency text DEFAULT NULL::text',
	 'credits.payment'),
	('public.credits_contacts', 'account text',
	 'TABLE(contact_id bigint, channel text, address text, verified boolean, reachable boolean, locale text,'
	 ' created_at timestamp with time zone, changed_at timestamp with time zone, disabled_at timestamp with time zone, secrets integer)'),
	('public.credits_correction_items',
	 'correction_id bigint, refused_only boolean DEFAULT false, after_number integer DEFAULT NULL::integer,'
	 ' max_rows integer DEFAULT 50',
	 'TABLE(number integer, account text, balance bigint, balance_after bigint, code text, message text, transaction_id bigint, reverted_id bigint)'),
	('public.credits_create_gift',
	 'from_account text, amount bigint,'
	 ' idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' message text DEFAULT NULL::text, expires_in interval DEFAULT NULL::interval',
	 'credits.gift'),
	('public.credits_create_promo_code',
	 'code text, credits bigint, max_uses bigint DEFAULT NULL::bigint,'
	 ' per_account integer DEFAULT 1, active_from timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' active_until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' expires_in interval DEFAULT NULL::interval, new_accounts_within interval DEFAULT NULL::interval,'
	 ' metadata jsonb DEFAULT NULL::jsonb',
	 'text'),
	('public.credits_create_promo_codes',
	 'count integer, credits bigint, prefix text DEFAULT NULL::text, max_uses bigint DEFAULT 1,'
	 ' per_account integer DEFAULT 1, active_from timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' active_until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' expires_in interval DEFAULT NULL::interval, new_accounts_within interval DEFAULT NULL::interval,'
	 ' metadata jsonb DEFAULT NULL::jsonb',
	 'SETOF text'),
	('public.credits_deactivate_promo_code', 'code text', 'boolean'),
	('public.credits_deduct',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text, operation text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' pool text DEFAULT NULL::text, mode text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_deduct_many',
	 'items credits.deduction[], atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_deduct_many',
	 'items jsonb, atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_deduct_up_to',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text, operation text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' pool text DEFAULT NULL::text, mode text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_delivery_failed', 'delivery_id bigint, lease_id bigint, error text, permanent boolean DEFAULT false, status integer DEFAULT NULL::integer', 'boolean'),
	('public.credits_delivery_sent', 'delivery_id bigint, lease_id bigint', 'boolean'),
	('public.credits_digest', '', 'bytea'),
	('public.credits_dispute_queue', 'statuses text[] DEFAULT ''{open,in_review}''::text[], reason text DEFAULT NULL::text, assignee text DEFAULT NULL::text, account text DEFAULT NULL::text, older_than interval DEFAULT NULL::interval, max_rows integer DEFAULT 50, after_id bigint DEFAULT NULL::bigint', 'TABLE(dispute_id bigint, account text, transaction_id bigint, reason text, description text, requested bigint, status text, assignee text, refunded bigint, refund_id bigint, decided_by text, note text, opened_at timestamp with time zone, reviewed_at timestamp with time zone, ended_at timestamp with time zone, age interval, overdue boolean)'),
	('public.credits_dispute_statistics', 'since timestamp with time zone DEFAULT NULL::timestamp with time zone, until timestamp with time zone DEFAULT NULL::timestamp with time zone', 'TABLE(reason text, decided_by text, disputes bigint, resolved bigint, resolved_in_part bigint, rejected bigint, withdrawn bigint, requested numeric, refunded numeric, share numeric, median_time interval, p90_time interval, p99_time interval, overdue bigint)'),
	('public.credits_disputes', 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint', 'TABLE(dispute_id bigint, transaction_id bigint, reason text, description text, requested bigint, status text, refunded bigint, refund_id bigint, note text, opened_at timestamp with time zone, reviewed_at timestamp with time zone, ended_at timestamp with time zone)'),
	('public.credits_erase_dispute', 'dispute_id bigint', 'boolean'),
	('public.credits_erase_person',
	 'IN account text, IN reason text, IN batch_size integer DEFAULT 1000, INOUT alias text DEFAULT NULL::text,'
	 ' INOUT erased bigint DEFAULT NULL::bigint, INOUT ended boolean DEFAULT NULL::boolean',
	 NULL),
	('public.credits_erase_text', 'transaction_id bigint', 'boolean'),
	('public.credits_expire_purchase',
	 'purchase_id bigint',
	 'boolean'),
	('public.credits_export_person', 'account text', 'TABLE(place text, item jsonb)'),
	('public.credits_export_person_json', 'account text', 'jsonb'),
	('public.credits_extend_hold',
	 'hold_id bigint, expires_in interval DEFAULT ''00:15:00''::interval, idempotency_key text DEFAULT NULL::text,'
	 ' account text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_fail_purchase',
	 'purchase_id bigint, reason text DEFAULT NULL::text',
	 'boolean'),
	('public.credits_find_accounts',
	 'name_prefix text DEFAULT NULL::text, status text DEFAULT NULL::text, unit text DEFAULT NULL::text,'
	 ' min_balance bigint DEFAULT NULL::bigint, max_balance bigint DEFAULT NULL::bigint, plan text DEFAULT NULL::text,'
	 ' used_since timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' unused_since timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' in_debt boolean DEFAULT NULL::boolean, reference text DEFAULT NULL::text,'
	 ' after_account text DEFAULT NULL::text, max_rows integer DEFAULT 50',
	 'TABLE(account text, unit text, status text, balance bigint, held bigint, debt bigint, plans text[],'
	 ' created_at timestamp with time zone, last_at timestamp with time zone)'),
	('public.credits_gift_many',
	 'from_account text, to_accounts text[], amount bigint, idempotency_key text DEFAULT NULL::text,'
	 ' metadata jsonb DEFAULT NULL::jsonb, message text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_gifts',
	 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint',
	 'TABLE(gift_id bigint, direction text, code text, status text, credits bigint, message text,'
	 ' giver text, redeemed_by text, expires_at timestamp with time zone,'
	 ' created_at timestamp with time zone, redeemed_at timestamp with time zone, transaction_id bigint,'
	 ' metadata jsonb)'),
	('public.credits_grants',
	 'account text, max_rows integer DEFAULT 50, after_id bigint DEFAULT NULL::bigint',
	 'TABLE(grant_id bigint, source text, status text, amount bigint, remaining bigint,'
	 ' effective_at timestamp with time zone, expires_at timestamp with time zone, priority integer,'
	 ' rolled_over boolean, price numeric, currency text, transaction_id bigint,'
	 ' created_at timestamp with time zone, reference text, reason text)'),
	('public.credits_history',
	 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint,'
	 ' kinds text[] DEFAULT NULL::text[],'
	 ' since timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' until timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'TABLE(transaction_id bigint, created_at timestamp with time zone, kind text, amount bigint, held bigint,'
	 ' balance bigint, operation text, reference text, reason text, metadata jsonb, target_id bigint,'
	 ' idempotency_key text, role text, actor text)'),
	('public.credits_hold',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text, operation text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' expires_in interval DEFAULT ''00:15:00''::interval, pool text DEFAULT NULL::text,'
	 ' mode text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_hold_many',
	 'items credits.hold_item[], atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_hold_many',
	 'items jsonb, atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_hold_up_to',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text, operation text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' expires_in interval DEFAULT ''00:15:00''::interval, pool text DEFAULT NULL::text,'
	 ' mode text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_holds',
	 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint',
	 'TABLE(hold_id bigint, kind text, pool text, member text, reserved bigint, captured bigint,'
	 ' remaining bigint, expires_at timestamp with time zone, created_at timestamp with time zone,'
	 ' operation text, reference text, metadata jsonb)'),
	('public.credits_housekeep',
	 'IN batch_size integer DEFAULT 1000, INOUT done bigint DEFAULT NULL::bigint,'
	 ' INOUT failed bigint DEFAULT NULL::bigint',
	 NULL),
	('public.credits_mark_paid',
	 'subscription_id bigint, period_start timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'credits.subscription_state'),
	('public.credits_mark_unpaid',
	 'subscription_id bigint, status text DEFAULT ''past_due''::text',
	 'credits.subscription_state'),
	('public.credits_offer_package',
	 'package text, account text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb, everybody boolean DEFAULT false',
	 'bigint'),
	('public.credits_offer_plan',
	 'plan text, account text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb, everybody boolean DEFAULT false',
	 'bigint'),
	('public.credits_open_account',
	 'account text, initial_credits bigint DEFAULT NULL::bigint, unit text DEFAULT NULL::text,'
	 ' metadata jsonb DEFAULT NULL::jsonb',
	 'credits.receipt'),
	('public.credits_open_account_for_row', '', 'trigger'),
	('public.credits_open_accounts',
	 'relation regclass, key_column name, prefix text DEFAULT ''''::text, initial_credits bigint DEFAULT NULL::bigint',
	 'bigint'),
	('public.credits_open_chargeback',
	 'purchase_id bigint, reference text, money numeric DEFAULT NULL::numeric,'
	 ' reason text DEFAULT NULL::text',
	 'credits.clawback'),
	('public.credits_open_dispute', 'account text, transaction_id bigint, reason text, description text DEFAULT NULL::text, requested bigint DEFAULT NULL::bigint, idempotency_key text DEFAULT NULL::text', 'credits.dispute'),
	('public.credits_packages', 'account text', 'SETOF credits.current_packages'),
	('public.credits_partition_log', 'INOUT partitions integer DEFAULT NULL::integer', NULL),
	('public.credits_pause_account', 'account text, reason text', 'credits.receipt'),
	('public.credits_pause_service',
	 'IN reason text, IN until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' IN operations text[] DEFAULT NULL::text[], IN kinds text[] DEFAULT NULL::text[]',
	 NULL),
	('public.credits_pause_subscription',
	 'subscription_id bigint',
	 'credits.subscription_state'),
	('public.credits_plans', 'account text', 'SETOF credits.current_plans'),
	('public.credits_pool_members',
	 'pool text, max_rows integer DEFAULT 50, after_account text DEFAULT NULL::text',
	 'TABLE(account text, cap bigint, per text, timezone text, window_start timestamp with time zone,'
	 ' used bigint, remaining bigint, member_since timestamp with time zone)'),
	('public.credits_pool_summary',
	 'pool text, account text, OUT cap bigint, OUT used bigint, OUT remaining bigint, OUT per text,'
	 ' OUT timezone text, OUT window_start timestamp with time zone, OUT balance bigint',
	 'record'),
	('public.credits_pools',
	 'account text',
	 'TABLE(pool text, unit text, status text, balance bigint, cap bigint, per text, timezone text,'
	 ' window_start timestamp with time zone, used bigint, remaining bigint,'
	 ' member_since timestamp with time zone)'),
	('public.credits_preferences', 'account text',
	 'TABLE(kind text, channel text, told boolean, required boolean, preference boolean)'),
	('public.credits_preview_correction',
	 'accounts text[], delta bigint, reason text, OUT correction_id bigint, OUT token text, OUT named integer,'
	 ' OUT accepted integer, OUT refused integer, OUT credits numeric, OUT balance_before numeric,'
	 ' OUT balance_after numeric, OUT expires_at timestamp with time zone',
	 'record'),
	('public.credits_preview_plan_change',
	 'subscription_id bigint, plan text, at text DEFAULT NULL::text, proration text DEFAULT ''prorate''::text,'
	 ' account text DEFAULT NULL::text',
	 'credits.plan_change'),
	('public.credits_preview_template',
	 'kind text, channel text DEFAULT ''email''::text, locale text DEFAULT NULL::text, detail jsonb DEFAULT NULL::jsonb,'
	 ' subject text DEFAULT NULL::text, body text DEFAULT NULL::text, html text DEFAULT NULL::text',
	 'credits.rendered_message'),
	('public.credits_price',
	 'account text, package text DEFAULT NULL::text, amount bigint DEFAULT NULL::bigint,'
	 ' promotion text DEFAULT NULL::text, currency text DEFAULT NULL::text',
	 'credits.price'),
	('public.credits_purchases',
	 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint',
	 'TABLE(purchase_id bigint, reference text, package text, credits bigint, price numeric, currency text,'
	 ' promotion text, status text, money numeric, money_back numeric, chargeback_open boolean, claimed bigint,'
	 ' owed bigint, payment_reference text, created_at timestamp with time zone,'
	 ' completed_at timestamp with time zone, expires_at timestamp with time zone, metadata jsonb)'),
	('public.credits_quiet_hours', 'account text',
	 'TABLE(quiet_from time without time zone, quiet_until time without time zone, timezone text,'
	 ' ends_at timestamp with time zone)'),
	('public.credits_quote', 'account text, operation text, quantity numeric DEFAULT 1', 'credits.quote'),
	('public.credits_read_events', 'consumer text, max_rows integer DEFAULT 100',
	 'TABLE(event_id bigint, kind text, account text, transaction_id bigint, created_at timestamp with time zone, detail jsonb, token text)'),
	('public.credits_redeem',
	 'account text, code text, idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb',
	 'credits.receipt'),
	('public.credits_referral_code', 'account text', 'text'),
	('public.credits_referrals',
	 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint',
	 'TABLE(transaction_id bigint, referrer text, referee text, referrer_credits bigint,'
	 ' referee_credits bigint, created_at timestamp with time zone)'),
	('public.credits_refund',
	 'transaction_id bigint, amount bigint DEFAULT NULL::bigint, idempotency_key text DEFAULT NULL::text,'
	 ' reason text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb, expired text DEFAULT NULL::text,'
	 ' account text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_refund_period',
	 'subscription_id bigint, money numeric DEFAULT NULL::numeric,'
	 ' period_start timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' reference text DEFAULT NULL::text, reason text DEFAULT NULL::text',
	 'credits.period_refund'),
	('public.credits_refund_purchase',
	 'purchase_id bigint, money numeric DEFAULT NULL::numeric, credits bigint DEFAULT NULL::bigint,'
	 ' reference text DEFAULT NULL::text, reason text DEFAULT NULL::text',
	 'credits.clawback'),
	('public.credits_release',
	 'hold_id bigint, idempotency_key text DEFAULT NULL::text, reason text DEFAULT NULL::text,'
	 ' metadata jsonb DEFAULT NULL::jsonb, account text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_remove_activity_rule', 'name text', 'void'),
	('public.credits_remove_consumer', 'consumer text', 'void'),
	('public.credits_remove_contact', 'account text, channel text, address text DEFAULT NULL::text', 'integer'),
	('public.credits_remove_member', 'pool text, account text', 'credits.receipt'),
	('public.credits_remove_topup', 'account text, reason text DEFAULT NULL::text', 'credits.receipt'),
	('public.credits_renew',
	 'IN batch_size integer DEFAULT 1000, INOUT renewed bigint DEFAULT NULL::bigint,'
	 ' INOUT failed bigint DEFAULT NULL::bigint',
	 NULL),
	('public.credits_replay_delivery', 'delivery_id bigint', 'boolean'),
	('public.credits_request_topups', 'max_rows integer DEFAULT 10', 'SETOF credits.checkout'),
	('public.credits_resolve_dispute', 'dispute_id bigint, amount bigint, note text DEFAULT NULL::text', 'credits.dispute'),
	('public.credits_resume_account', 'account text, reason text', 'credits.receipt'),
	('public.credits_resume_service', '', 'boolean'),
	('public.credits_resume_subscription',
	 'subscription_id bigint',
	 'credits.subscription_state'),
	('public.credits_resume_topup', 'account text', 'boolean'),
	('public.credits_retire_operation',
	 'name text, at timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'bigint'),
	('public.credits_retire_package',
	 'name text, at timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'bigint'),
	('public.credits_retire_plan',
	 'name text',
	 'bigint'),
	('public.credits_retire_promotion',
	 'name text, at timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'bigint'),
	('public.credits_retire_reward_program', 'name text, at timestamp with time zone DEFAULT NULL::timestamp with time zone', 'bigint'),
	('public.credits_retire_template', 'kind text, channel text DEFAULT NULL::text, locale text DEFAULT ''en''::text', 'bigint'),
	('public.credits_retire_unit_price',
	 'currency text, unit text DEFAULT ''credit''::text,'
	 ' at timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'bigint'),
	('public.credits_reverse_transfer',
	 'transaction_id bigint, reason text, amount bigint DEFAULT NULL::bigint,'
	 ' idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb',
	 'credits.receipt'),
	('public.credits_revoke_webhook_secret', 'account text, address text', 'boolean'),
	('public.credits_reward', 'account text, program text, award text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb', 'credits.receipt'),
	('public.credits_rewards', 'account text, program text DEFAULT NULL::text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint', 'TABLE(transaction_id bigint, program text, award text, number bigint, amount bigint, created_at timestamp with time zone)'),
	('public.credits_rotate_unsubscribe_secret', 'revoke boolean DEFAULT false', 'integer'),
	('public.credits_rotate_webhook_secret', 'account text, address text, keep interval DEFAULT ''1 day''::interval', 'text'),
	('public.credits_schedule', 'schedule text DEFAULT NULL::text, job text DEFAULT NULL::text', 'bigint'),
	('public.credits_service', '',
	 'TABLE(paused boolean, reason text, until timestamp with time zone, operations text[], kinds text[],'
	 ' paused_at timestamp with time zone)'),
	('public.credits_set_activity_rule',
	 'name text, kind text DEFAULT NULL::text, threshold numeric DEFAULT NULL::numeric, span interval DEFAULT NULL::interval,'
	 ' minimum bigint DEFAULT NULL::bigint, baseline interval DEFAULT NULL::interval, pauses boolean DEFAULT NULL::boolean,'
	 ' enabled boolean DEFAULT NULL::boolean, clear text[] DEFAULT NULL::text[]',
	 'boolean'),
	('public.credits_set_alerts',
	 'account text, levels text DEFAULT NULL::text, base bigint DEFAULT NULL::bigint,'
	 ' reason text DEFAULT NULL::text, clear text[] DEFAULT NULL::text[]',
	 'credits.receipt'),
	('public.credits_set_contact',
	 'account text, channel text, address text DEFAULT NULL::text, verified boolean DEFAULT NULL::boolean,'
	 ' locale text DEFAULT NULL::text, clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_invoice',
	 'subscription_id bigint, reference text, lines jsonb, settled_at timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'credits.subscription_state'),
	('public.credits_set_limits',
	 'account text, max_balance bigint DEFAULT NULL::bigint, excess text DEFAULT NULL::text,'
	 ' min_spend bigint DEFAULT NULL::bigint, max_spend bigint DEFAULT NULL::bigint,'
	 ' max_spend_per_day bigint DEFAULT NULL::bigint, max_spend_per_month bigint DEFAULT NULL::bigint,'
	 ' timezone text DEFAULT NULL::text, reason text DEFAULT NULL::text, clear text[] DEFAULT NULL::text[]',
	 'credits.receipt'),
	('public.credits_set_operation',
	 'name text, base_cost numeric DEFAULT NULL::numeric, unit_cost numeric DEFAULT NULL::numeric, unit_name text DEFAULT NULL::text,'
	 ' included_units numeric DEFAULT NULL::numeric, rounding text DEFAULT NULL::text, minimum bigint DEFAULT NULL::bigint,'
	 ' active_from timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' active_until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_package',
	 'name text, credits bigint DEFAULT NULL::bigint, price numeric DEFAULT NULL::numeric, currency text DEFAULT NULL::text, expires_in interval DEFAULT NULL::interval,'
	 ' extras jsonb DEFAULT NULL::jsonb, unit text DEFAULT NULL::text, priority integer DEFAULT NULL::integer,'
	 ' active_from timestamp with time zone DEFAULT NULL::timestamp with time zone, active_until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' metadata jsonb DEFAULT NULL::jsonb,'
	 ' clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_plan',
	 'name text, credits bigint DEFAULT NULL::bigint, period text DEFAULT NULL::text, every integer DEFAULT NULL::integer,'
	 ' price numeric DEFAULT NULL::numeric, currency text DEFAULT NULL::text,'
	 ' rollover text DEFAULT NULL::text, rollover_maximum bigint DEFAULT NULL::bigint,'
	 ' rollover_share numeric DEFAULT NULL::numeric, rollover_minimum bigint DEFAULT NULL::bigint,'
	 ' rollover_periods integer DEFAULT NULL::integer, rollover_total bigint DEFAULT NULL::bigint,'
	 ' rollover_again boolean DEFAULT NULL::boolean, priority integer DEFAULT NULL::integer,'
	 ' trial interval DEFAULT NULL::interval, trial_credits bigint DEFAULT NULL::bigint,'
	 ' catch_up text DEFAULT NULL::text, grace interval DEFAULT NULL::interval, unit text DEFAULT NULL::text,'
	 ' features jsonb DEFAULT NULL::jsonb,'
	 ' clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_preference',
	 'account text, kind text DEFAULT NULL::text, channel text DEFAULT NULL::text,'
	 ' enabled boolean DEFAULT NULL::boolean, clear text[] DEFAULT NULL::text[]',
	 'boolean'),
	('public.credits_set_promotion',
	 'name text, kind text DEFAULT NULL::text, value numeric DEFAULT NULL::numeric, currency text DEFAULT NULL::text,'
	 ' expires_in interval DEFAULT NULL::interval, per_account bigint DEFAULT NULL::bigint, max_uses bigint DEFAULT NULL::bigint,'
	 ' plans text[] DEFAULT NULL::text[], active_from timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' active_until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_quiet_hours',
	 'account text, quiet_from time without time zone DEFAULT NULL::time without time zone,'
	 ' quiet_until time without time zone DEFAULT NULL::time without time zone, timezone text DEFAULT NULL::text',
	 'boolean'),
	('public.credits_set_reward_program', 'name text, amounts bigint[] DEFAULT NULL::bigint[], kind text DEFAULT NULL::text, expires_in interval DEFAULT NULL::interval, grace_days integer DEFAULT NULL::integer, timezone text DEFAULT NULL::text, per_account bigint DEFAULT NULL::bigint, budget bigint DEFAULT NULL::bigint, metadata jsonb DEFAULT NULL::jsonb, active_from timestamp with time zone DEFAULT NULL::timestamp with time zone, active_until timestamp with time zone DEFAULT NULL::timestamp with time zone, clear text[] DEFAULT NULL::text[]', 'bigint'),
	('public.credits_set_template',
	 'kind text, channel text DEFAULT NULL::text, locale text DEFAULT ''en''::text, subject text DEFAULT NULL::text,'
	 ' body text DEFAULT NULL::text, html text DEFAULT NULL::text, clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_topup', 'account text, below bigint DEFAULT NULL::bigint, target bigint DEFAULT NULL::bigint, package text DEFAULT NULL::text, currency text DEFAULT NULL::text, max_requests bigint DEFAULT NULL::bigint, max_money numeric DEFAULT NULL::numeric, period interval DEFAULT NULL::interval, reason text DEFAULT NULL::text, clear text[] DEFAULT NULL::text[]', 'credits.receipt'),
	('public.credits_set_unit_price',
	 'currency text, price numeric DEFAULT NULL::numeric, unit text DEFAULT ''credit''::text,'
	 ' active_from timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' active_until timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' clear text[] DEFAULT NULL::text[]',
	 'bigint'),
	('public.credits_set_volume_discount',
	 'from_credits bigint[], percents numeric[], currency text DEFAULT NULL::text,'
	 ' unit text DEFAULT ''credit''::text, active_from timestamp with time zone DEFAULT NULL::timestamp with time zone',
	 'bigint'),
	('public.credits_settle',
	 'IN batch_size integer DEFAULT 1000, INOUT settled bigint DEFAULT NULL::bigint,'
	 ' INOUT failed bigint DEFAULT NULL::bigint',
	 NULL),
	('public.credits_start_purchase',
	 'account text, package text DEFAULT NULL::text, amount bigint DEFAULT NULL::bigint,'
	 ' idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' promotion text DEFAULT NULL::text, currency text DEFAULT NULL::text',
	 'credits.checkout'),
	('public.credits_stripe_add_secret', 'name text, secret text', 'void'),
	('public.credits_stripe_dismiss', 'subject text, reason text', 'void'),
	('public.credits_stripe_invoice_lines', 'invoice text, lines jsonb', 'credits.stripe_result'),
	('public.credits_stripe_remove_secret', 'name text', 'void'),
	('public.credits_stripe_reprocess', '', 'SETOF credits.stripe_result'),
	('public.credits_stripe_set_customer', 'customer text, account text', 'void'),
	('public.credits_stripe_set_price', 'id text, plan text DEFAULT NULL::text, package text DEFAULT NULL::text, upgrade text DEFAULT ''in_advance''::text, give text DEFAULT ''paid''::text', 'void'),
	('public.credits_stripe_webhook', 'payload bytea, signature text', 'credits.stripe_result'),
	('public.credits_stripe_webhook', 'payload text, signature text', 'credits.stripe_result'),
	('public.credits_subscribe',
	 'account text, plan text, idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, timezone text DEFAULT ''UTC''::text,'
	 ' anchor timestamp with time zone DEFAULT NULL::timestamp with time zone,'
	 ' trial boolean DEFAULT true, collection text DEFAULT ''clock''::text, external_id text DEFAULT NULL::text',
	 'credits.subscription_state'),
	('public.credits_subscriptions',
	 'account text, max_rows integer DEFAULT 50, before_id bigint DEFAULT NULL::bigint',
	 'TABLE(subscription_id bigint, plan text, version integer, status text, credits bigint, period text,'
	 ' every integer, price numeric, currency text, period_start timestamp with time zone,'
	 ' period_end timestamp with time zone, renews_at timestamp with time zone, given bigint,'
	 ' remaining bigint, rolled_over bigint, rolled_over_remaining bigint, next_plan text,'
	 ' cancel_at timestamp with time zone, cancel_credits text, collection text, timezone text,'
	 ' external_id text, features jsonb, metadata jsonb, started_at timestamp with time zone,'
	 ' ended_at timestamp with time zone)'),
	('public.credits_summary',
	 'account text, OUT balance bigint, OUT held bigint, OUT debt bigint, OUT expiring_amount bigint,'
	 ' OUT expiring_at timestamp with time zone, OUT granted bigint, OUT spent bigint, OUT refunded bigint,'
	 ' OUT expired bigint, OUT status text, OUT unit text',
	 'record'),
	('public.credits_sync_sequences', '', 'void'),
	('public.credits_take_deliveries',
	 'channel text, max_rows integer DEFAULT 10, lease interval DEFAULT ''00:01:00''::interval',
	 'TABLE(delivery_id bigint, lease_id bigint, message_id text, attempt integer, account text, address text, locale text, event_id bigint, kind text, created_at timestamp with time zone, detail jsonb,'
	 ' template_id bigint, subject text, body text, html text, unsubscribe_token text, headers jsonb)'),
	('public.credits_topup', 'account text', 'TABLE(below bigint, target bigint, package text, currency text, max_requests bigint, max_money numeric, period interval, state text, message text, due_at timestamp with time zone, purchase_id bigint, set_at timestamp with time zone)'),
	('public.credits_transfer',
	 'from_account text, to_account text, amount bigint, idempotency_key text DEFAULT NULL::text,'
	 ' reason text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb',
	 'credits.receipt'),
	('public.credits_transfer_many',
	 'items credits.transfer_item[], atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_transfer_many',
	 'items jsonb, atomic boolean DEFAULT false',
	 'SETOF credits.outcome'),
	('public.credits_transfer_up_to',
	 'from_account text, to_account text, amount bigint, idempotency_key text DEFAULT NULL::text,'
	 ' reason text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb',
	 'credits.receipt'),
	('public.credits_try_charge',
	 'account text, operation text, quantity numeric DEFAULT 1, idempotency_key text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb, pool text DEFAULT NULL::text,'
	 ' mode text DEFAULT NULL::text',
	 'credits.attempt'),
	('public.credits_try_deduct',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text, operation text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' pool text DEFAULT NULL::text, mode text DEFAULT NULL::text',
	 'credits.attempt'),
	('public.credits_try_hold',
	 'account text, amount bigint, idempotency_key text DEFAULT NULL::text, operation text DEFAULT NULL::text,'
	 ' reference text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb,'
	 ' expires_in interval DEFAULT ''00:15:00''::interval, pool text DEFAULT NULL::text,'
	 ' mode text DEFAULT NULL::text',
	 'credits.attempt'),
	('public.credits_try_redeem',
	 'account text, code text, idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb',
	 'credits.attempt'),
	('public.credits_try_reward', 'account text, program text, award text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text, metadata jsonb DEFAULT NULL::jsonb', 'credits.attempt'),
	('public.credits_unschedule', 'job text DEFAULT NULL::text', 'bigint'),
	('public.credits_unsubscribe', 'token text', 'text'),
	('public.credits_unsubscribe_token', 'account text, kind text', 'text'),
	('public.credits_verify', 'account text DEFAULT NULL::text, archived boolean DEFAULT false', 'SETOF credits.problem'),
	('public.credits_void_grant', 'grant_id bigint, reason text, idempotency_key text DEFAULT NULL::text',
	 'credits.receipt'),
	('public.credits_warn',
	 'IN batch_size integer DEFAULT 1000, INOUT warned bigint DEFAULT NULL::bigint,'
	 ' INOUT failed bigint DEFAULT NULL::bigint',
	 NULL),
	('public.credits_watch',
	 'IN batch_size integer DEFAULT 1000, INOUT done bigint DEFAULT NULL::bigint,'
	 ' INOUT failed bigint DEFAULT NULL::bigint',
	 NULL),
	('public.credits_withdraw_dispute', 'account text, dispute_id bigint', 'credits.dispute'),
	('public.credits_withdraw_offer', 'offer_id bigint', 'boolean')
$$, 'functions and their arguments');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc AS p
	WHERE (p.proname LIKE 'credits\_%' OR p.pronamespace = 'credits'::regnamespace)
	  AND p.oid NOT IN (SELECT oid FROM routine)
$$, 'every function is a member of the extension');

-- what the planner may do with them
SELECT pg_temp.rows_are($$
	SELECT name FROM routine WHERE provolatile <> 'v' AND prokind = 'f' ORDER BY name COLLATE "C"
$$, $$ VALUES
	('credits.account_id'),
	('credits.archive_behind'),
	('credits.archived_balance'),
	('credits.consumer_lag'),
	('credits.dispute_position'),
	('credits.draws_of'),
	('credits.erased_customer'),
	('credits.erased_facts'),
	('credits.erased_reference'),
	('credits.history_position'),
	('credits.is_reachable'),
	('credits.is_told'),
	('credits.job_is_running'),
	('credits.key_digest'),
	('credits.kind_name'),
	('credits.log_rows'),
	('credits.max_rows'),
	('credits.not_before'),
	('credits.now'),
	('credits.period_number'),
	('credits.period_start'),
	('credits.personal_data'),
	('credits.renamed'),
	('credits.renamed_in_message'),
	('credits.required'),
	('credits.role_name'),
	('credits.settled'),
	('credits.settled_grants'),
	('credits.stripe_ids_of'),
	('credits.warn_behind'),
	('public.credits_archive_obstacles'),
	('public.credits_audit'),
	('public.credits_balance'),
	('public.credits_balance_at'),
	('public.credits_balance_by_source'),
	('public.credits_contacts'),
	('public.credits_correction_items'),
	('public.credits_digest'),
	('public.credits_dispute_queue'),
	('public.credits_dispute_statistics'),
	('public.credits_disputes'),
	('public.credits_export_person'),
	('public.credits_export_person_json'),
	('public.credits_find_accounts'),
	('public.credits_gifts'),
	('public.credits_grants'),
	('public.credits_history'),
	('public.credits_holds'),
	('public.credits_packages'),
	('public.credits_plans'),
	('public.credits_pool_members'),
	('public.credits_pool_summary'),
	('public.credits_pools'),
	('public.credits_preferences'),
	('public.credits_preview_plan_change'),
	('public.credits_preview_template'),
	('public.credits_price'),
	('public.credits_purchases'),
	('public.credits_quiet_hours'),
	('public.credits_quote'),
	('public.credits_read_events'),
	('public.credits_referrals'),
	('public.credits_rewards'),
	('public.credits_service'),
	('public.credits_subscriptions'),
	('public.credits_summary'),
	('public.credits_topup'),
	('public.credits_verify')
$$, 'only functions that read are not volatile');
SELECT set_eq($$ SELECT name FROM routine WHERE provolatile = 'i' $$,
	ARRAY['credits.draws_of', 'credits.key_digest', 'credits.kind_name', 'credits.max_rows'], 'nothing that reads tables or the clock is immutable');
SELECT is_empty($$ SELECT name FROM routine WHERE provolatile = 'v' AND proparallel <> 'u' $$,
	'whatever changes anything is parallel unsafe');
SELECT set_eq($$ SELECT name FROM routine WHERE proisstrict $$,
	ARRAY['credits.draws_of', 'credits.key_digest', 'credits.kind_name', 'credits.role_name'],
	'none but those of the log''s columns is strict: NULL is an error that is told, not a NULL that is passed on');
SELECT is_empty($$ SELECT name FROM routine WHERE proleakproof $$, 'none claims to be leakproof');
SELECT set_eq($$ SELECT DISTINCT l.lanname::text FROM routine AS r JOIN pg_language AS l ON l.oid = r.prolang $$,
	ARRAY['c', 'sql'], 'C and SQL, nothing else');
SELECT set_eq($$ SELECT DISTINCT probin FROM routine WHERE probin IS NOT NULL $$,
	ARRAY['$libdir/credits'], 'the C functions are in the library');

-- safety
SELECT is_empty($$
	SELECT name FROM routine
	WHERE prosecdef AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp']
$$, 'no SECURITY DEFINER without a search_path of its own');
SELECT is_empty($$
	SELECT name FROM routine WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql') AND NOT prosecdef
$$, 'no SQL function that a caller''s search_path could bend');
SELECT pg_temp.rows_are($$
	SELECT name FROM routine AS r WHERE has_function_privilege('public', r.oid, 'EXECUTE') ORDER BY 1
$$, $$ VALUES ('credits.draws_of'), ('credits.key_digest'), ('credits.kind_name'), ('credits.now'), ('credits.role_name') $$,
	'PUBLIC may execute nothing but the clock, and what shows the log''s columns');
SELECT is_empty($$
	SELECT r.name, a.privilege_type FROM relation AS r, aclexplode(coalesce(r.relacl, acldefault('r', r.relowner))) AS a
	WHERE a.grantee = 0
$$, 'PUBLIC may do nothing to a table');
SELECT is_empty($$
	SELECT r.name FROM relation AS r, aclexplode(r.relacl) AS a WHERE a.is_grantable AND a.grantee <> r.relowner
	UNION ALL
	SELECT r.name FROM routine AS r, aclexplode(r.proacl) AS a WHERE a.is_grantable AND a.grantee <> r.proowner
$$, 'nobody may hand on what was given');
SELECT is_empty($$
	SELECT a.privilege_type FROM pg_namespace AS n,
		aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
	WHERE n.nspname = 'credits' AND a.grantee = 0
$$, 'PUBLIC may not even look into the schema');

-- comments
SELECT is_empty($$
	SELECT m.type, m.identity FROM member AS m
	WHERE obj_description(m.objid, m.classid::regclass::name) IS NULL
	  AND m.type IN ('function', 'procedure', 'table', 'view', 'schema')
	  AND m.identity !~ '^credits\..*\[\]$'
$$, 'every function, table and view, and the schema has a comment');
SELECT is_empty($$
	SELECT t.oid::regtype FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
	WHERE t.typnamespace = 'credits'::regnamespace AND c.relkind = 'c' AND obj_description(t.oid, 'pg_type') IS NULL
$$, 'every type has a comment');
SELECT is_empty($$
	SELECT c.comment FROM (
		SELECT obj_description(oid, 'pg_proc') AS comment FROM routine UNION ALL
		SELECT obj_description(oid, 'pg_class') FROM relation) AS c
	WHERE c.comment !~ '^[a-z1].*[^.]$'
$$, 'comments begin in lower case and end without a full stop');

-- dump
SELECT set_eq($$
	SELECT c.oid::regclass::text FROM pg_extension AS e, unnest(e.extconfig) AS c (oid) WHERE e.extname = 'credits'
$$, $$ SELECT name FROM relation WHERE relkind IN ('r', 'S') AND name NOT IN ('credits.stripe_secrets',
		'credits.event_order', 'credits.consumer_positions') $$,
	'every table and every sequence is dumped, but no secrets, and what means something in its cluster only');
SELECT is_empty($$
	SELECT c.condition FROM pg_extension AS e, unnest(e.extcondition) AS c (condition)
	WHERE e.extname = 'credits' AND c.condition <> ''
$$, 'with all its rows');
SELECT is_empty($$
	SELECT s.name FROM relation AS s
	WHERE s.relkind = 'S' AND s.name <> 'credits.stripe_refused_seq' AND NOT EXISTS (
		SELECT FROM pg_depend AS d JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
		WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype = 'a' AND a.attname = 'id')
$$, 'every sequence belongs to an id, but the one that counts refusals');

SELECT * FROM finish();
ROLLBACK;
