-- A twin of the extension's tables in schema :twin, for a peer to work
-- on: same columns, checks, indexes, fillfactors and rows, but no triggers.

CREATE SCHEMA :twin;

CREATE TABLE :twin.accounts (LIKE credits.accounts INCLUDING ALL);
CREATE TABLE :twin.grants (LIKE credits.grants INCLUDING ALL);
CREATE TABLE :twin.transactions (LIKE credits.log_default INCLUDING ALL);
CREATE TABLE :twin.hold_states (LIKE credits.hold_states INCLUDING ALL);

-- LIKE leaves the fillfactor of a table behind
SELECT format('ALTER TABLE %I.%I SET (%s)',
			  :'twin', c.relname, array_to_string(c.reloptions, ', '))
FROM pg_class AS c
WHERE c.relnamespace = 'credits'::regnamespace
  AND c.relname IN ('accounts', 'grants', 'log', 'hold_states')
  AND c.reloptions IS NOT NULL
\gexec

INSERT INTO :twin.accounts TABLE credits.accounts ORDER BY id;
INSERT INTO :twin.grants TABLE credits.grants ORDER BY id;
INSERT INTO :twin.transactions TABLE credits.log ORDER BY id;

CREATE SEQUENCE :twin.transactions_id_seq;
SELECT setval(:'twin' || '.transactions_id_seq', max(id))
FROM :twin.transactions;
