/*
 * partitions.c
 *	  credits_verify: what each partition of the log must have of its own.
 *
 * A partition that somebody has made by hand and attached has the columns of the log
 * and its constraints, but neither its guards nor its indexes.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "verify/verify.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* The indexes that a partition needs, and what they are for */
static const struct
{
	StoreIndex *index;
	const char *name;
}			needed[] =

{
	{&log_by_id, "id"},
	{&log_by_account_id, "account"},
	{&log_by_key, "idempotency key"},
	{&log_by_target_id, "target"},
	{&log_by_reference, "reference"}
};

#define ON_STATEMENT \
	(TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE)
#define ON_ROW (TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)

/*
 * Returns whether a table has guards that refuse every change, whoever makes it: those
 * for statements and, unless it is partitioned, those for rows.
 */
static bool
is_guarded(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;
	int16		statement = 0;
	int16		row = 0;
	int			i;

	for (i = 0; triggers && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		char	   *function = get_func_name(trigger->tgfoid);

		if (trigger->tgenabled != TRIGGER_FIRES_ALWAYS || trigger->tgqual ||
			trigger->tgnattr > 0 || trigger->tgnargs > 0 ||
			!TRIGGER_FOR_BEFORE(trigger->tgtype) ||
			get_func_namespace(trigger->tgfoid) != RelationGetNamespace(rel) ||
			function == NULL || strcmp(function, "refuse_change") != 0)
			continue;
		if (TRIGGER_FOR_ROW(trigger->tgtype))
			row |= trigger->tgtype;
		else
			statement |= trigger->tgtype;
	}
	return (statement & ON_STATEMENT) == ON_STATEMENT &&
		((row & ON_ROW) == ON_ROW ||
		 rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE);
}

/*
 * Reports partitions of the log that lack guards or indexes.
 */
void
verify_partitions(Verification *v)
{
	int			n;
	LeafPart   *parts = leaves_parts(&log_table, PG_INT64_MIN, PG_INT64_MAX, &n);
	int			part;
	Relation	log;

	v->name = NULL;
	tables_resolve(&log_table);
	log = table_open(log_table.oid, AccessShareLock);
	if (!is_guarded(log))
		verify_report(v, 0, "guards",
					  "table credits.log lacks trigger log_refuse_change, or it is not ENABLE ALWAYS");
	table_close(log, NoLock);
	for (part = 0; part < n; part++)
	{
		Relation	rel;
		int			i;

		/* the last is all that the default partition has */
		if (!parts[part].only && part < n - 1)
			continue;
		rel = leaves_try_open(&log_table, parts[part].oid, AccessShareLock);
		if (rel == NULL)
			continue;
		if (!is_guarded(rel))
			verify_report(v, 0, "guards",
						  psprintf("table credits.%s lacks triggers log_refuse_change and log_refuse_row_change, or they are not ENABLE ALWAYS",
								   RelationGetRelationName(rel)));
		for (i = 0; i < (int) lengthof(needed); i++)
			if (!OidIsValid(leaves_find_index(needed[i].index, rel)))
				verify_report(v, 0, "index",
							  psprintf("table credits.%s lacks a valid index by %s",
									   RelationGetRelationName(rel),
									   needed[i].name));
		table_close(rel, NoLock);
	}
}
