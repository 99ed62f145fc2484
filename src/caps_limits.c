/*
 * caps_limits.c
 *	  What one account may hold and spend: checking and counting by its limits,
 *	  or those of the settings.
 *
 * A row of limits is protected by its account's lock.  An account that has no
 * limits of its own has none until a setting makes it count.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

StoreTable	limits_table = {
	.name = "limits",
	.types = (const Oid[]) {
		INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID,
		TEXTOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, InvalidOid
	}
};

static StoreIndex limits_by_account = {&limits_table, "limits_pkey"};

/*
 * Tells whether a setting limits what is spent.
 */
static bool
any_spend_setting(void)
{
	return setting_min_spend > 0 || setting_max_spend > 0 ||
		setting_max_spend_per_day > 0 || setting_max_spend_per_month > 0;
}

/*
 * Reads the limits of an account, none if it has no row.
 */
void
caps_read_limits(Store *store, Snapshot snapshot, int64 account_id,
				 Limits *limits)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	memset(limits, 0, sizeof(Limits));
	ItemPointerSetInvalid(&limits->tid);
	limits->account_id = account_id;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, store, &limits_by_account, snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
	{
		Datum	   *values;
		bool	   *isnull;

		slot_getallattrs(slot);
		values = slot->tts_values - 1;	/* by column number */
		isnull = slot->tts_isnull - 1;
		limits->tid = slot->tts_tid;
#define NUMBER(a) (isnull[a] ? NO_LIMIT : DatumGetInt64(values[a]))
		limits->max_balance = NUMBER(Anum_limits_max_balance);
		limits->clip = !isnull[Anum_limits_excess] &&
			strcmp(TextDatumGetCString(values[Anum_limits_excess]),
				   "clip") == 0;
		limits->has_excess = !isnull[Anum_limits_excess];
		limits->min_spend = NUMBER(Anum_limits_min_spend);
		limits->max_spend = NUMBER(Anum_limits_max_spend);
		limits->max_spend_per_day = NUMBER(Anum_limits_max_spend_per_day);
		limits->max_spend_per_month = NUMBER(Anum_limits_max_spend_per_month);
#undef NUMBER
		limits->timezone = DatumGetTextPCopy(values[Anum_limits_timezone]);
		limits->day_start =
			DatumGetTimestampTz(values[Anum_limits_day_start]);
		limits->day_used = DatumGetInt64(values[Anum_limits_day_used]);
		limits->month_start =
			DatumGetTimestampTz(values[Anum_limits_month_start]);
		limits->month_used = DatumGetInt64(values[Anum_limits_month_used]);
	}
	else
	{
		limits->max_balance = NO_LIMIT;
		limits->min_spend = NO_LIMIT;
		limits->max_spend = NO_LIMIT;
		limits->max_spend_per_day = NO_LIMIT;
		limits->max_spend_per_month = NO_LIMIT;
		limits->timezone = cstring_to_text("UTC");
		limits->day_start = DT_NOBEGIN;
		limits->month_start = DT_NOBEGIN;
	}
	store_scan_end(&scan);
}

/*
 * Returns limits as the log has them.
 */
Jsonb *
caps_limits_terms(const Limits *limits)
{
	StringInfoData json;

	initStringInfo(&json);
	caps_json(&json, "max_balance", limits->max_balance);
	json_text(&json, "excess", !limits->has_excess ? NULL :
			  cstring_to_text(limits->clip ? "clip" : "refuse"));
	caps_json(&json, "min_spend", limits->min_spend);
	caps_json(&json, "max_spend", limits->max_spend);
	caps_json(&json, "max_spend_per_day", limits->max_spend_per_day);
	caps_json(&json, "max_spend_per_month", limits->max_spend_per_month);
	json_text(&json, "timezone", limits->timezone);
	return json_document(&json);
}

/*
 * Writes the limits of an account.
 */
static void
write_limits(Posting *posting, void *row)
{
	Limits	   *limits = row;
	Datum		columns[Natts_limits];
	bool		nulls[Natts_limits] = {false};
	Datum	   *values = columns - 1;	/* by column number */
	bool	   *isnull = nulls - 1;

	values[Anum_limits_account_id] = Int64GetDatum(limits->account_id);
#define NUMBER(a, field) \
	(values[a] = Int64GetDatum(limits->field), \
	 isnull[a] = limits->field == NO_LIMIT)
	NUMBER(Anum_limits_max_balance, max_balance);
	values[Anum_limits_excess] =
		CStringGetTextDatum(limits->clip ? "clip" : "refuse");
	isnull[Anum_limits_excess] = !limits->has_excess;
	NUMBER(Anum_limits_min_spend, min_spend);
	NUMBER(Anum_limits_max_spend, max_spend);
	NUMBER(Anum_limits_max_spend_per_day, max_spend_per_day);
	NUMBER(Anum_limits_max_spend_per_month, max_spend_per_month);
#undef NUMBER
	values[Anum_limits_timezone] = PointerGetDatum(limits->timezone);
	values[Anum_limits_day_start] = TimestampTzGetDatum(limits->day_start);
	values[Anum_limits_day_used] = Int64GetDatum(limits->day_used);
	values[Anum_limits_month_start] = TimestampTzGetDatum(limits->month_start);
	values[Anum_limits_month_used] = Int64GetDatum(limits->month_used);

	if (!ItemPointerIsValid(&limits->tid))
		store_insert(posting->store, &limits_table, columns, nulls);
	else if (store_update(posting->store, &limits_table, posting->snapshot,
						  &limits->tid, true, columns, nulls) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The limits of account " INT64_FORMAT " have changed past it.",
						   limits->account_id),
				 errhint("Retry the transaction.")));
}

