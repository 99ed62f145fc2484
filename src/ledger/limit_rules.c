/*
 * limit_rules.c
 *	  Limits of an account: the highest balance, and how much may be spent.
 *	  They are its own or those of the settings.
 *
 * The row in credits.limits is protected by the account's lock.  An account
 * without limits of its own has no row until a setting requires counting what
 * it spends.
 */
#include "credits.h"

#include "ledger/limit_rules.h"
#include "ledger/log.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static const StoreColumn limits_columns[] = {
	COLUMN_INT64(Limits, account_id),
	COLUMN_INT64(Limits, max_balance, NULL_IS(NO_LIMIT)),
	COLUMN_ENUM(Limits, excess, excess_names, NULL_IS(EXCESS_BY_SETTING)),
	COLUMN_INT64(Limits, min_spend, NULL_IS(NO_LIMIT)),
	COLUMN_INT64(Limits, max_spend, NULL_IS(NO_LIMIT)),
	COLUMN_INT64(Limits, max_spend_per_day, NULL_IS(NO_LIMIT)),
	COLUMN_INT64(Limits, max_spend_per_month, NULL_IS(NO_LIMIT)),
	COLUMN_TEXT(Limits, timezone),
	COLUMN_TIME(Limits, day_start),
	COLUMN_INT64(Limits, day_used),
	COLUMN_TIME(Limits, month_start),
	COLUMN_INT64(Limits, month_used)
};

StoreTable	limits_table = {
	.name = "limits",
	ROWS_OF(Limits, limits_columns)
};

static StoreIndex limits_by_account = {
	&limits_table, "limits_pkey", {"account_id"},.unique = true
};

/*
 * Returns whether any setting limits spends.
 */
static bool
any_spend_setting(void)
{
	return setting_min_spend > 0 || setting_max_spend > 0 ||
		setting_max_spend_per_day > 0 || setting_max_spend_per_month > 0;
}

/*
 * Reads the limits of an account.  If it has no row, it has no limits of its
 * own.
 */
void
limit_rules_read(Store *store, Snapshot snapshot, int64 account_id,
				 Limits *limits)
{
	if (scan_find(store, &limits_by_account, snapshot, limits,
				  BY_INT64(account_id)))
		return;
	memset(limits, 0, sizeof(Limits));
	ItemPointerSetInvalid(&limits->tid);
	limits->account_id = account_id;
	limits->max_balance = NO_LIMIT;
	limits->excess = EXCESS_BY_SETTING;
	limits->min_spend = NO_LIMIT;
	limits->max_spend = NO_LIMIT;
	limits->max_spend_per_day = NO_LIMIT;
	limits->max_spend_per_month = NO_LIMIT;
	limits->timezone = cstring_to_text("UTC");
	limits->day_start = DT_NOBEGIN;
	limits->month_start = DT_NOBEGIN;
}

/*
 * Returns limits in the form in which they are logged.
 */
Jsonb *
limit_rules_terms(const Limits *limits)
{
	JsonObject	json;

	json_begin(&json);
	members_json(&json, "max_balance", limits->max_balance);
	if (limits->excess == EXCESS_REFUSE || limits->excess == EXCESS_CLIP)
		json_cstring(&json, "excess", excess_names[limits->excess]);
	else
		json_null(&json, "excess");
	members_json(&json, "min_spend", limits->min_spend);
	members_json(&json, "max_spend", limits->max_spend);
	members_json(&json, "max_spend_per_day", limits->max_spend_per_day);
	members_json(&json, "max_spend_per_month", limits->max_spend_per_month);
	json_text(&json, "timezone", limits->timezone);
	return json_document(&json);
}

/*
 * Inserts or updates limits, when the posting is written.
 */
static void
write_limits(Posting *posting, void *row)
{
	store_write(posting->store, &limits_table, posting->snapshot, row);
}

/*
 * Registers limits to be written.
 */
void
limit_rules_change(Posting *posting, Limits *limits)
{
	if (!limits->changed)
		posting_defer(posting, write_limits, limits);
	limits->changed = true;
}

/*
 * Returns the limits of the posting's account, and reads them if necessary.
 */
Limits *
limit_rules_of(Posting *posting)
{
	if (posting->limits == NULL)
	{
		posting->limits = palloc(sizeof(Limits));
		limit_rules_read(posting->store, posting->snapshot,
						 posting->account.id, posting->limits);
	}
	return posting->limits;
}

/*
 * Returns an account's own limit or, if it has none, that of the setting, where
 * 0 means no limit.
 */
static int64
effective_limit(int64 own, int setting)
{
	if (own != NO_LIMIT)
		return own;
	return setting > 0 ? setting : NO_LIMIT;
}

/*
 * Refuses a spend because of a limit of the account.
 */
static bool
refuse_limit(Posting *posting, const char *what, char *detail)
{
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" cannot spend %s",
						   rows_account_name(&posting->account), what),
				  detail,
				  "See credits.limits and the settings credits.max_spend and so on; credits_set_limits changes them for one account.");
}

