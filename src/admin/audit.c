/*
 * audit.c
 *	  credits_audit: reading the audit, newest first.
 *
 * A call walks along one index, the one that leaves the fewest rows, in order of
 * time and id:
 *
 *	  account			the rows about it
 *	  topic				the rows about it
 *	  configuration		a partial index of rows that move no credits
 *	  none of these		all rows
 *
 * All else is checked for each row on the way.  So that a page takes as long
 * whatever is looked for, it ends after MAX_EXAMINED rows, and says where to go on.
 *
 * Tested in test/sql/audit.sql and test/t/audit.pl.
 */
#include "credits.h"

#include "ledger/audit.h"
#include "ledger/ledger.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_audit);

/* how many rows a call looks at */
#define MAX_AUDITED 1000

/* which of the two a call looks for */
static const char *const changes_names[] = {"configuration", "credits"};

enum
{
	CHANGES_CONFIGURATION,
	CHANGES_CREDITS
};

/* the arguments */
enum
{
	ARG_SINCE,
	ARG_UNTIL,
	ARG_ROLE,
	ARG_ACTOR,
	ARG_TOPIC,
	ARG_NAME,
	ARG_ACCOUNT,
	ARG_CHANGES,
	ARG_AFTER,
	ARG_MAX_ROWS
};

/* the columns of a row */
enum
{
	AUDITED_ID,
	AUDITED_AT,
	AUDITED_TOPIC,
	AUDITED_NAME,
	AUDITED_ACCOUNT,
	AUDITED_OLD,
	AUDITED_NEW,
	AUDITED_TRANSACTION,
	AUDITED_AMOUNT,
	AUDITED_REASON,
	AUDITED_ROLE,
	AUDITED_ACTOR,
	AUDITED_COLUMNS
};

static StoreIndex audit_by_id = {
	&audit_table, "audit_log_pkey", {"id"},.unique = true
};
static StoreIndex audit_by_at = {
	&audit_table, "audit_log_at_idx", {"at", "id"}
};
static StoreIndex audit_by_topic = {
	&audit_table, "audit_log_topic_idx", {"topic", "at", "id"}
};
static StoreIndex audit_by_account = {
	&audit_table, "audit_log_account_id_idx", {"account_id", "at", "id"},
	.predicate = "(account_id IS NOT NULL)"
};
static StoreIndex audit_of_configuration = {
	&audit_table, "audit_log_configuration_idx", {"at", "id"},
	.predicate = "(amount IS NULL)"
};

/* What is looked for */
typedef struct AuditSearch
{
	TimestampTz since;
	TimestampTz until;
	text	   *role;			/* these are NULL if any will do */
	text	   *actor;
	text	   *name;
	int			topic;			/* -1 if any */
	int			changes;		/* -1 if both */
	int64		account_id;		/* 0 if any */
	AuditRow   *after;			/* NULL if it begins */
	int			max_rows;

	ReturnSetInfo *result;
	int			examined;
	int			found;
	MemoryContext row;			/* for what concerns one row */
} AuditSearch;

/*
 * Reads the arguments.
 */
static void
read_audit_search(FunctionCallInfo fcinfo, AuditSearch *search)
{
	search->since = PG_ARGISNULL(ARG_SINCE) ? DT_NOBEGIN :
		PG_GETARG_TIMESTAMPTZ(ARG_SINCE);
	search->until = PG_ARGISNULL(ARG_UNTIL) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(ARG_UNTIL);
	search->role = arg_text(fcinfo, ARG_ROLE, "role", MAX_NAME_BYTES);
	search->actor = arg_text(fcinfo, ARG_ACTOR, "actor", MAX_REASON_BYTES);
	search->topic = PG_ARGISNULL(ARG_TOPIC) ? -1 :
		ARG_CHOICE(ARG_TOPIC, "topic", audit_topic_names);
	search->name = arg_text(fcinfo, ARG_NAME, "name", MAX_REASON_BYTES);
	search->changes = PG_ARGISNULL(ARG_CHANGES) ? -1 :
		ARG_CHOICE(ARG_CHANGES, "changes", changes_names);
	search->max_rows = arg_page_rows(fcinfo, ARG_MAX_ROWS);
	if (!PG_ARGISNULL(ARG_ACCOUNT))
	{
		Account		account;

		guards_find_account(GetActiveSnapshot(), arg_account(fcinfo, ARG_ACCOUNT),
							&account);
		search->account_id = account.id;
	}
	if (!PG_ARGISNULL(ARG_AFTER))
	{
		int64		id = PG_GETARG_INT64(ARG_AFTER);

		search->after = palloc(sizeof(AuditRow));
		if (!scan_find(NULL, &audit_by_id, GetActiveSnapshot(), search->after,
					   BY_INT64(id)))
			ereport(ERROR,
					(errcode(ERRCODE_NOT_FOUND),
					 errmsg("the audit has no row " INT64_FORMAT, id),
					 errhint("Pass the id of the last row of a page, or leave after_id out to begin.")));
	}
}

/*
 * Finds the transaction of a row, also if it was archived.  Returns false if it
 * has none, or its partition was dropped.
 */
static bool
find_transaction(const AuditRow *row, Entry *entry)
{
	return row->transaction_id != 0 &&
		(rows_find_entry(NULL, GetActiveSnapshot(), row->transaction_id, entry) ||
		 rows_find_archived_entry(NULL, GetActiveSnapshot(), row->transaction_id, entry));
}

/*
 * Is a row looked for?
 */
