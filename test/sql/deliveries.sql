-- deliveries: made from events once, taken with leases, ended, tried again, given up
-- in a database of its own: its clock and its events are its own
\set shared :DBNAME
CREATE DATABASE regress_deliveries TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_deliveries
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
SET credits.test_clock = '2040-01-01 12:00:00+00';
SET credits.alert_levels = '10';
SET ROLE regress_credits_admin;
SELECT count(credits_open_account('dl:' || n, 100)) FROM generate_series(1, 5) AS n;
-- what happened before there was a contact is told to nobody
SELECT balance FROM credits_deduct('dl:1', 95);
RESET ROLE;
SET credits.test_clock = '2040-01-02 13:00:00+00';
SET ROLE regress_credits_admin;
SELECT count(credits_set_contact('dl:' || n, 'email', 'dl' || n || '@example.org', verified => true, locale => 'de')) FROM generate_series(1, 3) AS n;
SELECT credits_set_contact('dl:1', 'webhook', 'https://example.org/1', verified => true) IS NOT NULL AS one,
	credits_set_contact('dl:1', 'webhook', 'https://example.org/2', verified => true) IS NOT NULL AS two;
SELECT count(credits_rotate_webhook_secret('dl:1', 'https://example.org/' || n)) FROM generate_series(1, 2) AS n;
SELECT credits_set_preference('dl:1', 'low_balance', 'webhook', true);
SELECT count(*) FROM credits_take_deliveries('email');
SELECT consumer, unread FROM credits.consumer_list;

-- one for each contact that wants it
SELECT balance FROM credits_deduct('dl:1', 5);
SELECT balance FROM credits_deduct('dl:2', 95);
SELECT balance FROM credits_deduct('dl:4', 95);
SELECT delivery_id, lease_id > 0 AS leased, message_id ~ '^msg_[0-9a-f]{32}$' AS message, attempt, account, address, locale, event_id, kind, created_at, detail->>'level' AS level
FROM credits_take_deliveries('email', 10, '1 minute') ORDER BY delivery_id;
-- they are taken
SELECT count(*) FROM credits_take_deliveries('email');
SELECT account, address, attempt FROM credits_take_deliveries('webhook') ORDER BY address;
SELECT account, channel, status, attempts, leased, due_at, ended_at FROM credits.delivery_list ORDER BY delivery_id;

-- ended with the lease, and only with it
SELECT d.account, d.channel, credits_delivery_sent(d.delivery_id, 1) AS wrong, credits_delivery_failed(d.delivery_id, 1, 'x') AS wrong
FROM credits.delivery_list AS d ORDER BY d.delivery_id;
SELECT id AS mail, lease FROM credits.deliveries WHERE channel = 'email' AND account_id = credits.account_id('dl:1') \gset
SELECT credits_delivery_sent(:mail, :lease), credits_delivery_sent(:mail, :lease) AS again, credits_delivery_failed(:mail, :lease, 'x') AS too_late;

-- a worker that dies: the lease ends, and the next one takes it with the same message id
RESET ROLE;
SET credits.test_clock = '2040-01-02 13:02:00+00';
SET ROLE regress_credits_admin;
SELECT id AS mail, lease, message_id FROM credits.deliveries WHERE channel = 'email' AND account_id = credits.account_id('dl:2') \gset
SELECT account, attempt, message_id = :'message_id' AS same_id, lease_id <> :lease AS other_lease, lease_id AS lease2 FROM credits_take_deliveries('email') \gset
SELECT :'account' AS account, :attempt AS attempt, :'same_id' AS same_id, :'other_lease' AS other_lease;
SELECT credits_delivery_sent(:mail, :lease) AS too_late;

