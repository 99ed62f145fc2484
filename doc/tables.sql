-- Prints the generated part of tables.md, in a database that has the extension:
--
--	psql -XqAt -f doc/tables.sql
--	psql -XqAt -v check=1 -f doc/tables.sql		references that lead nowhere, in its rows
--
-- What refers to what is taken from the foreign keys.  What cannot be one, since it
-- is an array, a name that several versions share, or of the log, is said here, and held against the catalog: a table without a room, a column by the name of a
-- reference that is none, and a description that fits nothing are printed as well.

SET client_min_messages = warning;
SET search_path = pg_catalog;

-- One diagram each.
CREATE TEMP TABLE room (ordinal, name, tables) AS VALUES
	(1, 'Ledger', '{accounts,grants,log,roles,events,event_order,debts}'::text[]),
	(2, 'Spending', '{limits,hold_states,members,operations,service_pause}'),
	(3, 'Codes', '{codes,redemptions}'),
	(4, 'Subscriptions', '{plans,offers,subscriptions,periods,paid_parts,period_refunds,plan_changes}'),
	(5, 'Prices', '{packages,unit_prices,volume_discounts}'),
	(6, 'Promotions', '{promotions,promotion_totals,promotion_uses}'),
	(7, 'Purchases', '{purchases,reversals}'),
	(8, 'Stripe', '{stripe_subjects,stripe_events,stripe_subscriptions,stripe_invoices,stripe_other_invoices,stripe_lines,stripe_credit_notes,stripe_payments,stripe_links,stripe_items,stripe_price_versions,stripe_customers,stripe_dismissals,stripe_secrets}'),
	(9, 'Telling', '{deliveries,consumers,consumer_positions,contacts,preferences,quiet_hours,templates,unsubscribe_secrets,webhook_secrets,activity_rules,activity_position,activity_hours,activity_hits}'),
	(10, 'Disputes', '{disputes}'),
	(11, 'Rewards', '{topups,topup_requests,reward_programs,reward_totals,rewards}'),
	(12, 'Administration', '{audit_log,corrections,correction_items}'),
	(13, 'Jobs', '{warnings,schedules,job_runs,erasures}'),
	(14, 'Archives', '{archives,anchors,anchor_parts,carried_rows,archived_log,archived_grants}');

