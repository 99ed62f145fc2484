-- privacy: each column of each table is either erased with a person, or is not for a reason
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE TEMP VIEW known AS SELECT * FROM credits.personal_data();
-- a partition is part of its table
CREATE TEMP VIEW present AS
SELECT c.relname AS table_name, a.attname AS column_name, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;

SELECT is_empty('SELECT table_name, column_name FROM present EXCEPT SELECT table_name, column_name FROM known',
	'what is in no place: add it to src/jobs/*_places.c');
SELECT is_empty('SELECT table_name, column_name FROM known EXCEPT SELECT table_name, column_name FROM present',
	'what is in the list, but not in the catalog');
SELECT is_empty('SELECT table_name, column_name FROM known GROUP BY 1, 2 HAVING count(*) > 1', 'nothing is in the list twice');
SELECT is_empty($$SELECT table_name, column_name FROM known WHERE (erased AND reason IS NOT NULL) OR NOT erased AND COALESCE(reason, '') = ''$$,
	'what stays has a reason');
SELECT is_empty('SELECT table_name FROM known WHERE erased AND NOT exported', 'what is erased is exported before');
SELECT is_empty($$
	SELECT DISTINCT k.table_name FROM known AS k
	WHERE NOT k.exported AND k.column_name IN ('account_id', 'member_id')
	EXCEPT SELECT 'consumers'$$, 'what belongs to an account is exported');
-- free text of an account's row is erased, or is named here as what the extension makes
SELECT is((
	SELECT string_agg(p.table_name || '.' || p.column_name, ' ' ORDER BY (p.table_name || '.' || p.column_name) COLLATE "C")
	FROM present AS p JOIN known AS k USING (table_name, column_name)
	WHERE p.type = 'jsonb' AND NOT k.erased AND k.exported),
	'anchor_parts.state anchors.limits archived_log.terms audit_log.new_values audit_log.old_values log.terms offers.metadata purchases.quote',
	'documents that are kept have no text of anybody');
SELECT * FROM finish();
ROLLBACK;