/*
 * Refuses a spend because of what has already been spent in a day or month.
 */
static bool
refuse_window(Posting *posting, Window window, int64 max, int64 used,
			  int64 amount)
{
	const char *per = window_names[window];

	return refuse_limit(posting, psprintf("that much in one %s", per),
						psprintf("Of " INT64_FORMAT " for the %s, " INT64_FORMAT " are left, but " INT64_FORMAT " are needed.",
								 max, per, Max(max - used, 0), amount));
}

/*
 * Finds the deduction or hold for which a transaction counts against limits
 * and caps: itself or, if it gives credits back, the one that spent them.
 * Returns false if it does not count.
 */
bool
limit_rules_counts_as(Store *store, Snapshot snapshot, const Entry *entry,
					  Entry *spend)
{
	*spend = *entry;
	if (entry->amount > 0 && kinds_info(entry->kind)->uncounts)
	{
		/* the target may be a capture, whose target is the hold */
		do
		{
			if (!spend->has_target ||
				!rows_find_entry(store, snapshot, spend->target_id, spend))
				return false;
		} while (spend->kind == KIND_CAPTURE);
	}
	return spend->amount < 0 && kinds_info(spend->kind)->counts;
}

/*
 * Adds a transaction to what was used in the account's current day and month.
 */
static void
count_entry(Store *store, Snapshot snapshot, Limits *limits,
			const Entry *entry)
{
	Entry		spend;

	if (!limit_rules_counts_as(store, snapshot, entry, &spend))
		return;
	if (spend.created_at >= limits->day_start)
		limits->day_used -= entry->amount;
	if (spend.created_at >= limits->month_start)
		limits->month_used -= entry->amount;
}

/*
 * Counts what was used in the account's current day and month according to the
 * log, up to the transaction "to".
 */
void
limit_rules_count(Store *store, Snapshot snapshot, int64 to, Limits *limits)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits limits",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	StoreScan	scan;
	Entry		entry;

	limits->day_used = limits->month_used = 0;
	scan_begin_ids(&scan, store, &log_by_account_id, snapshot,
				   PG_INT64_MIN, to, BY_INT64(limits->account_id));
	old = MemoryContextSwitchTo(context);
	while (scan_peek(&scan, BackwardScanDirection, &entry))
	{
		CHECK_FOR_INTERRUPTS();
		if (entry.created_at < limits->month_start)
			break;
		count_entry(store, snapshot, limits, &entry);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	scan_end(&scan);
	MemoryContextDelete(context);
}

/*
 * Begins to count for the current day and month, with what was spent in them
 * before, according to the log and the entries of this posting.
 */
void
limit_rules_begin_windows(Posting *posting, Limits *limits)
{
	int			i;

	limits->day_start = members_window_start(WINDOW_DAY, limits->timezone,
											 posting->now);
	limits->month_start = members_window_start(WINDOW_MONTH, limits->timezone,
											   posting->now);
	limit_rules_count(posting->store, posting->snapshot,
					  posting->account.stored.last_transaction_id, limits);
	for (i = 0; i < posting->nentries; i++)
		count_entry(posting->store, posting->snapshot, limits,
					posting->entries[i]);
}

/*
 * Begins a new day or month if its time has come.
 */
static void
roll_limits(Posting *posting, Limits *limits)
{
	members_roll(&limits->day_start, &limits->day_used, WINDOW_DAY,
				 limits->timezone, posting->now);
	members_roll(&limits->month_start, &limits->month_used, WINDOW_MONTH,
				 limits->timezone, posting->now);
}

/*
 * Opens the windows of limits that count in them.
 */
static void
open_windows(Posting *posting, Limits *limits)
{
	/* the account has not been counting yet */
	if (!ItemPointerIsValid(&limits->tid) && !limits->changed)
		limit_rules_begin_windows(posting, limits);
	roll_limits(posting, limits);
}

/*
 * Returns what the account's limits leave for a spend.
 */
SpendRoom
limit_rules_room(Posting *posting)
{
	SpendRoom	room = {0, PG_INT64_MAX, PG_INT64_MAX};
	Limits	   *limits;
	int64		day;
	int64		month;

	if (!posting->account.limited && !any_spend_setting())
		return room;
	limits = limit_rules_of(posting);
	room.least = Max(effective_limit(limits->min_spend, setting_min_spend), 0);
	room.most = effective_limit(limits->max_spend, setting_max_spend);
	if (room.most == NO_LIMIT)
		room.most = PG_INT64_MAX;
	day = effective_limit(limits->max_spend_per_day, setting_max_spend_per_day);
	month = effective_limit(limits->max_spend_per_month,
							setting_max_spend_per_month);
	if (day == NO_LIMIT && month == NO_LIMIT)
		return room;
	open_windows(posting, limits);
	/* even if nothing is spent: what has been counted is kept */
	limit_rules_change(posting, limits);
	if (day != NO_LIMIT)
		room.left = Max(day - limits->day_used, 0);
	if (month != NO_LIMIT)
		room.left = Min(room.left, Max(month - limits->month_used, 0));
	return room;
}

