/*
 * tables.c
 *	  Opening tables and indexes, and checking that they match their
 *	  descriptions.
 *
 * Rows are read and written by column number, and an index is trusted to
 * contain every row that satisfies its predicate.  A table or index with the
 * right name is therefore checked before it is used, once after each
 * invalidation of one of the extension's relations.
 *
 * Columns that were added and dropped again remain at the end of the table and
 * do no harm.  Indexes that users have added are ignored.
 */
#include "credits.h"

#include "store/leaves.h"
#include "store/tables.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/genam.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "nodes/nodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* every table and index that this session has used */
static StoreTable *tables[MAX_TABLES];
static int	ntables = 0;
static StoreIndex *indexes[MAX_INDEXES];
static int	nindexes = 0;

/* incremented when one of these relations may have changed */
static uint64 generation = 1;

/*
 * Returns a number that increases whenever one of the extension's relations
 * may have changed.
 */
uint64
tables_generation(void)
{
	return generation;
}

/*
 * Relcache callback: notes that a relation may have changed.  It frees
 * nothing, because a call may be using it.
 */
static void
invalidate(Datum arg, Oid relid)
{
	int			i;

	for (i = 0; i < ntables; i++)
		if (!OidIsValid(relid) || relid == tables[i]->oid ||
			(tables[i]->leaves && leaves_concern(tables[i], relid)))
		{
			generation++;
			return;
		}
	for (i = 0; i < nindexes; i++)
		if (relid == indexes[i]->oid)
		{
			generation++;
			return;
		}
}

/*
 * Registers the relcache callback.  Called once, when the library is loaded.
 */
void
tables_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/*
 * Raises the error for a relation that does not exist.
 */
void
tables_raise_missing(const char *name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"credits\" is incomplete in this database"),
			 errdetail("Relation \"%s\" of schema \"credits\" is missing.",
					   name),
			 errhint("%s", hint)));
}

/*
 * Returns the OID of a relation of the extension.
 */
static Oid
look_up(const char *name, const char *hint)
{
	Oid			schema = get_namespace_oid("credits", true);
	Oid			oid = OidIsValid(schema) ? get_relname_relid(name, schema) :
		InvalidOid;

	if (!OidIsValid(oid))
		tables_raise_missing(name, hint);
	return oid;
}

/*
 * Looks up the OIDs of a table and its sequence, unless they are known to be
 * current.
 */
void
tables_resolve(StoreTable *table)
{
	static const char hint[] =
		"Restore it, or install the extension with CREATE EXTENSION credits.";

	if (table->number == 0)
	{
		if (ntables == MAX_TABLES)
			elog(ERROR, "too many tables");
		tables[ntables++] = table;
		table->number = ntables;
	}
	while (table->generation != generation)
	{
		/* a lookup may itself process invalidations, which need another one */
		uint64		current = generation;

		table->oid = look_up(table->name, hint);
		if (table->sequence)
			table->sequence_oid = look_up(table->sequence, hint);
		table->generation = current;
	}
}

/*
 * Returns the statement that creates an index, for hints.
 */
