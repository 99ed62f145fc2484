/*
 * partition_tables.c
 *	  Making, naming and attaching the tables that are partitions of the log.
 *
 * A partition is made like another one, usually the default one: with its columns,
 * constraints, indexes and storage parameters.  Its tablespace and access method are
 * those of the log, if it has any, as for CREATE TABLE ... PARTITION OF; otherwise
 * those of the other partition.
 */
#include "credits.h"

#include "jobs/partition_tables.h"
#include "store/statements.h"

#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* how to make a partition like another table: its storage, and the rights */
static SqlStatement likeness = {
	"SELECT concat(' USING ' || (SELECT quote_ident(m.amname) FROM pg_am AS m"
	" WHERE m.oid = coalesce(nullif(p.relam, 0), c.relam)),"
	" ' WITH (' || (SELECT string_agg(concat(v.prefix, o.option_name, ' = ',"
	" quote_literal(o.option_value)), ', ')"
	" FROM (VALUES ('', c.reloptions), ('toast.', t.reloptions)) AS v (prefix, options)"
	" CROSS JOIN LATERAL pg_options_to_table(v.options) AS o) || ')',"
	" ' TABLESPACE ' || (SELECT quote_ident(s.spcname) FROM pg_tablespace AS s"
	" WHERE s.oid = coalesce(nullif(p.reltablespace, 0), c.reltablespace))),"
	" coalesce((SELECT string_agg(format('GRANT %s ON credits.%I TO %s%s; ',"
	" a.privilege_type, $1, CASE a.grantee WHEN 0 THEN 'PUBLIC'"
	" ELSE a.grantee::regrole::text END,"
	" CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '')"
	" FROM aclexplode(p.relacl) AS a WHERE a.grantee <> p.relowner), '')"
	" FROM pg_class AS p, pg_class AS c LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid"
	" WHERE p.oid = 'credits.log'::regclass"
	" AND c.oid = format('credits.%I', $2)::regclass",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

/*
 * How to give the indexes of a table the name that it has now, instead of another one.
 * If that is taken or too long, the index gets a number.  It must not keep the name of
 * one of the default partition, which CREATE EXTENSION makes when a dump is restored.
 */
static SqlStatement index_names = {
	"SELECT coalesce(string_agg(format('ALTER INDEX credits.%I RENAME TO %I; ', c.relname,"
	" CASE WHEN octet_length(n.name) < 64 AND NOT EXISTS ("
	"SELECT FROM pg_class AS o"
	" WHERE o.relnamespace = c.relnamespace AND o.relname = n.name::name) THEN n.name"
	" ELSE concat(left(n.name, 50), '_', c.oid) END), ''), '')"
	" FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
	" CROSS JOIN LATERAL (SELECT $1 || substr(c.relname::text, length($2) + 1)) AS n (name)"
	" WHERE i.indrelid = format('credits.%I', $1)::regclass"
	" AND starts_with(c.relname, $2)",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

/* how to let a table have the same key twice */
static SqlStatement unique_keys = {
	"SELECT coalesce(string_agg(format('DROP INDEX credits.%I; ', c.relname) ||"
	" replace(pg_get_indexdef(c.oid), 'CREATE UNIQUE INDEX', 'CREATE INDEX') || '; ', ''), '')"
	" FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
	" WHERE i.indrelid = format('credits.%I', $1)::regclass"
	" AND i.indisunique AND NOT i.indisprimary AND $2 IS NOT NULL",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

static SqlStatement read_version = {
	"SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'credits'",
	(const Oid[]) {InvalidOid}
};

/* whether the rows of the default partition are dumped */
static SqlStatement is_dumped = {
	"SELECT FROM pg_extension AS e WHERE e.extname = 'credits'"
	" AND 'credits.log_default'::regclass = ANY (e.extconfig)",
	(const Oid[]) {InvalidOid}
};

/*
 * Runs one of these statements with two names, and returns a text of its row.
 */
static char *
likeness_text(SqlStatement *statement, const char *name, const char *other, int column)
{
	Datum		values[2];
	bool		isnull;

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(other);
	return TextDatumGetCString(statements_value(statements_run(statement, values, NULL),
												0, column, &isnull));
}

/*
 * Makes a table that can be a partition: with the columns, constraints and indexes
 * of another one, and guards of its own.  Those of the log are not passed on, since
 * it is a statement that they refuse, and would be lost when it is detached.  The
 * bounds of the other one are not meant for it.
 */
void
partition_tables_make(const char *name, const char *model)
{
	statements_execute(psprintf("CREATE TABLE credits.%s (LIKE credits.%s INCLUDING ALL)%s; "
								"CREATE TRIGGER log_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.%s"
								" FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change(); "
								"CREATE TRIGGER log_refuse_row_change BEFORE UPDATE OR DELETE ON credits.%s"
								" FOR EACH ROW EXECUTE FUNCTION credits.refuse_change(); "
								"ALTER TABLE credits.%s ENABLE ALWAYS TRIGGER log_refuse_change,"
								" ENABLE ALWAYS TRIGGER log_refuse_row_change; "
								"COMMENT ON TABLE credits.%s IS 'a partition of credits.log'; %s",
								name, model,
								likeness_text(&likeness, name, model, 1),
								name, name, name, name,
								likeness_text(&likeness, name, model, 2)));
	partition_tables_drop_bounds(name);
}

/*
 * Adds the constraint on the ids of a table: they are below "until" and, unless that is
 * PG_INT64_MIN, not below "from".  The rows are not read unless "validate".
 */
void
partition_tables_add_bounds(const char *table, int64 from, int64 until, bool validate)
{
	statements_execute(psprintf("ALTER TABLE credits.%s ADD CONSTRAINT log_bounds"
								" CHECK (%sid < '" INT64_FORMAT "'::bigint)%s",
								quote_identifier(table), from == PG_INT64_MIN ? "" :
								psprintf("id >= '" INT64_FORMAT "'::bigint AND ", from),
								until, validate ? "" : " NOT VALID"));
}

/*
 * Drops the constraint on the ids of a table, if it has one.
 */
void
partition_tables_drop_bounds(const char *table)
{
	Oid			oid = get_relname_relid(table, get_namespace_oid("credits", false));

	if (OidIsValid(get_relation_constraint_oid(oid, "log_bounds", true)))
		statements_execute(psprintf("ALTER TABLE credits.%s DROP CONSTRAINT log_bounds",
									table));
}

/*
 * Attaches a table to a partitioned one, for ids from "from", if that is not
 * PG_INT64_MIN, up to "until".  The table is read if it has no constraint that says
 * so.
 */
void
partition_tables_attach(const char *parent, const char *table, int64 from, int64 until)
{
	Oid			oid = get_relname_relid(table, get_namespace_oid("credits", false));

	if (!OidIsValid(get_relation_constraint_oid(oid, "log_bounds", true)))
		partition_tables_add_bounds(table, from, until, true);
	statements_execute(psprintf("ALTER TABLE credits.%s ATTACH PARTITION credits.%s"
								" FOR VALUES FROM (%s) TO (" INT64_FORMAT ")",
								parent, quote_identifier(table),
								from == PG_INT64_MIN ? "MINVALUE" :
								psprintf(INT64_FORMAT, from), until));
}

/*
 * Has the rows of the default partition dumped, although the table does not come
 * from the extension's script.  Only a script of the extension can ask for that: so
 * there is one that updates it to do so, and one that leads back to its version.
 */
static void
mark_for_dump(void)
{
	bool		isnull;
	SqlResult  *found = statements_run(&read_version, NULL, NULL);
	char	   *version;

	if (found->nrows == 0)
		elog(ERROR, "extension \"credits\" does not exist");
	version = TextDatumGetCString(statements_value(found, 0, 1, &isnull));
	statements_execute(psprintf("ALTER EXTENSION credits ADD TABLE credits.log_default; "
								"ALTER EXTENSION credits UPDATE TO %s; "
								"ALTER EXTENSION credits UPDATE TO %s",
								quote_literal_cstr(psprintf("%s_log_default", version)),
								quote_literal_cstr(version)));
	if (statements_run(&is_dumped, NULL, NULL)->nrows == 0)
		elog(ERROR, "rows of table \"credits.log_default\" would not be dumped");
}

/*
 * Returns a name for a new table that begins with another one, which somebody may have
 * given to something else.
 */
char *
partition_tables_free_name(const char *name)
{
	Oid			schema = get_namespace_oid("credits", false);
	char	   *free = pstrdup(name);
	int			i;

	for (i = 2; OidIsValid(get_relname_relid(free, schema)); i++)
		free = psprintf("%s_%d", name, i);
	return free;
}

/*
 * Attaches credits.log_default as the new default partition.
 */
void
partition_tables_attach_rest(void)
{
	statements_execute("ALTER TABLE credits.log ATTACH PARTITION credits.log_default DEFAULT; "
					   "COMMENT ON TABLE credits.log_default IS"
					   " 'the partition of credits.log for all rows that no other takes'");
	mark_for_dump();
}

/*
 * Gives a table, and its indexes, another name.
 */
void
partition_tables_rename(const char *from, const char *to)
{
	statements_execute(psprintf("ALTER TABLE credits.%s RENAME TO %s",
								quote_identifier(from), quote_identifier(to)));
	statements_execute(likeness_text(&index_names, to, from, 1));
}

/*
 * Copies rows of the log, which a query returns, to a new table that can be a
 * partition.  Rows of different times may have the same key, if "keys_recur".  As long
 * as the table is unlogged, logical replication does not see the rows, which a
 * subscriber has.
 */
void
partition_tables_copy(const char *name, const char *query, bool keys_recur)
{
	partition_tables_make(name, "log_default");
	if (keys_recur)
		statements_execute(likeness_text(&unique_keys, name, "", 1));
	statements_execute(psprintf("ALTER TABLE credits.%s SET UNLOGGED; "
								"INSERT INTO credits.%s %s; "
								"ALTER TABLE credits.%s SET LOGGED",
								name, name, query, name));
}