-- one that fails is due again later and later, and is given up at last
SELECT credits_delivery_failed(:mail, :lease2, 'connection refused');
SELECT status, attempts, leased, due_at - credits.now() BETWEEN '20 seconds' AND '2 minutes' AS soon, error FROM credits.delivery_list WHERE delivery_id = :mail;
SELECT count(*) FROM credits_take_deliveries('email');
RESET ROLE;
SET credits.delivery_attempts = 4;
CREATE FUNCTION pg_temp.fail_again(mail bigint, OUT attempt integer, OUT status text, OUT waits boolean) LANGUAGE plpgsql AS $$
DECLARE
	due timestamptz := (SELECT d.due_at FROM credits.deliveries AS d WHERE d.id = mail);
	d record;
BEGIN
	PERFORM set_config('credits.test_clock', due::text, false);
	SELECT * INTO d FROM public.credits_take_deliveries('email') AS t WHERE t.delivery_id = mail;
	PERFORM public.credits_delivery_failed(mail, d.lease_id, 'still refused');
	SELECT d.attempt, l.status, l.due_at - due > '3 minutes' INTO attempt, status, waits
	FROM credits.delivery_list AS l WHERE l.delivery_id = mail;
END
$$;
SELECT * FROM pg_temp.fail_again(:mail);
SELECT * FROM pg_temp.fail_again(:mail);
SELECT status, attempts, ended_at IS NOT NULL AS ended, error FROM credits.delivery_list WHERE delivery_id = :mail;
-- by hand, once more
SELECT credits_replay_delivery(:mail), credits_replay_delivery(:mail) AS again;
SELECT attempt, message_id = :'message_id' AS same_id, credits_delivery_failed(delivery_id, lease_id, 'no such mailbox', permanent => true) AS failed
FROM credits_take_deliveries('email');
SELECT status, attempts, error FROM credits.delivery_list WHERE delivery_id = :mail;
RESET credits.delivery_attempts;

-- a balance that swings around a level is told once a day
SET credits.test_clock = '2040-02-01 12:00:00+00';
SELECT count(credits_allocate('dl:3', 20)), count(credits_deduct('dl:3', 115)) FROM generate_series(1, 1);
SELECT balance FROM credits_allocate('dl:3', 20);
SELECT balance FROM credits_deduct('dl:3', 20);
SELECT kind, detail->>'level' AS level, credits_delivery_sent(delivery_id, lease_id) FROM credits_take_deliveries('email');
SET credits.test_clock = '2040-02-02 11:00:00+00';
SELECT balance FROM credits_allocate('dl:3', 20);
SELECT balance FROM credits_deduct('dl:3', 20);
-- another level
SELECT balance FROM credits_deduct('dl:3', 5);
SELECT kind, detail->>'level' AS level, credits_delivery_sent(delivery_id, lease_id) FROM credits_take_deliveries('email');
SET credits.test_clock = '2040-02-02 13:00:00+00';
SELECT balance FROM credits_allocate('dl:3', 20);
SELECT balance FROM credits_deduct('dl:3', 15);
SELECT kind, detail->>'level' AS level, credits_delivery_sent(delivery_id, lease_id) FROM credits_take_deliveries('email');

-- quiet hours, also if they were set later, and what nobody wants any more
SELECT credits_set_quiet_hours('dl:3', '22:00', '07:00', 'UTC');
SET credits.test_clock = '2040-02-10 23:00:00+00';
SELECT balance FROM credits_allocate('dl:3', 20);
SELECT balance FROM credits_deduct('dl:3', 20);
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, due_at FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SET credits.test_clock = '2040-02-11 07:00:00+00';
SELECT credits_set_quiet_hours('dl:3', '06:00', '08:00', 'UTC');
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, attempts, due_at FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SET credits.test_clock = '2040-02-11 08:00:00+00';
SELECT credits_set_preference('dl:3', 'low_balance', 'email', false);
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, attempts, ended_at FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;

-- taking that is rolled back has taken nothing, and made nothing
BEGIN;
SELECT balance FROM credits_deduct('dl:5', 95);
SELECT credits_set_contact('dl:5', 'email', 'dl5@example.org', verified => true) IS NOT NULL AS set;
COMMIT;
BEGIN;
SELECT account FROM credits_take_deliveries('email');
ROLLBACK;
SELECT account FROM credits_take_deliveries('email');
-- an event that is read again makes no other delivery
DELETE FROM credits.consumers;
SELECT count(*) FROM credits_take_deliveries('email');