CREATE TEMP TABLE reference (source, source_column, target, target_column) AS
SELECT s.relname::text, a.attname::text, t.relname::text, b.attname::text
FROM pg_constraint AS c
JOIN pg_class AS s ON s.oid = c.conrelid
JOIN pg_class AS t ON t.oid = c.confrelid
JOIN pg_attribute AS a ON a.attrelid = s.oid AND a.attnum = c.conkey[1]
JOIN pg_attribute AS b ON b.attrelid = t.oid AND b.attnum = c.confkey[1]
WHERE c.contype = 'f' AND c.connamespace = 'credits'::regnamespace
UNION ALL VALUES
	-- the log, whose partitions no key spans
	('accounts', 'last_transaction_id', 'log', 'id'),
	('codes', 'transaction_id', 'log', 'id'),
	('events', 'transaction_id', 'log', 'id'),
	-- whose rows go before those that refer to them
	('deliveries', 'event_id', 'events', 'id'),
	('deliveries', 'contact_id', 'contacts', 'id'),
	('activity_hits', 'event_id', 'events', 'id'),
	('webhook_secrets', 'contact_id', 'contacts', 'id'),
	('event_order', 'event_id', 'events', 'id'),
	('consumer_positions', 'consumer', 'consumers', 'name'),
	('grants', 'transaction_id', 'log', 'id'),
	('hold_states', 'id', 'log', 'id'),
	('log', 'account_id', 'accounts', 'id'),
	('log', 'member_id', 'accounts', 'id'),
	('log', 'role_id', 'roles', 'id'),
	('log', 'target_id', 'log', 'id'),
	('members', 'since_id', 'log', 'id'),
	('periods', 'transaction_id', 'log', 'id'),
	('purchases', 'transaction_id', 'log', 'id'),
	('redemptions', 'transaction_id', 'log', 'id'),
	('erasures', 'transaction_id', 'log', 'id'),
	('anchors', 'account_id', 'accounts', 'id'),
	('anchor_parts', 'account_id', 'accounts', 'id'),
	('anchors', 'until_id', 'archives', 'until_id'),
	('carried_rows', 'until_id', 'archives', 'until_id'),
	('archived_grants', 'account_id', 'accounts', 'id'),
	('archived_log', 'account_id', 'accounts', 'id'),
	('archived_log', 'member_id', 'accounts', 'id'),
	('archived_log', 'role_id', 'roles', 'id'),
	-- a circle
	('grants', 'group_id', 'grants', 'id'),
	-- arrays
	('periods', 'rolled_grant_ids', 'grants', 'id'),
	('purchases', 'grant_ids', 'grants', 'id'),
	-- pairs of a grant and an amount
	('debts', 'payers', 'grants', 'id'),
	('log', 'draws', 'grants', 'id'),
	-- names, which all versions share
	('promotion_totals', 'promotion', 'promotions', 'name'),
	('promotion_uses', 'promotion', 'promotions', 'name'),
	('promotions', 'plans', 'plans', 'name'),
	('purchases', 'package', 'packages', 'name'),
	('purchases', 'promotion', 'promotions', 'name'),
	('stripe_price_versions', 'package', 'packages', 'name'),
	('topups', 'package', 'packages', 'name'),
	('reward_totals', 'program', 'reward_programs', 'name'),
	('rewards', 'program', 'reward_programs', 'name'),
	('stripe_price_versions', 'plan', 'plans', 'name'),
	-- ids of other systems, and of rows in one table or another, or of what is archived
	('anchor_parts', 'transaction_id', NULL, NULL),
	('anchors', 'opening_id', NULL, NULL),
	('anchors', 'transaction_id', NULL, NULL),
	('archived_grants', 'group_id', NULL, NULL),
	('archived_grants', 'transaction_id', NULL, NULL),
	('archived_log', 'target_id', NULL, NULL),
	('archives', 'done_account_id', NULL, NULL),
	('audit_log', 'transaction_id', NULL, NULL),
	('archives', 'from_id', NULL, NULL),
	('archives', 'until_id', NULL, NULL),
	('corrections', 'refused_id', 'accounts', 'id'),
	('correction_items', 'transaction_id', NULL, NULL),
	('correction_items', 'reverted_id', NULL, NULL),
	('disputes', 'transaction_id', NULL, NULL),
	('rewards', 'transaction_id', NULL, NULL),
	('topups', 'resumed_id', NULL, NULL),
	('disputes', 'refund_id', NULL, NULL),
	('consumer_positions', 'batch_last_id', NULL, NULL),
	('consumer_positions', 'last_id', NULL, NULL),
	('consumer_positions', 'mark_id', NULL, NULL),
	('consumer_positions', 'read_id', NULL, NULL),
	('consumers', 'safe_id', NULL, NULL),
	('activity_position', 'safe_id', NULL, NULL),
	('activity_position', 'mark_id', NULL, NULL),
	('activity_position', 'again_id', NULL, NULL),
	('activity_position', 'last_id', NULL, NULL),
	('activity_hours', 'last_id', NULL, NULL),
	('deliveries', 'message_id', NULL, NULL),
	('deliveries', 'template_id', NULL, NULL),
	('job_runs', 'failed_id', NULL, NULL),
	('stripe_events', 'object_id', NULL, NULL),
	('subscriptions', 'external_id', NULL, NULL),
	('warnings', 'reached_id', NULL, NULL);

CREATE TEMP VIEW columns AS
SELECT c.oid, COALESCE((SELECT min(p.inhrelid) FROM pg_inherits AS p WHERE p.inhparent = c.oid), c.oid) AS indexed,
	c.relname::text AS source, a.attnum, a.attname::text AS name, a.attnotnull AS required,
	replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz') AS type
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;

