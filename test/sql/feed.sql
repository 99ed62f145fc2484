-- feed: consumers, pages, tokens, what is kept for them
-- in a database of its own: snapshots and ids of events are its own
\set shared :DBNAME
CREATE DATABASE regress_feed TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_feed
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
SET credits.test_clock = '2040-01-01 00:00:00+00';
SET credits.alert_levels = '10';
-- each refusal is an event
SET credits.refusal_window = '0';
GRANT CREATE ON SCHEMA public TO regress_credits_admin;
SET ROLE regress_credits_admin;
SELECT count(credits_open_account('fd:' || n, 100)) FROM generate_series(1, 3) AS n;
-- an event that is there before anybody reads
SELECT ok FROM credits_try_deduct('fd:1', 1000);

-- from now on, or from the beginning
SELECT credits_add_consumer('new'), credits_add_consumer('all', 0);
SELECT credits_add_consumer('all', 0) AS again;
SELECT event_id, kind, account, transaction_id, created_at, detail->>'code' AS code FROM credits_read_events('all');
SELECT count(*) FROM credits_read_events('new');
SELECT ok FROM credits_try_deduct('fd:2', 1000);
SELECT event_id, account FROM credits_read_events('new');
SELECT event_id, account FROM credits_read_events('all');
SELECT consumer, created_at, role, acknowledged_at, unread, unread_since FROM credits.consumer_list ORDER BY consumer;

-- the same again until it is acknowledged; the same token once
SELECT token AS first FROM credits_read_events('all', 1) \gset
SELECT event_id FROM credits_read_events('all');
SELECT credits_ack_events('all', :'first') AS moved;
SELECT credits_ack_events('all', :'first') AS moved;
SELECT event_id FROM credits_read_events('all');
-- the batch is the one of the first token, whatever has come since
SELECT ok FROM credits_try_deduct('fd:3', 1000);
SELECT event_id, token AS second FROM credits_read_events('all') \gset
SELECT :event_id AS event_id;
SELECT consumer, unread FROM credits.consumer_list ORDER BY consumer;
SELECT credits_ack_events('all', :'second') AS moved;
SELECT event_id, token AS third FROM credits_read_events('all') \gset
SELECT :event_id AS event_id;
-- older ones change nothing
SELECT credits_ack_events('all', :'first') AS moved, credits_ack_events('all', :'second') AS moved;
SELECT credits_ack_events('all', :'third') AS moved;
SELECT count(*) FROM credits_read_events('all');
SELECT consumer, acknowledged_at, unread, unread_since FROM credits.consumer_list ORDER BY consumer;

-- row by row, from one read
SELECT count(credits_try_deduct('fd:1', 1000 + n)) FROM generate_series(1, 5) AS n;
SELECT event_id, credits_ack_events('all', token) AS moved FROM credits_read_events('all');
SELECT count(*) FROM credits_read_events('all');
-- backwards, and the last one first
SELECT count(credits_try_deduct('fd:1', 2000 + n)) FROM generate_series(1, 5) AS n;
SELECT event_id, credits_ack_events('all', token) AS moved
FROM (SELECT * FROM credits_read_events('all', 4) ORDER BY event_id DESC) AS r;
SELECT event_id, credits_ack_events('all', token) AS moved FROM credits_read_events('all');

-- two that read the same: who comes second has not come further
SELECT count(credits_try_deduct('fd:1', 3000 + n)) FROM generate_series(1, 2) AS n;
SELECT token AS mine FROM credits_read_events('all', 1) \gset
SELECT count(credits_try_deduct('fd:1', 4000));
SELECT token AS theirs FROM credits_read_events('all', 2) ORDER BY event_id DESC LIMIT 1 \gset
SELECT credits_ack_events('all', :'mine') AS mine, credits_ack_events('all', :'theirs') AS theirs;
SELECT event_id, credits_ack_events('all', token) AS moved FROM credits_read_events('all');
SELECT event_id, credits_ack_events('all', token) AS moved FROM credits_read_events('all');

