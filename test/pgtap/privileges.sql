-- privileges: every role, every function, every table: what it may, and what happens when it tries
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE ROLE regress_pgtap_app IN ROLE credits_app;
CREATE ROLE regress_pgtap_admin IN ROLE credits_admin;
CREATE ROLE regress_pgtap_auditor IN ROLE credits_auditor;
CREATE ROLE regress_pgtap_nobody;
CREATE TEMP TABLE person (role name, app boolean, admin boolean, auditor boolean);
INSERT INTO person VALUES
	('regress_pgtap_app', true, false, false),
	('regress_pgtap_admin', true, true, false),
	('regress_pgtap_auditor', false, false, true),
	('regress_pgtap_nobody', false, false, false);

-- Runs a statement as a role, takes it back, and returns its SQLSTATE; 00000 if it worked.
CREATE FUNCTION pg_temp.state_as(role name, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE statement;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION
	WHEN SQLSTATE 'ZZ000' THEN RETURN '00000';
	WHEN OTHERS THEN RETURN SQLSTATE;
END
$$;

-- who may call what; calls that need an id have its name, as psql's variables do
CREATE TEMP TABLE callable (function text, app boolean, admin boolean, auditor boolean, call text);
INSERT INTO callable VALUES
	('credits_ack_events', false, true, false, $$SELECT credits_ack_events('p:consumer', token) FROM credits_read_events('p:consumer')$$),
	('credits_add_consumer', false, true, false, $$SELECT credits_add_consumer('p:new')$$),
	('credits_add_member', false, true, false, $$SELECT credits_add_member('p:pool', 'p:1')$$),
	('credits_adjust', false, true, false, $$SELECT credits_adjust('p:1', 1, 'reason')$$),
	('credits_allocate', false, true, false, $$SELECT credits_allocate('p:1', 1)$$),
	('credits_allocate_many', false, true, false, $$SELECT credits_allocate_many('{"(p:1,1,,,,,,,,,,,)"}'::credits.allocation[])$$),
	('credits_apply_correction', false, true, false, $$CALL credits_apply_correction(':correction')$$),
	('credits_archive', false, true, false, NULL),
	('credits_archive_obstacles', false, true, true, $$SELECT credits_archive_obstacles()$$),
	('credits_audit', false, true, true, $$SELECT credits_audit(topic => 'plan')$$),
	('credits_balance', true, true, true, $$SELECT credits_balance('p:1')$$),
	('credits_balance_at', true, true, true, $$SELECT credits_balance_at('p:1', '2030-01-01')$$),
	('credits_balance_by_source', true, true, true, $$SELECT credits_balance_by_source('p:1')$$),
	('credits_cancel_gift', true, true, false, $$SELECT credits_cancel_gift(':gift')$$),
	('credits_cancel_subscription', false, true, false, $$SELECT credits_cancel_subscription(:subscription)$$),
	('credits_capture_many', true, true, false, $$SELECT credits_capture_many('[{"hold_id": 1}]'::jsonb)$$),
	('credits_capture', true, true, false, $$SELECT credits_capture(:hold)$$),
	('credits_change_member', false, true, false, $$SELECT credits_change_member('p:pool', 'p:paused', 5)$$),
	('credits_change_plan', false, true, false, $$SELECT credits_change_plan(:subscription, 'p:other')$$),
	('credits_charge', true, true, false, $$SELECT credits_charge('p:1', 'p:operation', 2)$$),
	('credits_close_account', false, true, false, $$SELECT credits_close_account('p:1', 'reason')$$),
	('credits_close_chargeback', false, true, false, $$SELECT credits_close_chargeback(:bought, 'p_dp', 'won')$$),
	('credits_complete_purchase', false, true, false, $$SELECT credits_complete_purchase(:purchase, 'p_pay', 1)$$),
	('credits_contacts', true, true, true, $$SELECT credits_contacts('p:1')$$),
	('credits_correction_items', false, true, true, $$SELECT credits_correction_items(1)$$),
	('credits_create_gift', true, true, false, $$SELECT credits_create_gift('p:1', 1)$$),
	('credits_create_promo_code', false, true, false, $$SELECT credits_create_promo_code('P-NEW', 1)$$),
	('credits_create_promo_codes', false, true, false, $$SELECT credits_create_promo_codes(2, 1)$$),
	('credits_deactivate_promo_code', false, true, false, $$SELECT credits_deactivate_promo_code('P-CODE')$$),
	('credits_deduct', true, true, false, $$SELECT credits_deduct('p:1', 1)$$),
	('credits_deduct_up_to', true, true, false, $$SELECT credits_deduct_up_to('p:1', 1)$$),
	('credits_deduct_many', true, true, false, $$SELECT credits_deduct_many('{"(p:1,1,,,,)"}'::credits.deduction[])$$),
	('credits_delivery_failed', false, true, false, $$SELECT credits_delivery_failed(:delivery, 1, 'error')$$),
	('credits_delivery_sent', false, true, false, $$SELECT credits_delivery_sent(:delivery, 1)$$),
	('credits_set_reward_program', false, true, false, $$SELECT credits_set_reward_program('p:program', '{2}')$$),
	('credits_retire_reward_program', false, true, false, $$SELECT credits_retire_reward_program('p:program')$$),
	('credits_reward', true, true, false, $$SELECT credits_reward('p:1', 'p:program', 'a')$$),
	('credits_try_reward', true, true, false, $$SELECT credits_try_reward('p:1', 'p:program', 'a')$$),
	('credits_rewards', true, true, true, $$SELECT credits_rewards('p:1')$$),
	('credits_set_topup', true, true, false, $$SELECT credits_set_topup('p:1', 10, 20)$$),
	('credits_topup', true, true, true, $$SELECT credits_topup('p:1')$$),
	('credits_request_topups', false, true, false, $$SELECT credits_request_topups()$$),
	('credits_resume_topup', true, true, false, $$SELECT credits_resume_topup('p:1')$$),
	('credits_remove_topup', true, true, false, $$SELECT credits_remove_topup('p:topped')$$),
	('credits_digest', false, true, true, $$SELECT credits_digest()$$),
	('credits_assign_dispute', false, true, false, $$SELECT credits_assign_dispute(:dispute)$$),
	('credits_dispute_queue', false, true, true, $$SELECT credits_dispute_queue()$$),
	('credits_dispute_statistics', false, true, true, $$SELECT credits_dispute_statistics()$$),
	('credits_disputes', true, true, true, $$SELECT credits_disputes('p:1')$$),
	('credits_erase_dispute', false, true, false, $$SELECT credits_erase_dispute(:dispute)$$),
	('credits_open_dispute', true, true, false, $$SELECT credits_open_dispute('p:1', :other, 'other')$$),
	('credits_resolve_dispute', false, true, false, $$SELECT credits_resolve_dispute(:dispute, 0)$$),
	('credits_withdraw_dispute', true, true, false, $$SELECT credits_withdraw_dispute('p:1', :dispute)$$),
	('credits_expire_purchase', false, true, false, $$SELECT credits_expire_purchase(:purchase)$$),
	('credits_erase_person', false, true, false, $$CALL credits_erase_person('p:paused', 'asked')$$),
	('credits_export_person', false, true, false, $$SELECT credits_export_person('p:1')$$),
	('credits_export_person_json', false, true, false, $$SELECT credits_export_person_json('p:1')$$),
	('credits_erase_text', false, true, false, $$SELECT credits_erase_text(:spend)$$),
	('credits_extend_hold', true, true, false, $$SELECT credits_extend_hold(:hold, '1 day')$$),
	('credits_find_accounts', false, true, true, $$SELECT credits_find_accounts('p:')$$),
	('credits_fail_purchase', false, true, false, $$SELECT credits_fail_purchase(:purchase)$$),
	('credits_gift_many', true, true, false, $$SELECT credits_gift_many('p:1', '{p:paused,p:pool}', 1)$$),
	('credits_gifts', true, true, true, $$SELECT credits_gifts('p:1')$$),
	('credits_grants', true, true, true, $$SELECT credits_grants('p:1')$$),
	('credits_history', true, true, true, $$SELECT credits_history('p:1')$$),
	('credits_hold', true, true, false, $$SELECT credits_hold('p:1', 1)$$),
	('credits_hold_many', true, true, false, $$SELECT credits_hold_many('[{"account": "p:1", "amount": 1}]'::jsonb)$$),
	('credits_hold_up_to', true, true, false, $$SELECT credits_hold_up_to('p:1', 1)$$),
	('credits_holds', true, true, true, $$SELECT credits_holds('p:1')$$),
	('credits_housekeep', false, true, false, $$CALL credits_housekeep(1, NULL, NULL)$$),
	('credits_offer_package', false, true, false, $$SELECT credits_offer_package('p:package', 'p:1')$$),
	('credits_offer_plan', false, true, false, $$SELECT credits_offer_plan('p:plan', metadata => '{"a": 1}')$$),
	('credits_open_account', false, true, false, $$SELECT credits_open_account('p:2')$$),
	('credits_open_account_for_row', false, true, false, NULL),
	('credits_open_accounts', false, true, false, $$SELECT credits_open_accounts('pg_catalog.pg_language', 'lanname')$$),
	('credits_open_chargeback', false, true, false, $$SELECT credits_open_chargeback(:bought, 'p_dp2', 1)$$),
	('credits_partition_log', false, true, false, NULL),
	('credits_packages', true, true, true, $$SELECT credits_packages('p:1')$$),
	('credits_pause_account', false, true, false, $$SELECT credits_pause_account('p:1', 'reason')$$),
	('credits_pause_service', false, true, false, NULL),
	('credits_pause_subscription', false, true, false, $$SELECT credits_pause_subscription(:subscription)$$),
	('credits_plans', true, true, true, $$SELECT credits_plans('p:1')$$),
	('credits_pool_members', true, true, true, $$SELECT credits_pool_members('p:pool')$$),
	('credits_pool_summary', true, true, true, $$SELECT credits_pool_summary('p:pool', 'p:1')$$),
	('credits_pools', true, true, true, $$SELECT credits_pools('p:1')$$),
	('credits_preview_correction', false, true, false, $$SELECT credits_preview_correction('{p:1}', 1, 'reason')$$),
	('credits_preview_plan_change', true, true, true, $$SELECT credits_preview_plan_change(:subscription, 'p:other')$$),
	('credits_preferences', true, true, true, $$SELECT credits_preferences('p:1')$$),
	('credits_preview_template', false, true, true, $$SELECT credits_preview_template('low_balance')$$),
	('credits_price', true, true, true, $$SELECT credits_price('p:1', 'p:package')$$),
	('credits_purchases', true, true, true, $$SELECT credits_purchases('p:1')$$),
	('credits_quiet_hours', true, true, true, $$SELECT credits_quiet_hours('p:1')$$),
	('credits_quote', true, true, true, $$SELECT credits_quote('p:1', 'p:operation', 2)$$),
	('credits_read_events', false, true, false, $$SELECT credits_read_events('p:consumer')$$),
	('credits_redeem', true, true, false, $$SELECT credits_redeem('p:1', 'P-CODE')$$),
	('credits_referral_code', true, true, false, $$SELECT credits_referral_code('p:1')$$),
	('credits_referrals', true, true, true, $$SELECT credits_referrals('p:1')$$),
	('credits_refund', true, true, false,
	 $$SELECT credits_refund(:spend, 1)$$),
	('credits_refund_period', false, true, false, $$SELECT credits_refund_period(:subscription)$$),
	('credits_refund_purchase', false, true, false, $$SELECT credits_refund_purchase(:bought)$$),
	('credits_release', true, true, false, $$SELECT credits_release(:hold)$$),
	('credits_remove_activity_rule', false, true, false, $$SELECT credits_remove_activity_rule('p:rule')$$),
	('credits_remove_consumer', false, true, false, $$SELECT credits_remove_consumer('p:consumer')$$),
	('credits_remove_member', false, true, false, $$SELECT credits_remove_member('p:pool', 'p:paused')$$),
	('credits_renew', false, true, false, $$CALL credits_renew(1, NULL, NULL)$$),
	('credits_replay_delivery', false, true, false, $$SELECT credits_replay_delivery(:delivery)$$),
	('credits_resume_account', false, true, false, $$SELECT credits_resume_account('p:paused', 'reason')$$),
	('credits_resume_service', false, true, false, $$SELECT credits_resume_service()$$),
	('credits_resume_subscription', false, true, false, $$SELECT credits_resume_subscription(:subscription)$$),
	('credits_retire_operation', false, true, false, $$SELECT credits_retire_operation('p:operation')$$),
	('credits_retire_package', false, true, false, $$SELECT credits_retire_package('p:package')$$),
	('credits_retire_plan', false, true, false, $$SELECT credits_retire_plan('p:plan')$$),
	('credits_retire_promotion', false, true, false, $$SELECT credits_retire_promotion('p:promotion')$$),
	('credits_retire_unit_price', false, true, false, $$SELECT credits_retire_unit_price('EUR')$$),
	('credits_reverse_transfer', false, true, false, $$SELECT credits_reverse_transfer(:transfer, 'reason')$$),
	('credits_schedule', false, true, false, NULL),
	('credits_set_invoice', false, true, false, $$SELECT credits_set_invoice(s.subscription_id, 'in_p', '[]') FROM credits_subscribe('p:1', 'p:plan', collection => 'payment', external_id => 'p:paid') AS s$$),
	('credits_remove_contact', true, true, false, $$SELECT credits_remove_contact('p:1', 'email')$$),
	('credits_retire_template', false, true, false, $$SELECT credits_retire_template('low_balance')$$),
	('credits_rotate_unsubscribe_secret', false, true, false, $$SELECT credits_rotate_unsubscribe_secret()$$),
	('credits_revoke_webhook_secret', true, true, false, $$SELECT credits_revoke_webhook_secret('p:1', 'https://example.com')$$),
	('credits_rotate_webhook_secret', true, true, false, $$SELECT credits_rotate_webhook_secret('p:1', 'https://example.com')$$),
	('credits_set_contact', true, true, false, $$SELECT credits_set_contact('p:1', 'inbox')$$),
	('credits_set_activity_rule', false, true, false, $$SELECT credits_set_activity_rule('p:rule', 'refusals', 6)$$),
	('credits_set_preference', true, true, false, $$SELECT credits_set_preference('p:1', enabled => true)$$),
	('credits_set_quiet_hours', true, true, false, $$SELECT credits_set_quiet_hours('p:1', '22:00', '07:00', 'UTC')$$),
	('credits_set_template', false, true, false, $$SELECT credits_set_template('low_balance', subject => 's', body => 'b')$$),
	('credits_set_limits', false, true, false, $$SELECT credits_set_limits('p:1', 1000)$$),
	('credits_set_alerts', false, true, false, $$SELECT credits_set_alerts('p:1', '1')$$),
	('credits_set_operation', false, true, false, $$SELECT credits_set_operation('p:operation', 2)$$),
	('credits_set_package', false, true, false, $$SELECT credits_set_package('p:package', 10, 1, 'EUR')$$),
	('credits_set_plan', false, true, false, $$SELECT credits_set_plan('p:plan', 10)$$),
	('credits_set_promotion', false, true, false, $$SELECT credits_set_promotion('p:promotion', 'percent', 10)$$),
	('credits_set_unit_price', false, true, false, $$SELECT credits_set_unit_price('EUR', 0.1)$$),
	('credits_set_volume_discount', false, true, false, $$SELECT credits_set_volume_discount('{10}', '{5}')$$),
	('credits_service', true, true, true, $$SELECT credits_service()$$),
	('credits_settle', false, true, false, $$CALL credits_settle(1, NULL, NULL)$$),
	('credits_start_purchase', true, true, false, $$SELECT credits_start_purchase('p:1', 'p:package')$$),
	('credits_stripe_add_secret', false, true, false, $$SELECT credits_stripe_add_secret('p:new', 'whsec_0123456789')$$),
	('credits_stripe_dismiss', false, true, false, $$SELECT credits_stripe_dismiss('pi_p', 'p')$$),
	('credits_stripe_invoice_lines', false, true, false, $$SELECT credits_stripe_invoice_lines('in_p', '[]')$$),
	('credits_stripe_remove_secret', false, true, false, $$SELECT credits_stripe_remove_secret('p:secret')$$),
	('credits_stripe_reprocess', false, true, false, $$SELECT credits_stripe_reprocess()$$),
	('credits_stripe_set_customer', false, true, false, $$SELECT credits_stripe_set_customer('cus_p', 'p:1')$$),
	('credits_stripe_set_price', false, true, false, $$SELECT credits_stripe_set_price('price_p', 'p:plan')$$),
	('credits_stripe_webhook', true, true, false, NULL),
	('credits_subscribe', false, true, false, $$SELECT credits_subscribe('p:1', 'p:plan')$$),
	('credits_subscriptions', true, true, true, $$SELECT credits_subscriptions('p:1')$$),
	('credits_mark_paid', false, true, false, $$SELECT credits_mark_paid(:subscription)$$),
	('credits_mark_unpaid', false, true, false, $$SELECT credits_mark_unpaid(:subscription)$$),
	('credits_summary', true, true, true, $$SELECT credits_summary('p:1')$$),
	('credits_sync_sequences', false, true, false, $$SELECT credits_sync_sequences()$$),
	('credits_take_deliveries', false, true, false, $$SELECT credits_take_deliveries('email')$$),
	('credits_transfer', true, true, false, $$SELECT credits_transfer('p:1', 'p:pool', 1)$$),
	('credits_transfer_many', true, true, false, $$SELECT credits_transfer_many('[{"from_account": "p:1", "to_account": "p:pool", "amount": 1}]'::jsonb)$$),
	('credits_transfer_up_to', true, true, false, $$SELECT credits_transfer_up_to('p:1', 'p:pool', 1)$$),
	('credits_try_charge', true, true, false, $$SELECT credits_try_charge('p:1', 'p:operation')$$),
	('credits_try_deduct', true, true, false, $$SELECT credits_try_deduct('p:1', 1)$$),
	('credits_try_hold', true, true, false, $$SELECT credits_try_hold('p:1', 1)$$),
	('credits_try_redeem', true, true, false, $$SELECT credits_try_redeem('p:1', 'P-CODE')$$),
	('credits_unschedule', false, true, false, NULL),
	('credits_unsubscribe', true, true, false, $$SELECT credits_unsubscribe(':token')$$),
	('credits_unsubscribe_token', true, true, false, $$SELECT credits_unsubscribe_token('p:1', 'low_balance')$$),
	('credits_verify', false, true, true, $$SELECT credits_verify()$$),
	('credits_void_grant', false, true, false, $$SELECT credits_void_grant(:grant, 'reason')$$),
	('credits_warn', false, true, false, $$CALL credits_warn(1, NULL, NULL)$$),
	('credits_watch', false, true, false, $$CALL credits_watch(1, NULL, NULL)$$),
	('credits_withdraw_offer', false, true, false, $$SELECT credits_withdraw_offer(:offer)$$),
	('credits.account_id', false, true, true, $$SELECT credits.account_id('p:1')$$),
	('credits.advance_sequence', false, false, false, NULL),
	('credits.erased_customer', false, false, false, NULL),
	('credits.erased_facts', false, false, false, NULL),
	('credits.erased_reference', false, false, false, NULL),
	('credits.renamed', false, false, false, NULL),
	('credits.renamed_in_message', false, false, false, NULL),
	('credits.stripe_ids_of', false, false, false, NULL),
	('credits.personal_data', false, true, true, $$SELECT credits.personal_data()$$),
	('credits.consumer_lag', false, true, true, $$SELECT credits.consumer_lag('p:consumer')$$),
	('credits.cron_reason', false, true, true, $$SELECT credits.cron_reason('credits_settle', 'nobody')$$),
	('credits.dispute_position', false, true, true, $$SELECT credits.dispute_position(:dispute)$$),
	('credits.is_reachable', false, true, true, $$SELECT credits.is_reachable('email', true)$$),
	('credits.is_told', false, true, true, $$SELECT credits.is_told(1, 'low_balance', 'email')$$),
	('credits.not_before', false, true, true, $$SELECT credits.not_before(1, 'low_balance', now())$$),
	('credits.log_rows', false, true, true, $$SELECT credits.log_rows(1, NULL, NULL, NULL, NULL, NULL, NULL, 1)$$),
	('credits.max_rows', false, true, true, $$SELECT credits.max_rows(1)$$),
	('credits.history_position', false, true, true, $$SELECT credits.history_position('p:1', NULL)$$),
	('credits.job_is_running', false, true, true, $$SELECT credits.job_is_running(1, now(), now())$$),
	('credits.period_number', true, true, true,
	 $$SELECT credits.period_number('2030-01-31', 'UTC', 'month', 1, '2030-03-01')$$),
	('credits.period_start', true, true, true,
	 $$SELECT credits.period_start('2030-01-31', 'UTC', 'month', 1, 1)$$),
	('credits.refuse_change', false, false, false, NULL),
	('credits.required', false, true, true, $$SELECT credits.required('2030-01-01', 'x')$$),
	('credits.erase_replicated', false, false, false, NULL),
	('credits.note_change', false, false, false, NULL),
	('credits.note_service', false, false, false, NULL),
	('credits.archive_behind', false, true, true, $$SELECT credits.archive_behind()$$),
	('credits.archived_balance', false, true, true, $$SELECT credits.archived_balance(credits.account_id('p:1'), now())$$),
	('credits.settled', false, true, true, $$SELECT credits.settled(credits.account_id('p:1'))$$),
	('credits.settled_grants', false, true, true, $$SELECT credits.settled_grants(credits.account_id('p:1'))$$),
	('credits.warn_behind', false, true, true, $$SELECT credits.warn_behind()$$),
	('credits.write_log', false, false, false, NULL);
SELECT set_eq($$
	SELECT CASE n.nspname WHEN 'credits' THEN 'credits.' ELSE '' END || p.proname
	FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
	JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'credits'
$$, $$
	SELECT function FROM callable UNION ALL
	SELECT unnest('{credits.now,credits.draws_of,credits.key_digest,credits.kind_name,credits.role_name}'::text[]) $$, 'all functions are in the matrix');
SELECT is(has_function_privilege(p.role, f.oid, 'EXECUTE'),
	(p.app AND c.app) OR (p.admin AND c.admin) OR (p.auditor AND c.auditor),
	p.role || ' and EXECUTE on ' || f.oid::regprocedure)
FROM person AS p, callable AS c
JOIN pg_proc AS f ON f.pronamespace = CASE WHEN c.function LIKE 'credits.%' THEN 'credits' ELSE 'public' END::regnamespace
	AND f.proname = regexp_replace(c.function, '^credits\.', '');

-- and when they try
SELECT credits_open_account('p:1', 100) IS NOT NULL AS opened \gset
SELECT transaction_id AS spend FROM credits_deduct('p:1', 10) \gset
SELECT transaction_id AS other FROM credits_deduct('p:1', 1) \gset
SELECT token AS correction FROM credits_preview_correction('{p:1}', 1, 'reason') \gset
SELECT dispute_id AS dispute FROM credits_open_dispute('p:1', :spend, 'other') \gset
SELECT credits_add_consumer('p:consumer', 0) AS added \gset
SELECT credits_set_activity_rule('p:rule', 'refusals', 5) AS made \gset
INSERT INTO credits.deliveries VALUES (1, 1, 1, 1, NULL, now(), now(), now(), NULL, 1, 1, 'email', 'waiting', 'low_balance', 'msg_p', NULL, NULL) RETURNING id AS delivery \gset
SELECT credits_open_account('p:paused', 100) IS NOT NULL AS opened \gset
SELECT credits_set_reward_program('p:program', '{1}') IS NOT NULL AS made \gset
SELECT credits_open_account('p:topped', 100) IS NOT NULL AS opened, credits_set_topup('p:topped', 1, 2) IS NOT NULL AS topped \gset
SELECT credits_pause_account('p:paused', 'reason') IS NOT NULL AS paused \gset
SELECT credits_open_account('p:pool', 100) IS NOT NULL AS opened \gset
SELECT credits_add_member('p:pool', 'p:paused', 10) IS NOT NULL AS added \gset
SELECT transaction_id AS hold FROM credits_hold('p:1', 5) \gset
SELECT transaction_id AS transfer FROM credits_transfer('p:1', 'p:pool', 5) \gset
SELECT id AS grant FROM credits.grants WHERE account_id = credits.account_id('p:1') \gset
SELECT code AS gift FROM credits_create_gift('p:1', 5) \gset
SELECT credits_create_promo_code('P-CODE', 5) IS NOT NULL AS made \gset
SELECT credits_set_operation('p:operation', 1) IS NOT NULL AS made \gset
SELECT credits_set_package('p:package', 10, 1, 'EUR') IS NOT NULL AS made \gset
SELECT credits_set_promotion('p:promotion', 'percent', 10) IS NOT NULL AS made \gset
SELECT credits_set_unit_price('EUR', 0.1) IS NOT NULL AS made \gset
SELECT purchase_id AS purchase FROM credits_start_purchase('p:1', 'p:package') \gset
SELECT purchase_id AS bought FROM credits_start_purchase('p:1', 'p:package') \gset
SELECT credits_complete_purchase(:bought, 'p_bought', 1) IS NOT NULL AS bought_it \gset
SELECT credits_open_chargeback(:bought, 'p_dp', 0.5) IS NOT NULL AS charged_back \gset
SELECT credits_set_plan('p:plan', 10) IS NOT NULL AS made \gset
SELECT credits_set_plan('p:other', 20) IS NOT NULL AS made \gset
SELECT subscription_id AS subscription FROM credits_subscribe('p:1', 'p:plan') \gset
SELECT credits_offer_plan('p:plan', 'p:1') AS offer \gset
SELECT credits_unsubscribe_token('p:1', 'low_balance') AS token, credits_set_contact('p:1', 'webhook', 'https://example.com') AS webhook \gset
SELECT credits_set_template('low_balance', subject => 's', body => 'a') IS NOT NULL AS made \gset
SELECT credits_stripe_add_secret('p:secret', 'whsec_0123456789') IS NOT NULL AS made \gset
INSERT INTO credits.stripe_subjects VALUES ('pi_p', 'what the payment was for'), ('in_p', NULL), ('sub_p', NULL);
INSERT INTO credits.stripe_subscriptions (subscription, account_near, account_at, deleted, paid, as_rank) VALUES ('sub_p', 0, '-infinity', false, false, 0);
INSERT INTO credits.stripe_invoices VALUES ('in_p', 'sub_p', 'open', 1, 0, 'usd', NULL, NULL, false, false, '2030-01-01', 0, 'evt_p');
CREATE TEMP TABLE id (name text, value text);
INSERT INTO id VALUES ('correction', :'correction'), ('spend', :'spend'), ('other', :'other'), ('dispute', :'dispute'), ('hold', :'hold'), ('transfer', :'transfer'), ('grant', :'grant'), ('gift', :'gift'),
	('purchase', :'purchase'), ('bought', :'bought'),
	('subscription', :'subscription'), ('offer', :'offer'), ('delivery', :'delivery'), ('token', :'token');
UPDATE callable AS c SET call = regexp_replace(c.call, ':' || i.name || '\M', i.value)
FROM id AS i WHERE c.call ~ ('[('' ]:' || i.name || '\M');
SELECT is(pg_temp.state_as(p.role, c.call),
	CASE WHEN (p.app AND c.app) OR (p.admin AND c.admin) OR (p.auditor AND c.auditor)
		 THEN '00000' ELSE '42501' END,
	p.role || ' calls ' || c.call)
FROM person AS p, callable AS c WHERE c.call IS NOT NULL;

-- tables, views, sequences
CREATE TEMP TABLE thing AS
SELECT c.oid, c.oid::regclass::text AS name, c.relkind FROM pg_class AS c
WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'v', 'S');
SELECT is(has_table_privilege(p.role, t.oid, m.mode),
	m.mode = 'SELECT' AND t.name NOT IN ('credits.stripe_secrets', 'credits.unsubscribe_secrets', 'credits.webhook_secrets') AND (p.admin OR p.auditor OR p.app AND t.name IN (
		'credits.event_kinds',
		-- what is for sale, to whoever asks
		'credits.current_packages', 'credits.current_plans',
		'credits.current_reward_programs', 'credits.current_unit_prices', 'credits.current_volume_discounts')),
	p.role || ' and ' || m.mode || ' on ' || t.name)