CREATE TEMP VIEW refers AS
SELECT c.*, r.target, r.target_column, c.type LIKE '%[]' OR c.name = 'draws' AS many,
	CASE WHEN c.name = 'draws' THEN 'credits.draws_of(draws)'
		 WHEN r.source = 'debts' AND c.type = 'bigint[]' THEN c.name END AS pairs,
	EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.indexed AND i.indisunique AND i.indpred IS NULL
			AND i.indnkeyatts = 1 AND i.indkey[0] = c.attnum) AS single
FROM columns AS c JOIN reference AS r ON r.source_column = c.name AND r.source = c.source;

\if :{?check}

SELECT format($$SELECT %L, v.value FROM (SELECT %s AS value FROM credits.%I%s) AS v
	WHERE v.value IS NOT NULL AND NOT EXISTS (SELECT FROM credits.%I AS t WHERE t.%I = v.value)$$,
	source || '.' || name,
	CASE WHEN pairs IS NOT NULL THEN format('(%s)[i][1]', pairs) WHEN many THEN format('unnest(%I)', name) ELSE quote_ident(name) END,
	source,
	CASE WHEN pairs IS NOT NULL THEN format(', generate_subscripts(%s, 1) AS i', pairs) ELSE '' END,
	target, target_column)
FROM refers WHERE target IS NOT NULL
\gexec

\else

SELECT format('Nowhere to be found: %s.%s', r.source, r.source_column) FROM reference AS r
WHERE NOT EXISTS (SELECT FROM refers WHERE name = r.source_column AND source = r.source)
	OR r.target IS NOT NULL AND NOT EXISTS (SELECT FROM columns WHERE source = r.target AND name = r.target_column);
SELECT format('Not described: %s.%s', source, name) FROM columns
WHERE name ~ '_ids?$' AND (source, name) NOT IN (SELECT source, name FROM refers);
SELECT format('Without a room: %s', source) FROM columns WHERE attnum = 1
	AND source NOT IN (SELECT unnest(tables) FROM room);

CREATE TEMP VIEW diagram AS
SELECT room.ordinal,
	concat_ws(E'\n', E'```mermaid\nerDiagram',
		(SELECT string_agg(format('    %s {%s    }', t.name, (
				SELECT E'\n' || string_agg(format(E'        %s %s%s\n', c.type, c.name,
					concat(' ' || nullif(concat_ws(', ', CASE WHEN c.attnum = ANY (i.indkey::int2[]) THEN 'PK' END,
												  CASE WHEN r.target IS NOT NULL THEN 'FK' END), ''))), '' ORDER BY c.attnum)
				FROM columns AS c
				LEFT JOIN pg_index AS i ON i.indrelid = c.indexed AND i.indisprimary
				LEFT JOIN refers AS r USING (source, name)
				WHERE c.source = t.name AND (r.target IS NOT NULL OR c.attnum = ANY (i.indkey::int2[]))
			)), E'\n' ORDER BY t.ordinal)
		 FROM unnest(room.tables) WITH ORDINALITY AS t (name, ordinal)),
		string_agg(line, E'\n' ORDER BY target, source, line),
		E'```\n\n') AS content
FROM room CROSS JOIN LATERAL (
	SELECT r.source, r.target, format('    %s %s--%s %s : "%s"', r.target,
		CASE WHEN r.many OR r.target_column = 'name' THEN '}o' WHEN r.required THEN '||' ELSE '|o' END,
		CASE WHEN r.single THEN 'o|' ELSE 'o{' END, r.source,
		string_agg(r.name, ', ' ORDER BY r.attnum)) AS line
	FROM refers AS r WHERE r.source = ANY (room.tables) AND r.target IS NOT NULL
	GROUP BY r.source, r.target, r.many, r.target_column, r.required, r.single) AS lines
GROUP BY room.ordinal, room.tables;

SELECT concat(format(E'## %s\n\n', room.name), diagram.content, E'| table | |\n|---|---|\n',
	(SELECT string_agg(format(E'| `credits.%s` | %s |\n', t.name, obj_description(('credits.' || t.name)::regclass, 'pg_class')),
					   '' ORDER BY t.ordinal)
	 FROM unnest(room.tables) WITH ORDINALITY AS t (name, ordinal)))
FROM room LEFT JOIN diagram USING (ordinal) ORDER BY room.ordinal;

\endif