static bool
is_audit_searched(const AuditSearch *search, AuditRow *row)
{
	Entry		entry;

	if ((search->topic != -1 && search->topic != (int) row->topic) ||
		(search->changes != -1 && row->moved != (search->changes == CHANGES_CREDITS)) ||
		(search->account_id != 0 && search->account_id != row->account_id) ||
		(search->role && !same_text(search->role, row->role)) ||
		(search->name && (row->name == NULL || !same_text(search->name, row->name))))
		return false;
	if (search->actor == NULL)
		return true;
	if (row->actor == NULL && find_transaction(row, &entry))
		row->actor = entry.actor;
	return row->actor && same_text(search->actor, row->actor);
}

/*
 * Sets a column that is a text, or NULL.
 */
static void
set_audited(Datum *values, bool *isnull, int column, text *value)
{
	values[column] = PointerGetDatum(value);
	isnull[column] = value == NULL;
}

/*
 * Adds a row to the result: all of it or, if the search ends there and may go on,
 * where that is.
 */
static void
add_audited(const AuditSearch *search, const AuditRow *row, bool found)
{
	Datum		values[AUDITED_COLUMNS] = {0};
	bool		isnull[AUDITED_COLUMNS];

	memset(isnull, true, sizeof(isnull));
	values[AUDITED_ID] = Int64GetDatum(row->id);
	isnull[AUDITED_ID] = false;
	values[AUDITED_AT] = TimestampTzGetDatum(row->at);
	isnull[AUDITED_AT] = false;
	if (found)
	{
		Account		account;
		Entry		entry;
		text	   *actor = row->actor;

		if (row->topic != AUDIT_UNKNOWN)
			set_audited(values, isnull, AUDITED_TOPIC,
						cstring_to_text(audit_topic_names[row->topic]));
		set_audited(values, isnull, AUDITED_NAME, row->name);
		if (row->account_id != 0 &&
			rows_find_account(NULL, GetActiveSnapshot(), NULL, row->account_id, &account))
			set_audited(values, isnull, AUDITED_ACCOUNT, account.name);
		values[AUDITED_OLD] = PointerGetDatum(row->old_values);
		isnull[AUDITED_OLD] = row->old_values == NULL;
		values[AUDITED_NEW] = PointerGetDatum(row->new_values);
		isnull[AUDITED_NEW] = row->new_values == NULL;
		values[AUDITED_TRANSACTION] = Int64GetDatum(row->transaction_id);
		isnull[AUDITED_TRANSACTION] = row->transaction_id == 0;
		values[AUDITED_AMOUNT] = Int64GetDatum(row->amount);
		isnull[AUDITED_AMOUNT] = !row->moved;
		if (find_transaction(row, &entry))
		{
			set_audited(values, isnull, AUDITED_REASON, entry.reason);
			actor = entry.actor;
		}
		set_audited(values, isnull, AUDITED_ROLE, row->role);
		set_audited(values, isnull, AUDITED_ACTOR, actor);
	}
	tuplestore_putvalues(search->result->setResult, search->result->setDesc, values,
						 isnull);
}

/*
 * Looks at a row.  Returns whether the search goes on.
 */
static bool
examine_audited(AuditSearch *search, AuditRow *row)
{
	bool		found;
	bool		ends;

	if (row->at < search->since)
		return false;
	found = is_audit_searched(search, row);
	search->examined++;
	search->found += found;
	ends = search->found == search->max_rows || search->examined == MAX_AUDITED;
	if (found || ends)
		add_audited(search, row, found);
	return !ends;
}

/*
 * Looks at the rows of an index that fulfill conditions, from the newest on.
 * Returns whether the search goes on.
 */
static bool
walk_audited(AuditSearch *search, StoreIndex *index, const ScanBy *by, int nby)
{
	StoreScan	scan;
	bool		goes_on = true;
	bool		more = true;

	scan_begin_by(&scan, NULL, index, GetActiveSnapshot(), by, nby);
	while (goes_on && more)
	{
		MemoryContext old = MemoryContextSwitchTo(search->row);
		AuditRow	row;

		CHECK_FOR_INTERRUPTS();
		more = scan_read(&scan, BackwardScanDirection, &row);
		goes_on = !more || examine_audited(search, &row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(search->row);
	}
	scan_end(&scan);
	return goes_on;
}

/*
 * Looks at rows along the index that leaves the fewest.
 */
static void
walk_audit(AuditSearch *search)
{
	StoreIndex *index = &audit_by_at;
	ScanBy		by[3];
	int			n = 0;
	TimestampTz before = search->until;

	if (search->account_id != 0)
	{
		index = &audit_by_account;
		by[n++] = BY_INT64(search->account_id);
	}
	else if (search->topic != -1)
	{
		index = &audit_by_topic;
		by[n++] = BY_TEXT(cstring_to_text(audit_topic_names[search->topic]));
	}
	else if (search->changes == CHANGES_CONFIGURATION)
		index = &audit_of_configuration;

	/* many rows may be of one instant: first the others of the last one */
	if (search->after && search->after->at < before)
	{
		before = search->after->at;
		by[n] = BY_TIME(before);
		by[n + 1] = BY_INT64_BELOW(search->after->id);
		if (!walk_audited(search, index, by, n + 2))
			return;
	}
	by[n] = BY_TIME_BEFORE(before);
	(void) walk_audited(search, index, by, n + 1);
}

/*
 * SQL function: returns rows of the audit that fulfill all the conditions that are
 * given, newest first.
 */
Datum
credits_audit(PG_FUNCTION_ARGS)
{
	AuditSearch search = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	read_audit_search(fcinfo, &search);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	search.row = AllocSetContextCreate(CurrentMemoryContext, "credits audit",
									   ALLOCSET_DEFAULT_SIZES);
	walk_audit(&search);
	MemoryContextDelete(search.row);
	return (Datum) 0;
}