-- what the transaction itself writes comes next, also if it has written before
BEGIN;
SELECT count(*) FROM credits_read_events('all');
SELECT ok FROM credits_try_deduct('fd:2', 5001);
SELECT count(*) AS own FROM credits_read_events('all');
SELECT count(*) AS others, bool_and(credits_ack_events('new', token)) AS moved FROM credits_read_events('new');
SELECT ok FROM credits_try_deduct('fd:2', 5002);
COMMIT;
SELECT detail->'amount' AS amount, credits_ack_events('all', token) AS moved FROM credits_read_events('all');
SELECT detail->'amount' AS amount, credits_ack_events('new', token) AS moved FROM credits_read_events('new');

-- savepoints that are rolled back, and one that is not
BEGIN;
SAVEPOINT a;
SELECT ok FROM credits_try_deduct('fd:2', 6001);
ROLLBACK TO a;
SAVEPOINT b;
SELECT ok FROM credits_try_deduct('fd:2', 6002);
RELEASE b;
COMMIT;
SELECT detail->'amount' AS amount, credits_ack_events('all', token) AS moved FROM credits_read_events('all');

-- an acknowledgement that is rolled back
SELECT ok FROM credits_try_deduct('fd:2', 7000);
BEGIN;
SELECT bool_and(credits_ack_events('all', token)) AS moved FROM credits_read_events('all');
SELECT count(*) FROM credits_read_events('all');
ROLLBACK;
SELECT detail->'amount' AS amount FROM credits_read_events('all');
-- in a read-only transaction one can read
BEGIN READ ONLY;
SELECT detail->'amount' AS amount FROM credits_read_events('all');
SELECT bool_and(credits_ack_events('all', token)) AS moved FROM credits_read_events('all');
ROLLBACK;

-- events that belong to no account, and of an account with a long name
RESET ROLE;
SELECT credits_open_account(repeat('x', 255), 1) IS NOT NULL AS opened;
SELECT ok FROM credits_try_deduct(repeat('x', 255), 2);
-- what somebody inserts by hand is read, too
INSERT INTO credits.events VALUES (nextval('credits.events_id_seq'), NULL, NULL, now(), 'by_hand', '{}');
SELECT kind, length(account) AS length, credits_ack_events('all', token) AS moved FROM credits_read_events('all');

-- events that their owner has deleted are passed over, and a batch can end by that
SELECT count(credits_try_deduct('fd:3', 8000 + n)) FROM generate_series(1, 4) AS n;
SELECT token AS half FROM credits_read_events('all', 2) ORDER BY event_id DESC LIMIT 1 \gset
SELECT credits_ack_events('all', :'half') AS moved;
DELETE FROM credits.events WHERE detail->'amount' IN ('8003', '8004');
SELECT count(*) FROM credits_read_events('all');
SELECT ok FROM credits_try_deduct('fd:3', 9000);
SELECT detail->'amount' AS amount, token AS next FROM credits_read_events('all') \gset
SELECT credits_ack_events('all', :'next') AS moved;
SELECT count(*) FROM credits_read_events('all');