/*
 * Notes that limits are to be written.
 */
void
caps_change_limits(Posting *posting, Limits *limits)
{
	if (!limits->changed)
		log_defer(posting, write_limits, limits);
	limits->changed = true;
}

/*
 * Returns the limits of the posting's account, the same for all of a posting.
 */
Limits *
caps_limits(Posting *posting)
{
	if (posting->limits == NULL)
	{
		posting->limits = palloc(sizeof(Limits));
		caps_read_limits(posting->store, posting->snapshot,
						 posting->account.id, posting->limits);
	}
	return posting->limits;
}

/*
 * Returns an account's own limit or, if it has none, that of the setting, where
 * 0 is none.
 */
static int64
limit(int64 own, int setting)
{
	if (own != NO_LIMIT)
		return own;
	return setting > 0 ? setting : NO_LIMIT;
}

/*
 * Refuses a spend for a limit of the account.
 */
static bool
refuse_limit(Posting *posting, const char *what, char *detail)
{
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" must not spend %s",
						   row_account_name(&posting->account), what),
				  detail,
				  "See credits.limits and the settings credits.max_spend and so on; credits_set_limits changes them for one account.");
}

/*
 * Refuses a spend that exceeds what is left in a window.
 */
static bool
refuse_window(Posting *posting, const char *per, int64 max, int64 used,
			  int64 amount)
{
	return refuse_limit(posting, psprintf("so much in one %s", per),
						psprintf("Of " INT64_FORMAT " for the %s " INT64_FORMAT " are left, " INT64_FORMAT " are needed.",
								 max, per, Max(max - used, 0), amount));
}

/*
 * Finds the deduction or the hold that a transaction counts as for limits and
 * caps: itself, or what it gives back.  Returns false if it does not count.
 */
bool
caps_counts_as(Store *store, Snapshot snapshot, const Entry *entry,
			   Entry *spend)
{
	*spend = *entry;
	if (entry->amount > 0 &&
		(strcmp(entry->kind, KIND_REFUND) == 0 ||
		 strcmp(entry->kind, KIND_RELEASE) == 0 ||
		 strcmp(entry->kind, KIND_REVERSAL) == 0))
	{
		/* of what counted itself, or of a hold's capture */
		do
		{
			if (!spend->has_target ||
				!row_find_entry(store, snapshot, spend->target_id, spend))
				return false;
		} while (strcmp(spend->kind, KIND_CAPTURE) == 0);
	}
	return spend->amount < 0 &&
		(strcmp(spend->kind, KIND_DEDUCTION) == 0 ||
		 strcmp(spend->kind, KIND_HOLD) == 0 ||
		 strcmp(spend->kind, KIND_TRANSFER) == 0 ||
		 strcmp(spend->kind, KIND_GIFT) == 0);
}

/*
 * Counts a transaction in the windows of its account's limits.
 */
static void
count_entry(Store *store, Snapshot snapshot, Limits *limits,
			const Entry *entry)
{
	Entry		spend;

	if (!caps_counts_as(store, snapshot, entry, &spend))
		return;
	if (spend.created_at >= limits->day_start)
		limits->day_used -= entry->amount;
	if (spend.created_at >= limits->month_start)
		limits->month_used -= entry->amount;
}

/*
 * Counts what the log says was spent in the windows of an account's limits.
 */
void
caps_count(Store *store, Snapshot snapshot, Limits *limits)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits limits",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	limits->day_used = limits->month_used = 0;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(limits->account_id));
	store_scan(&scan, store, &transactions_by_account_id, snapshot, &key, 1);
	old = MemoryContextSwitchTo(context);
	while ((slot = store_scan_next(&scan, BackwardScanDirection)) != NULL)
	{
		Entry		entry;

		CHECK_FOR_INTERRUPTS();
		row_read_entry(slot, &entry);
		if (entry.created_at < limits->month_start)
			break;
		count_entry(store, snapshot, limits, &entry);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	store_scan_end(&scan);
	MemoryContextDelete(context);
}

