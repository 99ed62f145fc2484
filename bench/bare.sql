-- Peer "bare": a table with the log's columns and indexes, and nothing else.

CREATE SCHEMA bare;
CREATE TABLE bare.transactions (LIKE credits.log_default INCLUDING ALL);
INSERT INTO bare.transactions TABLE credits.log ORDER BY id;
CREATE SEQUENCE bare.transactions_id_seq;
SELECT setval('bare.transactions_id_seq', max(id)) FROM bare.transactions;