/*
 * Checks a spend against the account's limits, and counts it.  "whole" is the
 * total amount if "amount" is only a part of a split spend or is added to a
 * hold.
 */
bool
limit_rules_spend(Posting *posting, int64 amount, int64 whole)
{
	Limits	   *limits;
	int64		min;
	int64		max;
	int64		day;
	int64		month;

	if (amount == 0 || (!posting->account.limited && !any_spend_setting()))
		return true;
	limits = limit_rules_of(posting);
	min = effective_limit(limits->min_spend, setting_min_spend);
	max = effective_limit(limits->max_spend, setting_max_spend);
	day = effective_limit(limits->max_spend_per_day, setting_max_spend_per_day);
	month = effective_limit(limits->max_spend_per_month,
							setting_max_spend_per_month);

	if (min != NO_LIMIT && whole < min)
		return refuse_limit(posting, "that little at once",
							psprintf("At least " INT64_FORMAT " must be spent, not " INT64_FORMAT ".",
									 min, whole));
	if (max != NO_LIMIT && whole > max)
		return refuse_limit(posting, "that much at once",
							psprintf("At most " INT64_FORMAT " can be spent, not " INT64_FORMAT ".",
									 max, whole));
	if (day == NO_LIMIT && month == NO_LIMIT)
		return true;
	open_windows(posting, limits);
	if (day != NO_LIMIT && amount > day - limits->day_used)
		return refuse_window(posting, WINDOW_DAY, day, limits->day_used, amount);
	if (month != NO_LIMIT && amount > month - limits->month_used)
		return refuse_window(posting, WINDOW_MONTH, month, limits->month_used,
							 amount);

	/*
	 * If the clock was set back, the windows may have begun after this spend:
	 * settling begins those of its own time, but what it logs is earlier.
	 */
	if (posting->now >= limits->day_start)
		limits->day_used = members_count_up(limits->day_used, amount);
	if (posting->now >= limits->month_start)
		limits->month_used = members_count_up(limits->month_used, amount);
	limit_rules_change(posting, limits);
	return true;
}

/*
 * Returns how much an account may receive until it has its highest balance.
 */
int64
limit_rules_room_for(Posting *posting)
{
	int64		max;

	if (!posting->account.limited && setting_max_balance == 0)
		return PG_INT64_MAX;
	max = effective_limit(limit_rules_of(posting)->max_balance,
						  setting_max_balance);
	return max == NO_LIMIT ? PG_INT64_MAX :
		Max(max - posting->account.balance, 0);
}

/*
 * Checks an amount that an account receives against its highest balance.  The
 * excess is refused or, if may_clip and the limits say so, subtracted from the
 * amount.
 */
bool
limit_rules_receive(Posting *posting, int64 *amount, bool may_clip)
{
	Limits	   *limits;
	int64		room = limit_rules_room_for(posting);
	Excess		excess;

	if (*amount <= room)
		return true;
	limits = limit_rules_of(posting);
	excess = limits->excess == EXCESS_BY_SETTING ?
		(Excess) setting_excess : limits->excess;
	if (may_clip && excess == EXCESS_CLIP && room > 0)
	{
		*amount = room;
		return true;
	}
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" would exceed its highest balance",
						   rows_account_name(&posting->account)),
				  psprintf("Its balance is " INT64_FORMAT " and its highest balance " INT64_FORMAT ": there is room for " INT64_FORMAT ", not for " INT64_FORMAT ".",
						   posting->account.balance,
						   effective_limit(limits->max_balance,
										   setting_max_balance),
						   room, *amount),
				  "Give less, or raise the limit with credits_set_limits or the setting credits.max_balance.");
}

/*
 * Subtracts an amount from what was used, if the spend it belongs to was
 * counted in the current day or month.
 */
static void
give_back_limits(Posting *posting, const Entry *spend, int64 amount)
{
	Limits	   *limits;

	if (!posting->account.limited && !any_spend_setting())
		return;
	limits = limit_rules_of(posting);
	if (!ItemPointerIsValid(&limits->tid))
		return;
	roll_limits(posting, limits);
	if (spend->created_at >= limits->day_start)
		limits->day_used = Max(limits->day_used - amount, 0);
	if (spend->created_at >= limits->month_start)
		limits->month_used = Max(limits->month_used - amount, 0);
	limit_rules_change(posting, limits);
}

/*
 * Subtracts an amount that is given back from what a deduction or hold was
 * counted for, in limits and caps.
 */
void
limit_rules_give_back(Posting *posting, const Entry *spend, int64 amount)
{
	give_back_limits(posting, spend, amount);
	members_give_back(posting, spend, amount);
}
