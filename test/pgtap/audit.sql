-- audit: each table either notes its changes in the audit, or does not for a reason
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE TEMP TABLE unaudited (reason, tables) AS VALUES
	('settings, of which the functions that write them note each change',
	 '{accounts,codes,limits,members}'::text[]),
	('the log, and what follows from it', '{anchor_parts,anchors,archived_grants,archived_log,archives,carried_rows,debts,grants,hold_states,log,redemptions,roles}'),
	('what happens to accounts: bought, subscribed, objected to', '{disputes,paid_parts,period_refunds,periods,plan_changes,promotion_totals,promotion_uses,purchases,reversals,reward_totals,rewards,subscriptions,topup_requests}'),
	('what persons have chosen, and addresses', '{contacts,preferences,quiet_hours,topups,webhook_secrets}'),
	('what Stripe says, and which customer is which account', '{stripe_credit_notes,stripe_customers,stripe_events,stripe_invoices,stripe_items,stripe_lines,stripe_links,stripe_other_invoices,stripe_payments,stripe_subjects,stripe_subscriptions}'),
	('decisions about single cases, which say who made them', '{correction_items,corrections,erasures,stripe_dismissals}'),
	('messages, and how far jobs and consumers have come', '{activity_hits,activity_hours,activity_position,consumer_positions,deliveries,event_order,events,job_runs,warnings}'),
	('the audit itself', '{audit_log}');
CREATE TEMP VIEW present AS
SELECT c.oid, c.relname::text COLLATE "C" AS name FROM pg_class AS c
WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;
-- the bits of pg_trigger.tgtype: row 1, before 2, insert 4, delete 8, update 16, truncate 32
CREATE TEMP VIEW audited AS
SELECT p.name, array_agg(t.tgtype ORDER BY t.tgtype) AS types, bool_and(t.tgenabled = 'A') AS always
FROM present AS p JOIN pg_trigger AS t ON t.tgrelid = p.oid
WHERE t.tgfoid = 'credits.note_change'::regproc GROUP BY p.name;

SELECT is_empty($$SELECT name FROM present EXCEPT (SELECT name FROM audited UNION SELECT unnest(tables) FROM unaudited)$$,
	'a table that is new: note its changes in sql/802_audit.sql, or say here why not');
SELECT is_empty($$SELECT unnest(tables) FROM unaudited EXCEPT SELECT name FROM present$$, 'all of these exist');
SELECT is_empty($$SELECT name FROM audited INTERSECT SELECT unnest(tables) FROM unaudited$$, 'none is both');
SELECT is_empty($$SELECT name FROM audited WHERE NOT always$$, 'whatever the role of replication');
SELECT results_eq($$SELECT name FROM audited WHERE types <> '{29,32}'$$, $$VALUES ('consumers' COLLATE "C")$$,
	'every kind of change is noted, except how far a consumer has read');
SELECT is((SELECT types FROM audited WHERE name = 'consumers'), '{13,32}'::smallint[], 'but not who is added or removed');

-- whoever sets something is noted: each function that an administrator has, and an application has not
CREATE TEMP TABLE noted (functions) AS VALUES
	('{credits_set_operation,credits_retire_operation,credits_set_plan,credits_retire_plan,credits_set_package,credits_retire_package,credits_set_unit_price,credits_retire_unit_price,credits_set_volume_discount,credits_set_promotion,credits_retire_promotion,credits_set_reward_program,credits_retire_reward_program,credits_set_template,credits_retire_template,credits_set_activity_rule,credits_remove_activity_rule,credits_offer_plan,credits_offer_package,credits_withdraw_offer,credits_add_consumer,credits_remove_consumer,credits_schedule,credits_unschedule,credits_pause_service,credits_resume_service,credits_stripe_set_price,credits_stripe_add_secret,credits_stripe_remove_secret,credits_rotate_unsubscribe_secret}'::text[]),
	('{credits_set_limits,credits_set_alerts,credits_pause_account,credits_resume_account,credits_close_account,credits_add_member,credits_change_member,credits_remove_member,credits_create_promo_code,credits_create_promo_codes,credits_deactivate_promo_code}'),
	('{credits_allocate,credits_allocate_many,credits_adjust,credits_apply_correction,credits_void_grant}');
SELECT is_empty($$
	SELECT f FROM noted, unnest(functions) AS f WHERE f NOT IN (SELECT proname::text FROM pg_proc)$$, 'all of these functions exist');
SELECT is_empty($$
	SELECT p.proname::text FROM pg_proc AS p
	WHERE p.proname ~ '^credits_((set|retire|remove|add|offer|withdraw|pause|resume|rotate|create|deactivate|stripe_set|stripe_add|stripe_remove)_|(un)?schedule)'
	  AND has_function_privilege('credits_admin', p.oid, 'EXECUTE') AND NOT has_function_privilege('credits_app', p.oid, 'EXECUTE')
	EXCEPT SELECT f FROM noted, unnest(functions) AS f
	EXCEPT SELECT unnest('{credits_stripe_set_customer,credits_set_invoice,credits_pause_subscription,credits_resume_subscription}'::text[])$$,
	'a function that sets something, and is new: note what it does');
SELECT * FROM finish();
ROLLBACK;
