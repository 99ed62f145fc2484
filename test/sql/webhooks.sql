-- webhooks: signed with the secrets of their endpoint, which may be replaced, and
-- ended when the endpoint is gone
-- in a database of its own: its clock and its events are its own
\set shared :DBNAME
CREATE DATABASE regress_webhooks TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_webhooks
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
SET credits.test_clock = '2040-01-01 12:00:00+00';
SET credits.alert_levels = '10';
SET credits.default_channels = 'low_balance:webhook';
SET ROLE regress_credits_admin;
SELECT count(credits_open_account('wh:' || n, 100)) FROM generate_series(1, 5) AS n;
SELECT credits_set_contact('wh:1', 'webhook', 'https://example.org/1') AS one, credits_set_contact('wh:1', 'webhook', 'https://example.org/2') AS two;
SELECT address, reachable, disabled_at, secrets FROM credits_contacts('wh:1') ORDER BY address;

-- nothing is sent without a secret
SELECT balance FROM credits_deduct('wh:1', 95);
SELECT count(*) FROM credits_take_deliveries('webhook');
SELECT status, attempts, due_at > credits.now() AS later, error FROM credits.delivery_list;
SELECT credits_rotate_webhook_secret('wh:1', 'https://example.org/1') AS old \gset
SELECT :'old' ~ '^whsec_[A-Za-z0-9+/]{43}=$' AS secret;
SELECT address, reachable, disabled_at, secrets FROM credits_contacts('wh:1') ORDER BY address;
RESET ROLE;
SET credits.test_clock = '2040-01-01 12:01:00+00';