-- what is waiting keeps its event, what has ended goes with it
SET credits.delivery_max_age = 0;
SET credits.test_clock = '2040-12-01 00:00:00+00';
SELECT count(*) FROM credits.deliveries WHERE status = 'waiting';
-- those after an event that is kept, too
CALL credits_housekeep(1);
SELECT (SELECT count(*) FROM credits.events) AS events, (SELECT string_agg(status, ' ' ORDER BY id) FROM credits.deliveries) AS deliveries;
SELECT count(credits_delivery_failed(delivery_id, lease_id, 'gone', true)) FROM credits_take_deliveries('email');
SELECT count(credits_delivery_sent(delivery_id, lease_id)) FROM credits_take_deliveries('webhook');
CALL credits_housekeep();
SELECT (SELECT count(*) FROM credits.events) AS events, (SELECT count(*) FROM credits.deliveries) AS deliveries;
RESET credits.delivery_max_age;

-- a worker that dies at each attempt: given up like one that fails
SET credits.delivery_attempts = 2;
SET credits.test_clock = '2041-01-01 12:00:00+00';
SELECT count(credits_open_account('dl:' || n, 100)), count(credits_set_contact('dl:' || n, 'email', 'dl' || n || '@example.org', verified => true)) FROM generate_series(6, 9) AS n;
SELECT balance FROM credits_deduct('dl:6', 95);
SELECT attempt FROM credits_take_deliveries('email');
SET credits.test_clock = '2041-01-01 12:01:00+00';
SELECT attempt FROM credits_take_deliveries('email');
SELECT status, attempts, leased, error FROM credits.delivery_list;
SET credits.test_clock = '2041-01-01 12:02:00+00';
SELECT attempt FROM credits_take_deliveries('email');
SELECT delivery_id AS mail, status, attempts, leased, ended_at, error FROM credits.delivery_list \gx
SELECT delivery_id AS mail FROM credits.delivery_list \gset
-- the cooldown does not count what was given up, nor what was canceled
SELECT balance FROM credits_allocate('dl:6', 20);
SELECT balance FROM credits_deduct('dl:6', 20);
SELECT account, credits_delivery_failed(delivery_id, lease_id, '', true) AS failed FROM credits_take_deliveries('email');
SELECT status, error = '' AS no_error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT balance FROM credits_allocate('dl:6', 20);
SELECT balance FROM credits_deduct('dl:6', 20);
SELECT count(*) FROM credits_take_deliveries('sms');
SELECT credits_set_preference('dl:6', 'low_balance', 'email', false);
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT credits_set_preference('dl:6', 'low_balance', 'email', true);
SELECT balance FROM credits_allocate('dl:6', 20);
SELECT balance FROM credits_deduct('dl:6', 20);
-- an error is cut off, between characters
SELECT account, credits_delivery_failed(delivery_id, lease_id, repeat('x', 999) || repeat('ä', 1000)) AS failed FROM credits_take_deliveries('email');
SELECT status, octet_length(error) FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SET credits.test_clock = '2041-01-01 12:05:00+00';
-- said twice, it is written once
SELECT account, credits_delivery_sent(delivery_id, lease_id) AS sent FROM credits_take_deliveries('email');
SELECT id AS last, lease AS last_lease, ctid AS place FROM credits.deliveries ORDER BY id DESC LIMIT 1 \gset
SELECT credits_delivery_sent(:last, :last_lease);
SELECT ctid = :'place' AS same FROM credits.deliveries WHERE id = :last;
-- what is sent counts for the cooldown
SELECT balance FROM credits_allocate('dl:6', 20);
SELECT balance FROM credits_deduct('dl:6', 20);
SELECT count(*) FROM credits_take_deliveries('email');
RESET credits.delivery_attempts;

