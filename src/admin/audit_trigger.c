/*
 * audit_trigger.c
 *	  Trigger function of the tables that hold what is set.
 *
 * It notes what the extension's own statements change, and an UPDATE, DELETE or
 * TRUNCATE by anybody else.  An INSERT by anybody else is what a restore does,
 * which brings the rows of the audit, too: it is not noted.  Nor is what the
 * apply worker of logical replication does, since the audit is replicated.
 *
 * Of most tables, rows are only added, each a version that replaces the one
 * before it.  Then the old values are those of that one.
 */
#include "credits.h"

#include "ledger/audit.h"
#include "store/statements.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(credits_note_change);

#define MAX_NAME_PARTS 3

/* the row before version $1: "same" is true of two versions of one thing */
#define VERSION_BEFORE(table, same, order) { \
	"SELECT to_jsonb(o) FROM credits." table " AS n" \
	" JOIN credits." table " AS o ON " same " AND (" order("o") ") < (" order("n") ")" \
	" WHERE n.id = $1 ORDER BY (" order("o") ") DESC LIMIT 1", \
	(const Oid[]) {INT8OID, InvalidOid}}
#define BY_START(t) t ".active_from, " t ".id"
#define BY_VERSION(t) t ".version"
#define BY_ID(t) t ".id"

/*
 * The tables, the columns that name what a row is about, and how the version
 * before it is found, if there are versions.
 */
typedef struct AuditedTable
{
	const char *table;
	AuditTopic	topic;
	const char *name[MAX_NAME_PARTS + 1];
	SqlStatement before;
} AuditedTable;

static AuditedTable audited_tables[] = {
	{"activity_rules", AUDIT_ACTIVITY_RULE, {"name"}},
	{"consumers", AUDIT_CONSUMER, {"name"}},
	{"offers", AUDIT_OFFER, {"kind", "name"}},
	{"operations", AUDIT_OPERATION, {"name"},
	VERSION_BEFORE("operations", "o.name = n.name", BY_START)},
	{"packages", AUDIT_PACKAGE, {"name"},
	VERSION_BEFORE("packages", "o.name = n.name", BY_START)},
	{"plans", AUDIT_PLAN, {"name"},
	VERSION_BEFORE("plans", "o.name = n.name", BY_VERSION)},
	{"promotions", AUDIT_PROMOTION, {"name"},
	VERSION_BEFORE("promotions", "o.name = n.name", BY_START)},
	{"reward_programs", AUDIT_REWARD_PROGRAM, {"name"},
	VERSION_BEFORE("reward_programs", "o.name = n.name", BY_START)},
	{"schedules", AUDIT_SCHEDULE, {"job"}},
	{"service_pause", AUDIT_SERVICE_PAUSE, {NULL}},
	{"stripe_price_versions", AUDIT_STRIPE_PRICE, {"price"},
	VERSION_BEFORE("stripe_price_versions", "o.price = n.price", BY_ID)},
	{"stripe_secrets", AUDIT_STRIPE_SECRET, {"name"}},
	{"templates", AUDIT_TEMPLATE, {"kind", "channel", "locale"},
	VERSION_BEFORE("templates",
				   "o.kind = n.kind AND o.channel = n.channel AND o.locale = n.locale",
				   BY_VERSION)},
	{"unit_prices", AUDIT_UNIT_PRICE, {"unit", "currency"},
	VERSION_BEFORE("unit_prices",
				   "o.unit = n.unit AND o.currency = n.currency", BY_START)},
	{"unsubscribe_secrets", AUDIT_UNSUBSCRIBE_SECRET, {NULL}},
	{"volume_discounts", AUDIT_VOLUME_DISCOUNT, {"unit", "currency"},
	VERSION_BEFORE("volume_discounts",
				   "o.unit = n.unit AND o.currency IS NOT DISTINCT FROM n.currency",
				   BY_START)}
};

/*
 * Finds what is known about the trigger's table.
 */