FROM person AS p, thing AS t,
	unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS m (mode)
WHERE t.relkind <> 'S';
SELECT is(has_sequence_privilege(p.role, t.oid, m.mode),
	m.mode = 'SELECT' AND (p.admin OR p.auditor),
	p.role || ' and ' || m.mode || ' on ' || t.name)
FROM person AS p, thing AS t, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) AS m (mode)
WHERE t.relkind = 'S';
SELECT is(has_any_column_privilege(p.role, t.oid, 'INSERT, UPDATE, REFERENCES'), false,
	p.role || ' may write no column of ' || t.name)
FROM person AS p, thing AS t WHERE t.relkind <> 'S';
SELECT is(has_schema_privilege(p.role, 'credits', 'USAGE'), p.app OR p.admin OR p.auditor,
	p.role || ' and USAGE on the schema') FROM person AS p;
SELECT is(has_schema_privilege(p.role, 'credits', 'CREATE'), false,
	p.role || ' and CREATE in the schema') FROM person AS p;
SELECT is(has_type_privilege(p.role, t.oid, 'USAGE'), true, p.role || ' may use the type ' || t.typname)
FROM person AS p, pg_type AS t WHERE t.typnamespace = 'credits'::regnamespace
  AND t.typtype = 'c'
  AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind = 'c');

-- the roles themselves: no power over each other or the cluster
SELECT is_empty($$
	SELECT rolname FROM pg_roles WHERE rolname IN ('credits_app', 'credits_admin', 'credits_auditor')
	  AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication OR rolbypassrls)
$$, 'the three roles have no power of their own');
SELECT ok(pg_has_role('credits_admin', 'credits_app', 'USAGE'), 'an administrator is an application too');
SELECT ok(NOT pg_has_role('credits_admin', 'credits_auditor', 'USAGE'), 'and no auditor');
SELECT ok(NOT pg_has_role('credits_app', 'credits_admin', 'MEMBER'), 'an application is no administrator');
SELECT ok(NOT pg_has_role('credits_auditor', 'credits_app', 'MEMBER'), 'an auditor is no application');
SELECT is_empty($$
	SELECT a.roleid::regrole FROM pg_auth_members AS a
	WHERE a.member IN ('credits_app'::regrole, 'credits_admin'::regrole, 'credits_auditor'::regrole)
	  AND (a.roleid <> 'credits_app'::regrole OR a.admin_option)
$$, 'they are members of nothing else');

SELECT * FROM finish();
ROLLBACK;