static char *
statement_of(const StoreIndex *index, const char *table)
{
	StringInfoData sql;
	int			i;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE %sINDEX ", index->unique ? "UNIQUE " : "");
	if (index->name)
		appendStringInfo(&sql, "%s ", index->name);
	appendStringInfo(&sql, "ON credits.%s (", table);
	for (i = 0; index->keys[i]; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", index->keys[i]);
	appendStringInfoChar(&sql, ')');
	if (index->predicate)
		appendStringInfo(&sql, " WHERE %s", index->predicate);
	return sql.data;
}

/*
 * Looks up the OID of an index, unless it is known to be current.
 */
static void
resolve_index(StoreIndex *index)
{
	if (!index->known)
	{
		if (nindexes == MAX_INDEXES)
			elog(ERROR, "too many indexes");
		while (index->keys[index->nkeys])
			index->nkeys++;
		indexes[nindexes++] = index;
		index->known = true;
	}
	while (index->generation != generation)
	{
		uint64		current = generation;
		Oid			schema = get_namespace_oid("credits", true);
		Oid			oid = OidIsValid(schema) ?
			get_relname_relid(index->name, schema) : InvalidOid;

		if (!OidIsValid(oid))
			tables_raise_missing(index->name,
								 psprintf("Create it again: %s.",
										  statement_of(index, index->table->name)));
		index->oid = oid;
		index->generation = current;
	}
}

/*
 * Returns what to do about a column that is not as described.
 */
static char *
remedy_for(const StoreTable *table, const StoreColumn *column,
		   Form_pg_attribute att)
{
	const char *name = quote_identifier(column_name(column));

	if (att && !att->attisdropped && att->atttypid == column->type)
		return psprintf("If it was renamed, run ALTER TABLE credits.%s RENAME COLUMN %s TO %s; otherwise restore the table from a backup.",
						table->name, quote_identifier(NameStr(att->attname)),
						name);
	if (att && !att->attisdropped &&
		strcmp(NameStr(att->attname), column_name(column)) == 0)
		return psprintf("Run ALTER TABLE credits.%s ALTER COLUMN %s TYPE %s.",
						table->name, name, format_type_be(column->type));
	return "Restore the table from a backup.";
}

/*
 * Checks that a table has exactly the columns of its description.  Dropped
 * columns may follow them.
 */
void
tables_check_columns(Relation rel, const StoreTable *table)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);
	int			i;

	for (i = 0; i < Max(tupdesc->natts, table->ncolumns); i++)
	{
		Form_pg_attribute att = i < tupdesc->natts ? TupleDescAttr(tupdesc, i) :
			NULL;
		const StoreColumn *column;

		if (i >= table->ncolumns)
		{
			if (att->attisdropped)
				continue;
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"credits.%s\" has been altered",
							table->name),
					 errdetail("Column \"%s\" has been added.",
							   NameStr(att->attname)),
					 errhint("Keep columns of your own in a table of your own, and run ALTER TABLE credits.%s DROP COLUMN %s.",
							 table->name,
							 quote_identifier(NameStr(att->attname)))));
		}
		column = &table->columns[i];
		if (att == NULL || att->attisdropped || att->atttypid != column->type ||
			strcmp(NameStr(att->attname), column_name(column)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"credits.%s\" has been altered",
							table->name),
					 errdetail("Its column %d is not \"%s\" of type %s.",
							   i + 1, column_name(column),
							   format_type_be(column->type)),
					 errhint("%s", remedy_for(table, column, att))));
	}
}

/*
 * Opens a table, and checks its columns if it may have changed since it was
 * last checked.
 */
Relation
tables_open(StoreTable *table, LOCKMODE mode)
{
	for (;;)
	{
		Relation	rel;

		tables_resolve(table);
		rel = table_open(table->oid, mode);
		if (table->generation == generation)
		{
			if (table->checked != generation)
			{
				tables_check_columns(rel, table);
				table->checked = generation;
			}
			return rel;
		}
		/* locking it has processed an invalidation: look it up again */
		table_close(rel, NoLock);
	}
}

/*
 * Returns the expression or predicate of an index as text, NULL if it has
 * none.
 */
static char *
expression_of(Relation rel, AttrNumber attno)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID,
										ObjectIdGetDatum(RelationGetRelid(rel)));
	bool		isnull = true;
	Datum		value = 0;
	char	   *shown = NULL;

	if (HeapTupleIsValid(tuple))
	{
		value = SysCacheGetAttr(INDEXRELID, tuple, attno, &isnull);
		if (!isnull)
			shown = TextDatumGetCString(DirectFunctionCall2(pg_get_expr, value,
															ObjectIdGetDatum(rel->rd_index->indrelid)));
		ReleaseSysCache(tuple);
	}
	return shown;
}

/*
 * Returns whether the expression or predicate of an index is the expected one;
 * NULL if none is expected.
 */
static bool
has_expression(Relation rel, AttrNumber attno, const char *expected)
{
	bool		has = !heap_attisnull(rel->rd_indextuple, attno, NULL);
	int			nest;
	char	   *shown;

	if (!has || expected == NULL)
		return !has && expected == NULL;
	/* pg_get_expr omits the schema of what is found on the search path */
	nest = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	shown = expression_of(rel, attno);
	AtEOXact_GUC(true, nest);
	return shown && strcmp(shown, expected) == 0;
}

/*
 * Returns whether a key of an index matches its description.
 */