static AuditedTable *
find_audited(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	int			i;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by a trigger"),
				 errhint("Only the triggers of credits call it.")));
	if (TRIGGER_FIRED_AFTER(trigger->tg_event) &&
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event) !=
		TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) &&
		strcmp(get_namespace_name(RelationGetNamespace(trigger->tg_relation)),
			   "credits") == 0)
		for (i = 0; i < (int) lengthof(audited_tables); i++)
			if (strcmp(audited_tables[i].table,
					   RelationGetRelationName(trigger->tg_relation)) == 0)
				return &audited_tables[i];
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger must be AFTER and, unless for TRUNCATE, FOR EACH ROW on a table of credits that holds settings"),
			 errdetail("It is on table \"%s\".",
					   RelationGetRelationName(trigger->tg_relation)),
			 errhint("It serves those tables only.")));
	return NULL;
}

/*
 * Returns a row as a document.
 */
static Jsonb *
row_document(TriggerData *trigger, HeapTuple row)
{
	Datum		composite = heap_copy_tuple_as_datum(row, RelationGetDescr(trigger->tg_relation));
	text	   *json = DatumGetTextPP(DirectFunctionCall1(row_to_json, composite));

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(text_to_cstring(json))));
}

/*
 * Returns the version before a row, NULL if there is none.
 */
static Jsonb *
version_before(AuditedTable *audited, TriggerData *trigger)
{
	bool		isnull;
	Datum		id;
	SqlResult  *result;

	if (audited->before.text == NULL)
		return NULL;
	id = heap_getattr(trigger->tg_trigtuple,
					  SPI_fnumber(RelationGetDescr(trigger->tg_relation), "id"),
					  RelationGetDescr(trigger->tg_relation), &isnull);
	result = statements_run(&audited->before, &id, NULL);
	return result->nrows == 0 ? NULL :
		DatumGetJsonbP(statements_value(result, 0, 1, &isnull));
}

/*
 * Returns the name of what a row is about, NULL if it has none.
 */
static text *
audited_name(const AuditedTable *audited, Jsonb *row)
{
	StringInfoData name;
	int			i;

	initStringInfo(&name);
	for (i = 0; audited->name[i]; i++)
	{
		JsonbValue	value;

		if (getKeyJsonValueFromContainer(&row->root, audited->name[i],
										 strlen(audited->name[i]), &value) &&
			value.type == jbvString)
		{
			if (name.len > 0)
				appendStringInfoChar(&name, ' ');
			appendBinaryStringInfo(&name, value.val.string.val, value.val.string.len);
		}
	}
	return name.len == 0 ? NULL : cstring_to_text_with_len(name.data, name.len);
}

/*
 * Returns the account that a row is about, 0 if it is about none.
 */
static int64
audited_account(Jsonb *row)
{
	JsonbValue	value;

	if (!getKeyJsonValueFromContainer(&row->root, "account_id",
									  strlen("account_id"), &value) ||
		value.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value.val.numeric)));
}

/*
 * Has times and spans of time look the same whoever makes a change.  Returns what
 * AtEOXact_GUC ends it with.
 */
static int
begin_documents(void)
{
	int			nest = NewGUCNestLevel();

	(void) set_config_option("TimeZone", "UTC", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("IntervalStyle", "postgres", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/*
 * Trigger function: notes a change of what is set.
 */
Datum
credits_note_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AuditedTable *audited = find_audited(fcinfo);
	TriggerEvent event = trigger->tg_event;
	Jsonb	   *old = NULL;
	Jsonb	   *new = NULL;
	Jsonb	   *row;
	int			nest;

	if (IsLogicalWorker() ||
		(TRIGGER_FIRED_BY_INSERT(event) && !statements_fired_trigger()))
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
	{
		JsonObject	truncated;

		json_begin(&truncated);
		json_bool(&truncated, "truncated", true);
		audit_add(audited->topic, NULL, 0, NULL, json_document(&truncated));
		PG_RETURN_POINTER(NULL);
	}

	nest = begin_documents();
	row = row_document(trigger, TRIGGER_FIRED_BY_UPDATE(event) ?
					   trigger->tg_newtuple : trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_INSERT(event))
		old = version_before(audited, trigger);
	else
		old = TRIGGER_FIRED_BY_DELETE(event) ? row :
			row_document(trigger, trigger->tg_trigtuple);
	if (!TRIGGER_FIRED_BY_DELETE(event))
		new = row;
	AtEOXact_GUC(true, nest);
	audit_add(audited->topic, audited_name(audited, row), audited_account(row), old, new);
	PG_RETURN_POINTER(NULL);
}