-- a contact that has to be verified again is waited for, one that is removed is not
SELECT balance FROM credits_deduct('dl:7', 95);
SELECT count(*) FROM credits_take_deliveries('sms');
SELECT credits_set_contact('dl:7', 'email', 'new@example.org') IS NOT NULL AS set;
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, attempts, leased, due_at - credits.now() BETWEEN '20 seconds' AND '40 seconds' AS soon, error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SET credits.test_clock = '2041-01-01 12:15:00+00';
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, due_at FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SET credits.test_clock = '2041-01-03 12:00:00+00';
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, due_at FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SET credits.test_clock = '2041-01-03 13:00:00+00';
SELECT credits_set_contact('dl:7', 'email', verified => true) IS NOT NULL AS set;
SELECT account, address, attempt FROM credits_take_deliveries('email');
SELECT credits_remove_contact('dl:7', 'email');
SET credits.test_clock = '2041-01-03 13:01:00+00';
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, attempts, error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;

-- what has waited too long is not sent any more, unless it is replayed
SET credits.test_clock = '2041-02-01 12:00:00+00';
SELECT balance FROM credits_deduct('dl:8', 95);
SELECT account, credits_delivery_failed(delivery_id, lease_id, 'busy') AS failed FROM credits_take_deliveries('email');
SET credits.test_clock = '2041-02-08 12:00:00+00';
SELECT account, attempt, credits_delivery_failed(delivery_id, lease_id, 'busy') AS failed FROM credits_take_deliveries('email');
SET credits.test_clock = '2041-02-08 12:10:00+00';
SELECT count(*) FROM credits_take_deliveries('email');
SELECT delivery_id AS stale, status, attempts, ended_at, error FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1 \gset stale_
SELECT :'stale_status' AS status, :'stale_attempts' AS attempts, :'stale_ended_at' AS ended_at, :'stale_error' AS error;
-- it told nobody, so that the next one does
SELECT balance FROM credits_allocate('dl:8', 20);
SELECT balance FROM credits_deduct('dl:8', 20);
SELECT account, credits_delivery_sent(delivery_id, lease_id) AS sent FROM credits_take_deliveries('email');
SELECT credits_replay_delivery(:stale_stale);
SELECT account, attempt, credits_delivery_failed(delivery_id, lease_id, 'busy') AS failed FROM credits_take_deliveries('email');
SET credits.test_clock = '2041-02-16 12:00:00+00';
SET credits.delivery_max_age = '30 days';
SELECT account, attempt, credits_delivery_failed(delivery_id, lease_id, '', true) AS failed FROM credits_take_deliveries('email');
RESET credits.delivery_max_age;

-- the message, with the same version of the template at each attempt
SET credits.test_clock = '2041-03-01 12:00:00+00';
SELECT credits_set_contact('dl:9', 'email', locale => 'de') IS NOT NULL AS set;
SELECT credits_set_template('low_balance', locale => 'de', subject => 'Nur {{balance}} <Credits>', body => '{{account}}, {{event_id}}, {{created_at}}, {{unsubscribe_token}}', html => '<b>{{account}}</b> {{unsubscribe_token}}') AS version \gset
UPDATE credits.unsubscribe_secrets SET secret = '\x00';
SELECT balance FROM credits_deduct('dl:9', 95);
SELECT account, locale, template_id = :version AS set, subject, body LIKE 'dl:9, ' || event_id || ', 2041-03-01T12:00:00+00:00, ' || unsubscribe_token AS right_body, html = '<b>dl:9</b> ' || unsubscribe_token AS right_html,
	unsubscribe_token = credits_unsubscribe_token(account, kind) AS right_token, credits_delivery_failed(delivery_id, lease_id, 'busy') AS failed
