-- audit: who changed what is set, from what to what, and who moved credits by hand

CREATE SEQUENCE credits.audit_log_id_seq;

-- Columns of eight bytes come first.  What is about one account and has a transaction
-- leaves reason and actor to the log.
CREATE TABLE credits.audit_log (
	id bigint NOT NULL,
	at timestamptz NOT NULL,
	account_id bigint,
	transaction_id bigint,
	amount bigint,
	topic text COLLATE "C" NOT NULL,
	name text COLLATE "C",
	role text COLLATE "C" NOT NULL,
	actor text COLLATE "C",
	old_values jsonb,
	new_values jsonb
);

ALTER SEQUENCE credits.audit_log_id_seq OWNED BY credits.audit_log.id;
ALTER TABLE credits.audit_log ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);
CREATE INDEX audit_log_at_idx ON credits.audit_log (at, id);
CREATE INDEX audit_log_topic_idx ON credits.audit_log (topic, at, id);
CREATE INDEX audit_log_account_id_idx ON credits.audit_log (account_id, at, id)
	WHERE account_id IS NOT NULL;
-- what is set is seldom changed, beside what may be moved every second
CREATE INDEX audit_log_configuration_idx ON credits.audit_log (at, id)
	WHERE amount IS NULL;

COMMENT ON TABLE credits.audit_log IS
	'one row per change of what administrators set, and per transaction by which they moved credits; read it with credits_audit';
COMMENT ON COLUMN credits.audit_log.account_id IS
	'the account that it is about; NULL if it is about none, or all';
COMMENT ON COLUMN credits.audit_log.transaction_id IS
	'the row of the log that it is about, which has reason and actor';
COMMENT ON COLUMN credits.audit_log.amount IS
	'by how much the balance changed; NULL if no credits were moved';
COMMENT ON COLUMN credits.audit_log.topic IS 'what was changed, such as plan or limits';
COMMENT ON COLUMN credits.audit_log.name IS
	'name of what was changed; of a promotional code, its id in credits.codes';
COMMENT ON COLUMN credits.audit_log.role IS 'session_user that changed it';
COMMENT ON COLUMN credits.audit_log.actor IS
	'setting credits.actor at that time; NULL if the log has it, or it was erased';
COMMENT ON COLUMN credits.audit_log.old_values IS
	'of what has changed, the values before; NULL if it is new';
COMMENT ON COLUMN credits.audit_log.new_values IS
	'of what has changed, the values after; NULL if it is gone';

SELECT pg_catalog.pg_extension_config_dump('credits.audit_log', '');
SELECT pg_catalog.pg_extension_config_dump('credits.audit_log_id_seq', '');
GRANT SELECT ON credits.audit_log, credits.audit_log_id_seq
	TO credits_admin, credits_auditor;

-- only erasing a person changes rows, by a statement of the extension
CREATE TRIGGER audit_log_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.audit_log
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.audit_log ENABLE ALWAYS TRIGGER audit_log_refuse_change;

CREATE FUNCTION credits.note_change() RETURNS trigger
AS 'MODULE_PATHNAME', 'credits_note_change' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.note_change IS
	'trigger: notes in credits.audit_log what has changed';
REVOKE ALL ON FUNCTION credits.note_change FROM PUBLIC;

CREATE TRIGGER activity_rules_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.activity_rules
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER activity_rules_audit_truncate
	AFTER TRUNCATE ON credits.activity_rules
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
-- what consumers have read changes all the time
CREATE TRIGGER consumers_audit
	AFTER INSERT OR DELETE ON credits.consumers
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER consumers_audit_truncate
	AFTER TRUNCATE ON credits.consumers
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER offers_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.offers
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER offers_audit_truncate
	AFTER TRUNCATE ON credits.offers
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER operations_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.operations
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER operations_audit_truncate
	AFTER TRUNCATE ON credits.operations
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER packages_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.packages
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER packages_audit_truncate
	AFTER TRUNCATE ON credits.packages
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER plans_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.plans
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER plans_audit_truncate
	AFTER TRUNCATE ON credits.plans
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER promotions_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.promotions
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER promotions_audit_truncate
	AFTER TRUNCATE ON credits.promotions
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER reward_programs_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.reward_programs
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER reward_programs_audit_truncate
	AFTER TRUNCATE ON credits.reward_programs
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER service_pause_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.service_pause
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER service_pause_audit_truncate
	AFTER TRUNCATE ON credits.service_pause
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER stripe_price_versions_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.stripe_price_versions
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER stripe_price_versions_audit_truncate
	AFTER TRUNCATE ON credits.stripe_price_versions
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER stripe_secrets_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.stripe_secrets
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER stripe_secrets_audit_truncate
	AFTER TRUNCATE ON credits.stripe_secrets
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER templates_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.templates
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER templates_audit_truncate
	AFTER TRUNCATE ON credits.templates
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER unit_prices_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.unit_prices
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER unit_prices_audit_truncate
	AFTER TRUNCATE ON credits.unit_prices
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER unsubscribe_secrets_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.unsubscribe_secrets
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER unsubscribe_secrets_audit_truncate
	AFTER TRUNCATE ON credits.unsubscribe_secrets
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER volume_discounts_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.volume_discounts
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER volume_discounts_audit_truncate
	AFTER TRUNCATE ON credits.volume_discounts
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();