-- a database that was restored begins again after the safe id, in another cluster or here;
-- the safe id may be behind if somebody else was writing in this cluster
SELECT safe_id > 0 AND safe_id <= (SELECT last_value FROM credits.events_id_seq) AS safe FROM credits.consumers WHERE name = 'all';
UPDATE credits.consumers SET safe_id = (SELECT last_value FROM credits.events_id_seq) WHERE name = 'all';
SELECT ok FROM credits_try_deduct('fd:3', 9100);
SELECT token AS before FROM credits_read_events('all') \gset
UPDATE credits.consumer_positions SET system = system + 1;
UPDATE credits.event_order SET system = system + 1;
SELECT detail->'amount' AS amount, token AS restored FROM credits_read_events('all') \gset
SELECT :amount AS amount;
SELECT credits_ack_events('all', :'before') AS moved;
SELECT ok FROM credits_try_deduct('fd:3', 9200);
SELECT credits_ack_events('all', :'restored') AS moved;
SELECT detail->'amount' AS amount, token AS next FROM credits_read_events('all') \gset
SELECT :amount AS amount, credits_ack_events('all', :'next') AS moved;
UPDATE credits.consumers SET safe_id = (SELECT last_value FROM credits.events_id_seq) WHERE name = 'all';
TRUNCATE credits.consumer_positions, credits.event_order;
SELECT count(*) FROM credits_read_events('all');
SELECT ok FROM credits_try_deduct('fd:3', 9300);
SELECT detail->'amount' AS amount, credits_ack_events('all', token) AS moved FROM credits_read_events('all');
-- the other one has acknowledged less: it reads again what is after its safe id
SELECT count(*) >= 10 AS again, bool_and(credits_ack_events('new', token)) AS moved FROM credits_read_events('new');
SELECT consumer, unread FROM credits.consumer_list ORDER BY consumer;

-- what is kept: a consumer that does not read keeps what it has not read
SELECT credits_add_consumer('slow');
SELECT ok FROM credits_try_deduct('fd:3', 9400);
SELECT count(credits_ack_events('new', token)) FROM credits_read_events('new');
SELECT count(credits_ack_events('all', token)) FROM credits_read_events('all');
SET credits.test_clock = '2040-06-01 00:00:00+00';
CALL credits_housekeep(1);
SELECT detail->'amount' AS amount, (SELECT count(*) FROM credits.event_order) AS orders FROM credits.events;
SELECT consumer, unread, unread_since FROM credits.consumer_list ORDER BY consumer;
SELECT credits_remove_consumer('slow');
CALL credits_housekeep();
SELECT (SELECT count(*) FROM credits.events) AS events, (SELECT count(*) FROM credits.event_order) AS orders;

-- bad input
SELECT credits_add_consumer(NULL);
SELECT credits_add_consumer('');
SELECT credits_add_consumer(repeat('x', 256));
SELECT credits_add_consumer(' x');
SELECT credits_add_consumer('x', -1);
SELECT credits_add_consumer('x', 9223372036854775807);
SELECT credits_remove_consumer(NULL);
SELECT credits_remove_consumer('nobody');
SELECT count(*) FROM credits_read_events(NULL);
SELECT count(*) FROM credits_read_events('nobody');
SELECT count(*) FROM credits_read_events('all', NULL);
SELECT count(*) FROM credits_read_events('all', 0);
SELECT count(*) FROM credits_read_events('all', 1001);
SELECT credits_ack_events(NULL, 'x');
SELECT credits_ack_events('all', NULL);
SELECT credits_ack_events('nobody', :'next');
SELECT credits_ack_events('all', '');
SELECT credits_ack_events('all', 'x');
SELECT credits_ack_events('all', repeat('1', 2000000));
\set VERBOSITY terse
SELECT credits_ack_events('all', left(:'next', -1));
SELECT credits_ack_events('all', '1' || :'next');
\set VERBOSITY default
-- of another consumer, of one that was removed
SELECT ok FROM credits_try_deduct('fd:3', 9500);
SELECT token AS next FROM credits_read_events('all') \gset
SELECT credits_ack_events('new', :'next');
SELECT credits_remove_consumer('all'), credits_add_consumer('all');
SELECT credits_ack_events('all', :'next');
-- a sequence with a cache draws ids too early
ALTER SEQUENCE credits.events_id_seq CACHE 10;
SELECT count(*) FROM credits_read_events('all');
ALTER SEQUENCE credits.events_id_seq CACHE 1;
SELECT setval('credits.events_id_seq', 1);
SELECT count(*) FROM credits_read_events('all');
SELECT credits_sync_sequences();
SELECT count(*) FROM credits_read_events('all');
\c :shared
DROP DATABASE regress_feed;