FROM credits_take_deliveries('email');
SELECT template_id = :version AS set FROM credits.delivery_list ORDER BY delivery_id DESC LIMIT 1;
SELECT credits_set_template('low_balance', locale => 'de', subject => 'other') > :version AS newer;
SELECT credits_set_contact('dl:9', 'email', locale => 'fr') IS NOT NULL AS set;
SET credits.test_clock = '2041-03-01 12:01:00+00';
SELECT attempt, locale, template_id = :version AS same, subject, credits_delivery_sent(delivery_id, lease_id) AS sent FROM credits_take_deliveries('email');
-- the default of the kind stays, too, and other channels have other parts
SET credits.test_clock = '2041-03-03 12:00:00+00';
SELECT credits_set_contact('dl:9', 'sms', '+4930123456', verified => true) IS NOT NULL AND credits_set_contact('dl:9', 'push', 'token') IS NOT NULL AND credits_set_contact('dl:9', 'inbox') IS NOT NULL AS set;
SELECT count(credits_set_preference('dl:9', 'low_balance', channel, true)) FROM unnest(ARRAY['sms', 'push', 'inbox']) AS channel;
SELECT balance FROM credits_allocate('dl:9', 20);
SELECT balance FROM credits_deduct('dl:9', 20);
SELECT account, template_id, subject, body, html, credits_delivery_failed(delivery_id, lease_id, 'busy') AS failed FROM credits_take_deliveries('email');
SELECT credits_set_template('low_balance', subject => 'new', body => 'new') > :version AS newer;
SET credits.test_clock = '2041-03-03 12:01:00+00';
SELECT account, template_id, subject, body, html, credits_delivery_sent(delivery_id, lease_id) AS sent FROM credits_take_deliveries('email');
SELECT channel, template_id > :version AS newest, subject, t.body, html, credits_delivery_sent(delivery_id, lease_id) AS sent
FROM unnest(ARRAY['sms', 'push', 'inbox']) AS channel CROSS JOIN LATERAL credits_take_deliveries(channel) AS t;
-- a message that cannot be made fails like one that cannot be sent, and the others go on
SET credits.delivery_attempts = 2;
SET credits.test_clock = '2041-03-05 12:00:00+00';
SELECT credits_remove_contact('dl:9', 'push');
SELECT credits_set_contact('dl:10', 'email', 'dl10@example.org', verified => true) IS NOT NULL AS set FROM credits_open_account('dl:10', 100);
SELECT balance FROM credits_deduct('dl:10', 95);
SELECT balance FROM credits_allocate('dl:9', 20);
SELECT balance FROM credits_deduct('dl:9', 20);
SELECT count(*) FROM credits_take_deliveries('webhook');
UPDATE credits.deliveries SET template_id = 999 WHERE status = 'waiting' AND channel = 'email' AND account_id = credits.account_id('dl:10');
SELECT account, subject, credits_delivery_sent(delivery_id, lease_id) AS sent FROM credits_take_deliveries('email');
SELECT status, attempts, leased, due_at > credits.now() AS later, error FROM credits.delivery_list WHERE account = 'dl:10';
SET credits.test_clock = '2041-03-05 12:01:00+00';
SELECT count(*) FROM credits_take_deliveries('email');
SELECT status, attempts, error FROM credits.delivery_list WHERE account = 'dl:10';
RESET credits.delivery_attempts;

-- what is large is not put in, however often a template asks for it
SET credits.test_clock = '2041-03-10 12:00:00+00';
SELECT credits_set_template('low_balance', subject => '{{threshold}}', body => repeat('{{account}}', 250) || repeat('{{base}}', 250)) IS NOT NULL AS set;
SELECT balance FROM credits_allocate('dl:10', 20);
SELECT balance FROM credits_deduct('dl:10', 20);
UPDATE credits.events SET detail = detail || jsonb_build_object('account', (SELECT jsonb_agg(n) FROM generate_series(1, 20000) AS n), 'base', (SELECT jsonb_agg(n) FROM generate_series(1, 2000) AS n), 'threshold', repeat('ä', 1000000))
WHERE id = (SELECT max(e.id) FROM credits.events AS e WHERE kind = 'low_balance');
SELECT account, length(subject), body = repeat('...', 250) || repeat(left((detail->'base')::text, 4096) || '...', 250) AS cut, credits_delivery_sent(delivery_id, lease_id) AS sent
FROM credits_take_deliveries('email');

