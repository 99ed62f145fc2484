-- A twin of the extension's tables in schema :twin, for a peer to work
-- on: same columns, checks, indexes, fillfactors and rows, but no triggers.  The log is
-- as its view shows it, which is how it would be written by hand.

CREATE SCHEMA :twin;

CREATE TABLE :twin.accounts (LIKE credits.accounts INCLUDING ALL);
CREATE TABLE :twin.grants (LIKE credits.grants INCLUDING ALL);
CREATE TABLE :twin.transactions (LIKE credits.transactions);
ALTER TABLE :twin.transactions
	ALTER id SET NOT NULL, ALTER account_id SET NOT NULL, ALTER created_at SET NOT NULL,
	ALTER amount SET NOT NULL, ALTER held SET NOT NULL, ALTER balance_after SET NOT NULL,
	ALTER held_after SET NOT NULL, ALTER kind SET NOT NULL, ALTER role SET NOT NULL,
	ALTER hash SET NOT NULL,
	ADD PRIMARY KEY (id), ADD CHECK (balance_after >= 0 AND held_after >= 0);
CREATE INDEX ON :twin.transactions (account_id, created_at, id);
CREATE UNIQUE INDEX ON :twin.transactions ((COALESCE(member_id, account_id)), idempotency_key)
	WHERE idempotency_key IS NOT NULL;
CREATE INDEX ON :twin.transactions (target_id) WHERE target_id IS NOT NULL;
CREATE TABLE :twin.hold_states (LIKE credits.hold_states INCLUDING ALL);

-- LIKE leaves the fillfactor of a table behind
SELECT format('ALTER TABLE %I.%I SET (%s)',
			  :'twin', c.relname, array_to_string(c.reloptions, ', '))
FROM pg_class AS c
WHERE c.relnamespace = 'credits'::regnamespace
  AND c.relname IN ('accounts', 'grants', 'hold_states')
  AND c.reloptions IS NOT NULL
\gexec

INSERT INTO :twin.accounts TABLE credits.accounts ORDER BY id;
INSERT INTO :twin.grants TABLE credits.grants ORDER BY id;
INSERT INTO :twin.transactions TABLE credits.transactions ORDER BY id;

CREATE SEQUENCE :twin.transactions_id_seq;
SELECT setval(:'twin' || '.transactions_id_seq', max(id))
FROM :twin.transactions;
