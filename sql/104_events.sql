-- alerts: durable events, and NOTIFY low_balance

CREATE SEQUENCE credits.events_id_seq;

CREATE TABLE credits.events (
	id bigint NOT NULL,
	account_id bigint,
	transaction_id bigint,
	created_at timestamptz NOT NULL,
	kind text NOT NULL,
	detail jsonb NOT NULL
);

ALTER SEQUENCE credits.events_id_seq OWNED BY credits.events.id;
ALTER TABLE credits.events ADD CONSTRAINT events_pkey PRIMARY KEY (id);
CREATE INDEX events_account_id_idx ON credits.events (account_id, id);
-- for recording once what fails again and again
CREATE INDEX events_failed_idx ON credits.events (account_id, id)
	WHERE kind IN ('renewal_failed', 'settle_failed');
-- for counting what an account is refused
CREATE INDEX events_refused_idx ON credits.events (account_id, created_at)
	WHERE kind IN ('deduction_refused', 'hold_refused', 'redemption_refused', 'redemption_throttled');
-- for the job that looks at what was refused lately
CREATE INDEX events_refused_at_idx ON credits.events (created_at, id)
	WHERE kind IN ('deduction_refused', 'hold_refused', 'redemption_refused');

COMMENT ON TABLE credits.events IS
	'events that may require action: low balances, refusals, accounts that could not be settled';
COMMENT ON COLUMN credits.events.kind IS
	'low_balance; refused: deduction_refused, hold_refused, redemption_refused, redemption_throttled; jobs: grant_expiring, subscription_renewing, renewal_failed, settle_failed, activity_suspicious; and what became of a purchase, payment, chargeback, subscription, trial or plan, such as purchase_completed: doc/alerts.md lists all';

-- Not dumped: transaction ids mean something only in the cluster that drew them.
-- System is the cluster, so that rows of another are known, which logical
-- replication or pg_upgrade has brought.
CREATE TABLE credits.event_order (
	event_id bigint NOT NULL,
	xid xid8 NOT NULL,
	system bigint NOT NULL
);
ALTER TABLE credits.event_order ADD CONSTRAINT event_order_pkey PRIMARY KEY (event_id);
CREATE INDEX event_order_xid_idx ON credits.event_order (xid, event_id);

COMMENT ON TABLE credits.event_order IS
	'which transaction wrote each event, for credits_read_events; not dumped';
COMMENT ON COLUMN credits.event_order.xid IS 'top-level transaction, with its epoch';
COMMENT ON COLUMN credits.event_order.system IS
	'system identifier of the cluster in which the transaction ran';

SELECT pg_catalog.pg_extension_config_dump('credits.events', '');
SELECT pg_catalog.pg_extension_config_dump('credits.events_id_seq', '');
GRANT SELECT ON credits.events, credits.events_id_seq, credits.event_order
	TO credits_admin, credits_auditor;