static bool
has_key(Relation rel, const StoreIndex *index, int i)
{
	AttrNumber	attno = rel->rd_index->indkey.values[i];
	const char *key = index->keys[i];
	Oid			type = TupleDescAttr(RelationGetDescr(rel), i)->atttypid;
	Oid			opclass = GetDefaultOpClass(type, BTREE_AM_OID);

	if (key[0] == '(')
	{
		/* has_expressions has compared them */
		if (attno != 0)
			return false;
	}
	else if (attno < 1 || attno > index->table->ncolumns ||
			 strcmp(column_name(&index->table->columns[attno - 1]), key) != 0)
		return false;
	return OidIsValid(opclass) &&
		rel->rd_opfamily[i] == get_opclass_family(opclass) &&
		rel->rd_indcollation[i] == (type == TEXTOID ? C_COLLATION_OID :
									InvalidOid) &&
		rel->rd_indoption[i] == 0;
}

/*
 * Returns whether an index has the expressions of its description.  pg_get_expr
 * shows all of them in one list.
 */
static bool
has_expressions(Relation rel, const StoreIndex *index)
{
	StringInfoData list;
	int			i;

	initStringInfo(&list);
	for (i = 0; i < index->nkeys; i++)
	{
		const char *key = index->keys[i];

		if (key[0] == '(')
			appendStringInfo(&list, "%s%.*s", list.len > 0 ? ", " : "",
							 (int) strlen(key) - 2, key + 1);
	}
	return has_expression(rel, Anum_pg_index_indexprs,
						  list.len > 0 ? list.data : NULL);
}

/*
 * Returns whether an index must be unique.
 */
static bool
must_be_unique(const StoreIndex *index, Oid table_oid)
{
	const char *copies = index->table->copies;
	const char *name = index->unique && copies ? get_rel_name(table_oid) : NULL;

	return index->unique && (name == NULL || strncmp(name, copies, strlen(copies)) != 0);
}

/*
 * Returns what is wrong with an index, or NULL if nothing is.
 */
static const char *
defect_of(Relation rel, const StoreIndex *index, Oid table_oid)
{
	Form_pg_index form = rel->rd_index;
	int			i;

	if (form->indrelid != table_oid)
		return "It belongs to another table.";
	if (rel->rd_rel->relam != BTREE_AM_OID)
		return "It is not a B-tree.";
	if (form->indisunique ? !index->unique : must_be_unique(index, table_oid))
		return index->unique ? "It is not unique." : "It is unique.";
	if (form->indisunique && (!form->indimmediate || form->indnullsnotdistinct))
		return "It is deferrable, or treats nulls as equal.";
	if (form->indnkeyatts != index->nkeys)
		return "It has other columns.";
	for (i = 0; i < index->nkeys; i++)
		if (!has_key(rel, index, i))
			return "It has other columns, or orders them otherwise.";
	if (!has_expressions(rel, index))
		return "It has other columns, or orders them otherwise.";
	if (!has_expression(rel, Anum_pg_index_indpred, index->predicate))
		return "It has another predicate.";
	return NULL;
}

/*
 * Returns the OID of the index that has the name of one of the extension's
 * according to the catalogs as they are now, InvalidOid if that is not valid.
 *
 * A commit becomes visible before the other sessions are sent its invalidations.
 * So when REINDEX CONCURRENTLY has put an index in the place of another, the
 * caches can still have the name of the old one with the new state of it, or the
 * name of the new one with its old state.
 */
static Oid
find_valid_index(const StoreIndex *index)
{
	ScanKeyData keys[2];
	Relation	catalog;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			oid = InvalidOid;

	InvalidateCatalogSnapshot();

	ScanKeyInit(&keys[0], Anum_pg_class_relname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(index->name));
	ScanKeyInit(&keys[1], Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(get_namespace_oid("credits", false)));
	catalog = table_open(RelationRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, ClassNameNspIndexId, true, NULL, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		oid = ((Form_pg_class) GETSTRUCT(tuple))->oid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	ScanKeyInit(&keys[0], Anum_pg_index_indexrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(oid));
	catalog = table_open(IndexRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, IndexRelidIndexId, true, NULL, 1, keys);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple) ||
		!((Form_pg_index) GETSTRUCT(tuple))->indisvalid ||
		!((Form_pg_index) GETSTRUCT(tuple))->indisready)
		oid = InvalidOid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return oid;
}

/*
 * Checks that an index is the one that the extension created, and that it is
 * valid.  Returns false if the caller must open it again, because the name
 * belongs to another index now, as after REINDEX CONCURRENTLY, or may do so: if
 * the check itself has processed an invalidation of one of the extension's
 * relations.
 */