-- what is signed, by the specification
CREATE FUNCTION pg_temp.signature(secret text, headers jsonb, body text) RETURNS text LANGUAGE sql AS $$
	WITH RECURSIVE k (key) AS (SELECT decode(substr(secret, 7), 'base64')),
	p (inner_pad, outer_pad) AS (
		SELECT string_agg(decode(lpad(to_hex((CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END) # 54), 2, '0'), 'hex'), ''::bytea ORDER BY i),
			   string_agg(decode(lpad(to_hex((CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END) # 92), 2, '0'), 'hex'), ''::bytea ORDER BY i)
		FROM k, generate_series(0, 63) AS i)
	SELECT 'v1,' || encode(sha256(outer_pad || sha256(inner_pad || convert_to(concat_ws('.', headers->>'webhook-id', headers->>'webhook-timestamp', body), 'UTF8'))), 'base64') FROM p
$$;
SELECT address, attempt, template_id, subject, html, unsubscribe_token, body::jsonb, headers - '{webhook-signature,webhook-id}'::text[] AS headers,
	headers->>'webhook-id' = message_id AS same_id, headers->>'webhook-signature' = pg_temp.signature(:'old', headers, body) AS right_signature,
	credits_delivery_failed(delivery_id, lease_id, 'busy', status => 503) AS failed
FROM credits_take_deliveries('webhook');

-- while the secret is replaced, both sign
SELECT credits_rotate_webhook_secret('wh:1', 'https://example.org/1', keep => '1 hour') AS new \gset
SELECT :'new' <> :'old' AS other;
SELECT secrets FROM credits_contacts('wh:1') WHERE address = 'https://example.org/1';
SET credits.test_clock = '2040-01-01 12:02:00+00';
SELECT attempt, headers->>'webhook-timestamp' AS timestamp,
	(SELECT array_agg(s ORDER BY s COLLATE "C") FROM regexp_split_to_table(headers->>'webhook-signature', ' ') AS s)
	= (SELECT array_agg(s ORDER BY s COLLATE "C") FROM unnest(ARRAY[pg_temp.signature(:'old', headers, body), pg_temp.signature(:'new', headers, body)]) AS s) AS both,
	credits_delivery_failed(delivery_id, lease_id, 'busy', status => 503) AS failed
FROM credits_take_deliveries('webhook');
-- and after that, the new one
SET credits.test_clock = '2040-01-01 13:01:00+00';
SELECT secrets FROM credits_contacts('wh:1') WHERE address = 'https://example.org/1';
SELECT attempt, headers->>'webhook-signature' = pg_temp.signature(:'new', headers, body) AS new,
	credits_delivery_failed(delivery_id, lease_id, 'busy') AS failed
FROM credits_take_deliveries('webhook');
-- never more than two; the former one is revoked, or not kept
SELECT credits_rotate_webhook_secret('wh:1', 'https://example.org/1') <> credits_rotate_webhook_secret('wh:1', 'https://example.org/1') AS differ;
SELECT secrets, (SELECT count(*) FROM credits.webhook_secrets) AS rows FROM credits_contacts('wh:1') WHERE address = 'https://example.org/1';
SELECT credits_revoke_webhook_secret('wh:1', 'https://example.org/1'), credits_revoke_webhook_secret('wh:1', 'https://example.org/1') AS again;
SELECT secrets FROM credits_contacts('wh:1') WHERE address = 'https://example.org/1';
SELECT credits_rotate_webhook_secret('wh:1', 'https://example.org/1', keep => '0') IS NOT NULL AS made;
SELECT secrets, (SELECT count(*) FROM credits.webhook_secrets) AS rows FROM credits_contacts('wh:1') WHERE address = 'https://example.org/1';

-- ten tries within three days and some hours
SELECT count(credits_set_contact('wh:2', 'webhook', 'https://example.org/3')), count(credits_rotate_webhook_secret('wh:2', 'https://example.org/3'));
SET credits.test_clock = '2040-02-01 12:00:00+00';
SELECT balance FROM credits_deduct('wh:2', 95);
SELECT count(*) FROM credits_take_deliveries('sms');
CREATE FUNCTION pg_temp.try(n integer, OUT attempt integer, OUT status text, OUT about interval) LANGUAGE plpgsql AS $$
DECLARE
	d record;
	w credits.deliveries;
BEGIN
	SELECT * INTO w FROM credits.deliveries ORDER BY id DESC LIMIT 1;
	PERFORM set_config('credits.test_clock', w.due_at::text, false);
	SELECT * INTO d FROM public.credits_take_deliveries('webhook') AS t WHERE t.delivery_id = w.id;
	PERFORM public.credits_delivery_failed(w.id, d.lease_id, 'HTTP 500', status => 500);
	SELECT d.attempt, l.status, CASE WHEN l.status = 'waiting' THEN l.due_at - w.due_at END INTO attempt, status, about
	FROM credits.deliveries AS l WHERE l.id = w.id;
END
$$;
SELECT t.attempt, t.status, abs(extract(epoch FROM t.about) / seconds - 1) <= 0.25 AS on_time
FROM (VALUES (1, 5), (2, 300), (3, 1800), (4, 7200), (5, 18000), (6, 36000), (7, 50400), (8, 72000), (9, 86400), (10, NULL)) AS v (n, seconds)
CROSS JOIN LATERAL (SELECT * FROM pg_temp.try(n)) AS t ORDER BY n;

-- 410: the endpoint is disabled, which is an event; set again, it is back
SET credits.test_clock = '2040-03-01 12:00:00+00';
SELECT balance FROM credits_allocate('wh:2', 20);
SELECT balance FROM credits_deduct('wh:2', 20);
SELECT credits_delivery_failed(delivery_id, lease_id, 'HTTP 410', status => 410) FROM credits_take_deliveries('webhook');
SELECT status, attempts, error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT reachable, disabled_at, secrets FROM credits_contacts('wh:2');
SELECT kind, detail - '{contact_id,delivery_id}'::text[] AS detail FROM credits.events ORDER BY id DESC LIMIT 1;
SET credits.test_clock = '2040-03-03 12:00:00+00';
SELECT balance FROM credits_allocate('wh:2', 20);
SELECT balance FROM credits_deduct('wh:2', 20);
SELECT count(*) FROM credits_take_deliveries('webhook');
SELECT credits_replay_delivery(delivery_id) FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT count(*) FROM credits_take_deliveries('webhook');
SELECT status, error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT credits_set_contact('wh:2', 'webhook', 'https://example.org/3') IS NOT NULL AS set;
SELECT reachable, disabled_at, secrets FROM credits_contacts('wh:2');
SELECT credits_replay_delivery(delivery_id) FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT account, credits_delivery_sent(delivery_id, lease_id) AS sent FROM credits_take_deliveries('webhook') WHERE account = 'wh:2';

-- the secrets of an endpoint go with it
SELECT count(*) FROM credits.webhook_secrets AS s WHERE NOT EXISTS (SELECT FROM credits.contacts AS c WHERE c.id = s.contact_id);
SELECT credits_remove_contact('wh:1', 'webhook'), credits_remove_contact('wh:2', 'webhook', 'https://example.org/3');
SELECT count(*) FROM credits.webhook_secrets;

-- bad input, and who may do what
\set VERBOSITY sqlstate
SELECT credits_set_contact('wh:3', 'webhook', 'https://example.org/4') IS NOT NULL AS set;
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/other');
SELECT credits_rotate_webhook_secret('wh:9', 'https://example.org/4');
SELECT credits_rotate_webhook_secret(NULL, 'https://example.org/4');
SELECT credits_rotate_webhook_secret('wh:3', NULL);
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/4', NULL);
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/4', '-1 second');
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/4', '31 days');
SELECT credits_revoke_webhook_secret('wh:3', 'https://example.org/other');
SELECT credits_revoke_webhook_secret('wh:3', NULL);
SELECT credits_delivery_failed(1, 1, '', status => 99);
SELECT credits_delivery_failed(1, 1, '', status => 600);
SELECT count(*) FROM credits.webhook_secrets;
BEGIN READ ONLY;
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/4');
ROLLBACK;
SET ROLE regress_credits_app;
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/4') IS NOT NULL AS made, credits_revoke_webhook_secret('wh:3', 'https://example.org/4') AS none;
SELECT * FROM credits.webhook_secrets;
SET ROLE regress_credits_admin;
SELECT * FROM credits.webhook_secrets;
SET ROLE regress_credits_auditor;
SELECT * FROM credits.webhook_secrets;
SELECT credits_rotate_webhook_secret('wh:3', 'https://example.org/4');
\c :shared
DROP DATABASE regress_webhooks;