ALTER TABLE credits.activity_rules ENABLE ALWAYS TRIGGER activity_rules_audit;
ALTER TABLE credits.activity_rules ENABLE ALWAYS TRIGGER activity_rules_audit_truncate;
ALTER TABLE credits.consumers ENABLE ALWAYS TRIGGER consumers_audit;
ALTER TABLE credits.consumers ENABLE ALWAYS TRIGGER consumers_audit_truncate;
ALTER TABLE credits.offers ENABLE ALWAYS TRIGGER offers_audit;
ALTER TABLE credits.offers ENABLE ALWAYS TRIGGER offers_audit_truncate;
ALTER TABLE credits.operations ENABLE ALWAYS TRIGGER operations_audit;
ALTER TABLE credits.operations ENABLE ALWAYS TRIGGER operations_audit_truncate;
ALTER TABLE credits.packages ENABLE ALWAYS TRIGGER packages_audit;
ALTER TABLE credits.packages ENABLE ALWAYS TRIGGER packages_audit_truncate;
ALTER TABLE credits.plans ENABLE ALWAYS TRIGGER plans_audit;
ALTER TABLE credits.plans ENABLE ALWAYS TRIGGER plans_audit_truncate;
ALTER TABLE credits.promotions ENABLE ALWAYS TRIGGER promotions_audit;
ALTER TABLE credits.promotions ENABLE ALWAYS TRIGGER promotions_audit_truncate;
ALTER TABLE credits.reward_programs ENABLE ALWAYS TRIGGER reward_programs_audit;
ALTER TABLE credits.reward_programs ENABLE ALWAYS TRIGGER reward_programs_audit_truncate;
ALTER TABLE credits.service_pause ENABLE ALWAYS TRIGGER service_pause_audit;
ALTER TABLE credits.service_pause ENABLE ALWAYS TRIGGER service_pause_audit_truncate;
ALTER TABLE credits.stripe_price_versions ENABLE ALWAYS TRIGGER stripe_price_versions_audit;
ALTER TABLE credits.stripe_price_versions ENABLE ALWAYS TRIGGER stripe_price_versions_audit_truncate;
ALTER TABLE credits.stripe_secrets ENABLE ALWAYS TRIGGER stripe_secrets_audit;
ALTER TABLE credits.stripe_secrets ENABLE ALWAYS TRIGGER stripe_secrets_audit_truncate;
ALTER TABLE credits.templates ENABLE ALWAYS TRIGGER templates_audit;
ALTER TABLE credits.templates ENABLE ALWAYS TRIGGER templates_audit_truncate;
ALTER TABLE credits.unit_prices ENABLE ALWAYS TRIGGER unit_prices_audit;
ALTER TABLE credits.unit_prices ENABLE ALWAYS TRIGGER unit_prices_audit_truncate;
ALTER TABLE credits.unsubscribe_secrets ENABLE ALWAYS TRIGGER unsubscribe_secrets_audit;
ALTER TABLE credits.unsubscribe_secrets ENABLE ALWAYS TRIGGER unsubscribe_secrets_audit_truncate;
ALTER TABLE credits.volume_discounts ENABLE ALWAYS TRIGGER volume_discounts_audit;
ALTER TABLE credits.volume_discounts ENABLE ALWAYS TRIGGER volume_discounts_audit_truncate;

CREATE FUNCTION @extschema@.credits_audit(
	since timestamptz DEFAULT NULL,
	until timestamptz DEFAULT NULL,
	role text DEFAULT NULL,
	actor text DEFAULT NULL,
	topic text DEFAULT NULL,
	name text DEFAULT NULL,
	account text DEFAULT NULL,
	changes text DEFAULT NULL,
	after_id bigint DEFAULT NULL,
	max_rows integer DEFAULT 50)
RETURNS TABLE (
	id bigint,
	at timestamptz,
	topic text,
	name text,
	account text,
	old_values jsonb,
	new_values jsonb,
	transaction_id bigint,
	amount bigint,
	reason text,
	role text,
	actor text)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 50;
COMMENT ON FUNCTION @extschema@.credits_audit IS
	'who changed what is set, from what to what, and who moved credits by hand, newest first; a row with id and time only ends a page that goes on though fewer were found; page on with after_id until there are no rows';
REVOKE ALL ON FUNCTION @extschema@.credits_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_audit TO credits_admin, credits_auditor;