static bool
check_index(Relation rel, StoreIndex *index, uint64 current)
{
	const char *defect = defect_of(rel, index, index->table->oid);
	int			i;

	if (generation != current)
		return false;
	if (defect)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"credits.%s\" is not the one that the extension created",
						index->name),
				 errdetail_internal("%s", defect),
				 errhint("Drop it, and create it again: %s.",
						 statement_of(index, index->table->name))));
	if (!rel->rd_index->indisvalid || !rel->rd_index->indisready)
	{
		Oid			oid = find_valid_index(index);

		if (!OidIsValid(oid))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("index \"credits.%s\" is not valid", index->name),
					 errdetail("It may lack rows, as after CREATE INDEX CONCURRENTLY that failed."),
					 errhint("Run REINDEX INDEX credits.%s.", index->name)));
		if (oid != RelationGetRelid(rel))
		{
			index->oid = oid;
			return false;
		}
	}
	for (i = 0; i < index->nkeys; i++)
		index->types[i] = TupleDescAttr(RelationGetDescr(rel), i)->atttypid;
	return true;
}

/*
 * Returns whether an index of a table, or of a partition of one, is the described
 * one, and valid.
 */
bool
tables_is_index(Relation rel, StoreIndex *index, Oid table_oid)
{
	int			i;

	if (!rel->rd_index->indisvalid || !rel->rd_index->indisready ||
		defect_of(rel, index, table_oid))
		return false;
	for (i = 0; i < index->nkeys; i++)
		index->types[i] = TupleDescAttr(RelationGetDescr(rel), i)->atttypid;
	return true;
}

/*
 * Raises the error for a partition that lacks an index.
 */
void
tables_raise_missing_index(const StoreIndex *index, const char *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"credits.%s\" lacks an index", table),
			 errdetail("It has no valid index on (%s%s%s).", index->keys[0],
					   index->keys[1] ? ", " : "",
					   index->keys[1] ? index->keys[1] : ""),
			 errhint("Create it again: %s.", statement_of(index, table))));
}

/*
 * Opens an index, and checks it if it may have changed since it was last
 * checked.  The caller must have opened its table.
 */
Relation
tables_open_index(StoreIndex *index, LOCKMODE mode)
{
	for (;;)
	{
		Relation	rel;

		resolve_index(index);
		rel = index_open(index->oid, mode);
		if (index->generation == generation)
		{
			uint64		current = generation;

			if (index->checked == current)
				return rel;
			tables_resolve(index->table);
			if (check_index(rel, index, current))
			{
				index->checked = current;
				return rel;
			}
		}
		index_close(rel, NoLock);
	}
}

/*
 * Returns whether two unique indexes of a table are alike, as an index and the one
 * that REINDEX CONCURRENTLY builds to take its place.
 */
bool
tables_are_alike(Relation a, Relation b)
{
	Form_pg_index x = a->rd_index;
	Form_pg_index y = b->rd_index;
	int			i;

	if (!x->indisunique || !y->indisunique || x->indnkeyatts != y->indnkeyatts ||
		x->indnullsnotdistinct != y->indnullsnotdistinct ||
		a->rd_rel->relam != b->rd_rel->relam)
		return false;
	for (i = 0; i < x->indnkeyatts; i++)
		if (x->indkey.values[i] != y->indkey.values[i] ||
			a->rd_opfamily[i] != b->rd_opfamily[i] ||
			a->rd_indcollation[i] != b->rd_indcollation[i])
			return false;
	return equal(RelationGetIndexExpressions(a), RelationGetIndexExpressions(b)) &&
		equal(RelationGetIndexPredicate(a), RelationGetIndexPredicate(b));
}

/*
 * Returns whether a trigger of a table checks one of the foreign keys among the
 * extension's tables.  They are there to be read: see sql/952_references.sql.
 */
bool
tables_is_check_of_ours(Relation rel, const Trigger *trigger)
{
	return RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_NONE &&
		get_rel_namespace(trigger->tgconstrrelid) == RelationGetNamespace(rel);
}

/*
 * Returns whether all triggers of a table belong to the extension.  A Store is
 * not kept between calls if a table has others.
 *
 * "triggers" must not be the relation's own: looking something up in a catalog
 * may process an invalidation, and the relation then gets new ones.
 */
bool
tables_has_only_our_triggers(Relation rel, const TriggerDesc *triggers)
{
	Oid			extension = get_extension_oid("credits", true);
	int			i;

	for (i = 0; triggers && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!tables_is_check_of_ours(rel, trigger) &&
			(!OidIsValid(extension) ||
			 getExtensionOfObject(ProcedureRelationId,
								  trigger->tgfoid) != extension))
			return false;
	}
	return true;
}