/*
 * Begins the windows of an account's limits anew, with what was spent in them:
 * by the log, and by what is to be added to it.
 */
void
caps_begin_windows(Posting *posting, Limits *limits)
{
	int			i;

	limits->day_start = caps_window_start("day", limits->timezone,
										  posting->now);
	limits->month_start = caps_window_start("month", limits->timezone,
											posting->now);
	caps_count(posting->store, posting->snapshot, limits);
	for (i = 0; i < posting->nentries; i++)
		count_entry(posting->store, posting->snapshot, limits,
					posting->entries[i]);
}

/*
 * Brings the windows of an account's limits up to date.
 */
static void
roll_limits(Posting *posting, Limits *limits)
{
	caps_roll(&limits->day_start, &limits->day_used, "day", limits->timezone,
			  posting->now);
	caps_roll(&limits->month_start, &limits->month_used, "month",
			  limits->timezone, posting->now);
}

/*
 * Checks a spend against the limits of the account and counts it.  The whole is
 * what it is a part of, if it is split or adds to a hold.
 */
bool
caps_spend(Posting *posting, int64 amount, int64 whole)
{
	Limits	   *limits;
	int64		min;
	int64		max;
	int64		day;
	int64		month;

	if (amount == 0 || (!posting->account.limited && !any_spend_setting()))
		return true;
	limits = caps_limits(posting);
	min = limit(limits->min_spend, setting_min_spend);
	max = limit(limits->max_spend, setting_max_spend);
	day = limit(limits->max_spend_per_day, setting_max_spend_per_day);
	month = limit(limits->max_spend_per_month, setting_max_spend_per_month);

	if (min != NO_LIMIT && whole < min)
		return refuse_limit(posting, "so little at once",
							psprintf("At least " INT64_FORMAT " are to be spent, not " INT64_FORMAT ".",
									 min, whole));
	if (max != NO_LIMIT && whole > max)
		return refuse_limit(posting, "so much at once",
							psprintf("At most " INT64_FORMAT " can be spent, not " INT64_FORMAT ".",
									 max, whole));
	if (day == NO_LIMIT && month == NO_LIMIT)
		return true;
	if (!ItemPointerIsValid(&limits->tid) && !limits->changed)
		caps_begin_windows(posting, limits);
	roll_limits(posting, limits);
	if (day != NO_LIMIT && amount > day - limits->day_used)
		return refuse_window(posting, "day", day, limits->day_used, amount);
	if (month != NO_LIMIT && amount > month - limits->month_used)
		return refuse_window(posting, "month", month, limits->month_used,
							 amount);
	limits->day_used = caps_count_up(limits->day_used, amount);
	limits->month_used = caps_count_up(limits->month_used, amount);
	caps_change_limits(posting, limits);
	return true;
}

/*
 * Checks what an account is given against the highest balance that it may
 * have: what is too much is refused or, if the caller allows that, cut off.
 */
bool
caps_receive(Posting *posting, int64 *amount, bool may_clip)
{
	Limits	   *limits;
	int64		max;
	int64		room;
	bool		clip;

	if (!posting->account.limited && setting_max_balance == 0)
		return true;
	limits = caps_limits(posting);
	max = limit(limits->max_balance, setting_max_balance);
	if (max == NO_LIMIT)
		return true;
	room = Max(max - posting->account.balance, 0);
	if (*amount <= room)
		return true;
	clip = limits->has_excess ? limits->clip : setting_excess == EXCESS_CLIP;
	if (may_clip && clip && room > 0)
	{
		*amount = room;
		return true;
	}
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" must not have so many credits",
						   row_account_name(&posting->account)),
				  psprintf("It has " INT64_FORMAT " and may have " INT64_FORMAT ": there is room for " INT64_FORMAT ", not for " INT64_FORMAT ".",
						   posting->account.balance, max, room, *amount),
				  "Give less, or raise the limit with credits_set_limits or the setting credits.max_balance.");
}

/*
 * Gives back to the limits of an account what a spend was counted for.
 */
static void
give_back_limits(Posting *posting, const Entry *spend, int64 amount)
{
	Limits	   *limits;

	if (!posting->account.limited && !any_spend_setting())
		return;
	limits = caps_limits(posting);
	if (!ItemPointerIsValid(&limits->tid))
		return;
	roll_limits(posting, limits);
	if (spend->created_at >= limits->day_start)
		limits->day_used = Max(limits->day_used - amount, 0);
	if (spend->created_at >= limits->month_start)
		limits->month_used = Max(limits->month_used - amount, 0);
	caps_change_limits(posting, limits);
}

/*
 * Gives back to limits and caps what a deduction or a hold was counted for.
 */
void
caps_give_back(Posting *posting, const Entry *spend, int64 amount)
{
	give_back_limits(posting, spend, amount);
	caps_give_back_members(posting, spend, amount);
}