-- an idle worker writes nothing, and needs no transaction id
BEGIN;
SELECT count(*) FROM credits_take_deliveries('email');
SELECT count(*) FROM credits_take_deliveries('email');
SELECT pg_current_xact_id_if_assigned() IS NULL AS none;
COMMIT;

-- one call changes a bounded number of rows
INSERT INTO credits.deliveries
SELECT nextval('credits.deliveries_id_seq'), -n, 1, 1, NULL, credits.now(), credits.now(), credits.now(), NULL, NULL, 0, 'push', 'waiting', 'low_balance', 'msg_' || n, NULL, NULL
FROM generate_series(1, 2500) AS n;
SELECT count(*) FROM credits_take_deliveries('push', 1);
SELECT status, error, count(*) FROM credits.delivery_list WHERE channel = 'push' GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) FROM credits_take_deliveries('push', 120);
SELECT status, count(*) FROM credits.delivery_list WHERE channel = 'push' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM credits_take_deliveries('push');
SELECT status, count(*) FROM credits.delivery_list WHERE channel = 'push' GROUP BY 1 ORDER BY 1;

-- a delivery agrees with its event
DELETE FROM credits.deliveries WHERE channel = 'push';
SELECT * FROM credits_verify();
BEGIN;
UPDATE credits.deliveries SET message_id = 'msg_0' WHERE id = :mail;
SELECT account, problem, detail FROM credits_verify();
UPDATE credits.deliveries SET kind = 'grant_expiring' WHERE id = :mail;
SELECT account, problem, detail FROM credits_verify();
UPDATE credits.deliveries SET account_id = 5 WHERE id = :mail;
SELECT account, problem, detail FROM credits_verify();
UPDATE credits.deliveries SET event_id = 999 WHERE id = :mail;
SELECT account, problem, detail FROM credits_verify();
UPDATE credits.deliveries SET status = 'waiting', ended_at = NULL WHERE id = :mail;
SELECT account, problem, detail FROM credits_verify();
ROLLBACK;

-- what has lost its event is not replayed
DELETE FROM credits.events WHERE id = (SELECT event_id FROM credits.deliveries WHERE id = :mail);
SELECT credits_replay_delivery(:mail);
\echo :SQLSTATE
SELECT status FROM credits.delivery_list WHERE delivery_id = :mail;

-- the consumer is nobody else's
SELECT credits_add_consumer('deliveries');
\echo :SQLSTATE
SELECT credits_remove_consumer('deliveries');
SELECT credits_ack_events('deliveries', 'x');
SELECT count(*) FROM credits_read_events('deliveries');

-- bad input
SELECT credits_take_deliveries(NULL);
SELECT credits_take_deliveries('pigeon');
SELECT credits_take_deliveries('email', NULL);
SELECT credits_take_deliveries('email', 0);
SELECT credits_take_deliveries('email', 1001);
SELECT credits_take_deliveries('email', 1, NULL);
SELECT credits_take_deliveries('email', 1, '0');
SELECT credits_take_deliveries('email', 1, '25 hours');
SELECT credits_take_deliveries('email', 1, '-1 second');
SELECT credits_delivery_sent(NULL, 1);
SELECT credits_delivery_sent(1, NULL);
SELECT credits_delivery_sent(9999, 1);
SELECT credits_delivery_failed(9999, 1, NULL);
SELECT credits_delivery_failed(9999, 1, repeat('x', 10000000));
SELECT credits_delivery_failed(9999, 1, 'x', NULL);
SELECT credits_delivery_failed(9999, 1, 'x');
SELECT credits_replay_delivery(NULL);
SELECT credits_replay_delivery(9999);
\c :shared
DROP DATABASE regress_deliveries;
