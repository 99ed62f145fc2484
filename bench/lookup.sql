-- Peer of credits_balance: two columns behind a primary key, by name as
-- applications know an account, and by number.

CREATE SCHEMA lookup;

CREATE TABLE lookup.by_name (
	name text COLLATE "C" PRIMARY KEY,
	balance bigint NOT NULL
);
INSERT INTO lookup.by_name SELECT name, balance FROM credits.accounts ORDER BY id;

CREATE TABLE lookup.by_id (
	id bigint PRIMARY KEY,
	balance bigint NOT NULL
);
INSERT INTO lookup.by_id SELECT id, balance FROM credits.accounts ORDER BY id;
