/*
 * refusals.c
 *	  Events that count refused calls.
 *
 * A call such as credits_try_deduct records in an event that it was refused.  Who
 * calls in a loop is refused in a loop, so the refusals of one kind that an account
 * meets within credits.refusal_window are one event.  It is written by the first of
 * them, and counts the others.
 *
 * Whoever records a refusal holds the account's lock, so that no refusal is lost and
 * no window has two events.  There is no lock, and nothing is counted, where there
 * is no account.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/events.h"
#include "ledger/refusals.h"

#include "access/xact.h"
#include "utils/snapmgr.h"

static StoreIndex events_refused = {
	&events_table, "events_refused_idx", {"account_id", "created_at"},
	.predicate = "(kind = ANY (ARRAY['deduction_refused'::text, 'hold_refused'::text, 'redemption_refused'::text, 'redemption_throttled'::text]))"
};

/*
 * Finds the event of an account and kind whose window has not ended.
 */
bool
refusals_find(Store *store, Snapshot snapshot, int64 account_id,
			  const char *kind, Event *event)
{
	Interval   *window = clock_refusal_window();
	StoreScan	scan;
	bool		found = false;

	if (window == NULL)
		return false;
	scan_begin(&scan, store, &events_refused, snapshot, BY_INT64(account_id),
			   BY_TIME_AFTER(clock_before(clock_now(), window)));
	while (!found && scan_peek(&scan, BackwardScanDirection, event))
		if (strcmp(event->kind, kind) == 0)
		{
			scan_copy(&scan, event);
			found = true;
		}
	scan_end(&scan);
	return found;
}

/*
 * Returns how many refusals an event counts.  Whoever has changed it by hand must
 * not make calls fail.
 */
int64
refusals_count(const Event *event)
{
	JsonbValue	value;
	Datum		count;

	if (!JB_ROOT_IS_OBJECT(event->detail) ||
		getKeyJsonValueFromContainer(&event->detail->root, "count",
									 strlen("count"), &value) == NULL ||
		value.type != jbvNumeric)
		return 1;
	count = NumericGetDatum(value.val.numeric);
	if (compare(count, number(1)) < 0 ||
		compare(count, number(PG_INT64_MAX)) > 0)
		return 1;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, count));
}

/*
 * Returns the detail of an event that counts refusals, with what is known of the
 * last one.
 */
static Jsonb *
detail_of_refusal(text *name, const Refusal *refusal, JsonObject *members,
				  int64 count)
{
	JsonObject	json;

	json_begin(&json);
	json_text(&json, "account", name);
	json_cstring(&json, "code", sqlstate_text(refusal->sqlstate));
	json_cstring(&json, "message", refusal->message);
	json_members(&json, members);
	json_int64(&json, "count", count);
	json_time(&json, "last_at", clock_now());
	return json_document(&json);
}

/*
 * Records a refusal of a call for an account that may not exist.  Returns how many
 * its event counts, and the account's id, or 0.
 */
int64
refusals_record(const char *kind, text *name, const Refusal *refusal,
				JsonObject *members, int64 *account_id)
{
	Store	   *store = store_open();
	Account		account = {0};
	Event		event;
	int64		count = 1;

	PushActiveSnapshot(store_snapshot(true));
	if (rows_find_account(store, GetActiveSnapshot(), name, 0, &account))
	{
		/* a refusal with nothing to lock for need not have locked it */
		rows_lock_account(store, GetActiveSnapshot(), &account, false);
		PopActiveSnapshot();
		PushActiveSnapshot(store_snapshot(true));
		if (refusals_find(store, GetActiveSnapshot(), account.id, kind, &event))
		{
			count = refusals_count(&event);
			count += count < PG_INT64_MAX;
			event.detail = detail_of_refusal(name, refusal, members, count);
			store_begin_changes(store);
			store_write(store, &events_table, GetActiveSnapshot(), &event);
			store_end_changes(store);
		}
	}
	PopActiveSnapshot();
	store_close(store);
	if (count == 1)
		events_add(kind, account.id, 0, clock_now(),
				   detail_of_refusal(name, refusal, members, 1));
	/* the next call, even one of the same statement, counts on */
	CommandCounterIncrement();
	*account_id = account.id;
	return count;
}
