/*
 * subscription_rows.c
 *	  Subscriptions, their periods and their plans as rows.
 *
 * In a posting they are read once and then changed in memory, like grants; they
 * are written with the account, whose lock guards them.
 */
#include "credits.h"

#include "calendar.h"
#include "periods.h"
#include "subscriptions.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

StoreTable	subscriptions_table = {
	.name = "subscriptions",
	.sequence = "subscriptions_id_seq",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID, InvalidOid
	}
};

StoreIndex	subscriptions_by_due_at = {&subscriptions_table, "subscriptions_due_at_idx"};
static StoreIndex subscriptions_by_id = {&subscriptions_table, "subscriptions_pkey"};
static StoreIndex subscriptions_by_external_id =
{&subscriptions_table, "subscriptions_external_id_key"};

/* columns of credits.periods */
enum
{
	Anum_periods_subscription_id = 1,
	Anum_periods_starts_at,
	Anum_periods_ends_at,
	Anum_periods_number,
	Anum_periods_account_id,
	Anum_periods_plan_id,
	Anum_periods_status,
	Anum_periods_credits,
	Anum_periods_given,
	Anum_periods_unused,
	Anum_periods_rolled,
	Anum_periods_rolled_grant_id,
	Anum_periods_transaction_id,
	Anum_periods_grant_ids,
	Natts_periods = Anum_periods_grant_ids
};

StoreTable	periods_table = {
	.name = "periods",
	.types = (const Oid[]) {
		INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
		TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8ARRAYOID, InvalidOid
	}
};

static StoreIndex periods_by_start = {&periods_table, "periods_pkey"};

StoreTable	plan_changes_table = {
	.name = "plan_changes",
	.types = (const Oid[]) {
		INT8OID, TIMESTAMPTZOID, TEXTOID, INT8OID, TEXTOID, NUMERICOID,
		InvalidOid
	}
};

static StoreIndex plan_changes_by_instant = {&plan_changes_table, "plan_changes_pkey"};

const char *const subscription_status_names[] = {
	"trialing", "active", "past_due", "unpaid", "paused", "canceled"
};

static const char *const period_status_names[] = {
	"granted", "skipped", "trial"
};

/*
 * Returns the position of a name, -1 if it is unknown.
 */
static int
position_of(Datum name, const char *const *names, int n)
{
	text	   *t = DatumGetTextPP(name);
	int			len = VARSIZE_ANY_EXHDR(t);
	int			i;

	for (i = 0; i < n; i++)
		if (strlen(names[i]) == (size_t) len &&
			memcmp(names[i], VARDATA_ANY(t), len) == 0)
			return i;
	return -1;
}

/* ------------------------------------------------------------------------
 * subscriptions
 */

/*
 * Raises the error for a subscription that does not exist.
 */
void
subscriptions_raise_unknown(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 errmsg("subscription " INT64_FORMAT " does not exist", id),
			 errhint("Look for it in view credits.subscription_list.")));
}

/*
 * Refuses to change a subscription that has ended.
 */
bool
subscriptions_refuse_ended(Posting *posting,
						   const Subscription *subscription)
{
	return refuse(&posting->refusal, ERRCODE_CONFLICT,
				  psprintf("subscription " INT64_FORMAT " has ended",
						   subscription->id),
				  psprintf("It ended at %s.",
						   timestamptz_to_str(subscription->ended_at)),
				  "Subscribe the account again with credits_subscribe.");
}

/*
 * Reads a subscription from a slot.
 */
static void
read_subscription(TupleTableSlot *slot, Subscription *s)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
	memset(s, 0, sizeof(Subscription));
#define INSTANT(a) (isnull[a] ? DT_NOEND : DatumGetTimestampTz(values[a]))
	s->tid = slot->tts_tid;
	s->id = DatumGetInt64(values[Anum_subscriptions_id]);
	s->account_id = DatumGetInt64(values[Anum_subscriptions_account_id]);
	s->plan_id = DatumGetInt64(values[Anum_subscriptions_plan_id]);
	s->external_id = isnull[Anum_subscriptions_external_id] ? NULL :
		DatumGetTextPCopy(values[Anum_subscriptions_external_id]);
	s->status = position_of(values[Anum_subscriptions_status],
							subscription_status_names,
							lengthof(subscription_status_names));
	s->by_payment =
		*VARDATA_ANY(DatumGetTextPP(values[Anum_subscriptions_collection])) == 'p';
	s->timezone = DatumGetTextPCopy(values[Anum_subscriptions_timezone]);
	s->anchor = DatumGetTimestampTz(values[Anum_subscriptions_anchor]);
	s->first_number = DatumGetInt64(values[Anum_subscriptions_first_number]);
	s->period_number = DatumGetInt64(values[Anum_subscriptions_period_number]);
	s->period_start =
		DatumGetTimestampTz(values[Anum_subscriptions_period_start]);
	s->period_end = DatumGetTimestampTz(values[Anum_subscriptions_period_end]);
	if (!isnull[Anum_subscriptions_next_plan_id])
		s->next_plan_id =
			DatumGetInt64(values[Anum_subscriptions_next_plan_id]);
	if (!isnull[Anum_subscriptions_next_proration])
		s->next_proration =
			TextDatumGetCString(values[Anum_subscriptions_next_proration]);
	s->cancel_at = INSTANT(Anum_subscriptions_cancel_at);
	s->cancel_expires = !isnull[Anum_subscriptions_cancel_credits] &&
		*VARDATA_ANY(DatumGetTextPP(values[Anum_subscriptions_cancel_credits])) == 'e';
	s->due_at = DatumGetTimestampTz(values[Anum_subscriptions_due_at]);
	s->created_at = DatumGetTimestampTz(values[Anum_subscriptions_created_at]);
	s->started_at = DatumGetTimestampTz(values[Anum_subscriptions_started_at]);
	s->ended_at = INSTANT(Anum_subscriptions_ended_at);
	s->metadata = isnull[Anum_subscriptions_metadata] ? NULL :
		DatumGetJsonbPCopy(values[Anum_subscriptions_metadata]);
#undef INSTANT
	if (s->status == SUBSCRIPTION_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("subscription " INT64_FORMAT " has an unknown status",
						s->id),
				 errdetail("It belongs to account " INT64_FORMAT ".",
						   s->account_id),
				 errhint("Restore table credits.subscriptions.")));
}

/*
 * Finds a subscription by an index on one column.
 */
static bool
find_subscription(Store *store, Snapshot snapshot, StoreIndex *index,
				  ScanKey key, Subscription *subscription)
{
	StoreScan	scan;
	TupleTableSlot *slot;

	store_scan(&scan, store, index, snapshot, key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		read_subscription(slot, subscription);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Finds a subscription by id with a snapshot.
 */
bool
subscriptions_read(Store *store, Snapshot snapshot, int64 id,
				   Subscription *subscription)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return find_subscription(store, snapshot, &subscriptions_by_id, &key,
							 subscription);
}

/*
 * Finds a subscription by id, as it is now.
 */
bool
subscriptions_find(int64 id, Subscription *subscription)
{
	bool		found;

	PushActiveSnapshot(store_snapshot(true));
	found = subscriptions_read(NULL, GetActiveSnapshot(), id, subscription);
	PopActiveSnapshot();
	return found;
}

/*
 * Finds a subscription by what another system calls it.
 */
bool
subscriptions_find_external(text *external_id, Subscription *subscription)
{
	ScanKeyData key;
	bool		found;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ,
						   PointerGetDatum(external_id));
	PushActiveSnapshot(store_snapshot(true));
	found = find_subscription(NULL, GetActiveSnapshot(),
							  &subscriptions_by_external_id, &key,
							  subscription);
	PopActiveSnapshot();
	return found;
}

/*
 * Returns a subscription of the posting's account, NULL if it has none of that
 * id.
 */
Subscription *
subscriptions_in(Posting *posting, int64 id)
{
	Subscription *subscription;
	ListCell   *lc;

	foreach(lc, posting->subscriptions)
	{
		subscription = lfirst(lc);
		if (subscription->id == id)
			return subscription;
	}
	subscription = palloc(sizeof(Subscription));
	if (!subscriptions_read(posting->store, posting->snapshot, id,
							subscription) ||
		subscription->account_id != posting->account.id)
		return NULL;
	posting->subscriptions = lappend(posting->subscriptions, subscription);
	return subscription;
}

/*
 * Raises the error for a row that changed although its account is locked.
 */
static void
raise_changed(const char *table, int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("A row of table \"credits.%s\" has changed past its account: subscription " INT64_FORMAT ".",
					   table, id),
			 errhint("Retry the transaction.")));
}

/*
 * Writes a subscription.
 */
static void
write_subscription(Posting *posting, void *row)
{
	Subscription *s = row;
	Datum		columns[Natts_subscriptions];
	bool		nulls[Natts_subscriptions] = {false};
	Datum	   *values = columns - 1;	/* by column number */
	bool	   *isnull = nulls - 1;

#define INSTANT(a, at) \
	(values[a] = TimestampTzGetDatum(at), isnull[a] = (at) == DT_NOEND)
	values[Anum_subscriptions_id] = Int64GetDatum(s->id);
	values[Anum_subscriptions_account_id] = Int64GetDatum(s->account_id);
	values[Anum_subscriptions_plan_id] = Int64GetDatum(s->plan_id);
	values[Anum_subscriptions_external_id] = PointerGetDatum(s->external_id);
	isnull[Anum_subscriptions_external_id] = s->external_id == NULL;
	values[Anum_subscriptions_status] =
		CStringGetTextDatum(subscription_status_names[s->status]);
	values[Anum_subscriptions_collection] =
		CStringGetTextDatum(s->by_payment ? "payment" : "clock");
	values[Anum_subscriptions_timezone] = PointerGetDatum(s->timezone);
	values[Anum_subscriptions_anchor] = TimestampTzGetDatum(s->anchor);
	values[Anum_subscriptions_first_number] = Int64GetDatum(s->first_number);
	values[Anum_subscriptions_period_number] =
		Int64GetDatum(s->period_number);
	values[Anum_subscriptions_period_start] =
		TimestampTzGetDatum(s->period_start);
	values[Anum_subscriptions_period_end] =
		TimestampTzGetDatum(s->period_end);
	values[Anum_subscriptions_next_plan_id] = Int64GetDatum(s->next_plan_id);
	isnull[Anum_subscriptions_next_plan_id] = s->next_plan_id == 0;
	isnull[Anum_subscriptions_next_proration] = s->next_proration == NULL;
	if (s->next_proration)
		values[Anum_subscriptions_next_proration] =
			CStringGetTextDatum(s->next_proration);
	INSTANT(Anum_subscriptions_cancel_at, s->cancel_at);
	values[Anum_subscriptions_cancel_credits] =
		CStringGetTextDatum(s->cancel_expires ? "expire" : "keep");
	isnull[Anum_subscriptions_cancel_credits] = s->cancel_at == DT_NOEND;
	values[Anum_subscriptions_due_at] = TimestampTzGetDatum(s->due_at);
	values[Anum_subscriptions_created_at] =
		TimestampTzGetDatum(s->created_at);
	values[Anum_subscriptions_started_at] =
		TimestampTzGetDatum(s->started_at);
	INSTANT(Anum_subscriptions_ended_at, s->ended_at);
	values[Anum_subscriptions_metadata] = PointerGetDatum(s->metadata);
	isnull[Anum_subscriptions_metadata] = s->metadata == NULL;
#undef INSTANT

	if (!ItemPointerIsValid(&s->tid))
		store_insert(posting->store, &subscriptions_table, columns, nulls);
	else if (store_update(posting->store, &subscriptions_table,
						  posting->snapshot, &s->tid, true, columns,
						  nulls) != TM_Ok)
		raise_changed("subscriptions", s->id);
}

/*
 * Has a subscription written with the account.
 */
void
subscriptions_changed(Posting *posting, Subscription *subscription)
{
	if (!subscription->changed)
		log_defer(posting, write_subscription, subscription);
	subscription->changed = true;
}

/*
 * Adds a new subscription to a posting, and gives it an id.
 */
void
subscriptions_add(Posting *posting, Subscription *subscription)
{
	ItemPointerSetInvalid(&subscription->tid);
	subscription->changed = false;
	subscription->id = posting->dry ? 0 : store_next_id(&subscriptions_table);
	subscription->account_id = posting->account.id;
	posting->subscriptions = lappend(posting->subscriptions, subscription);
	subscriptions_changed(posting, subscription);
}

/*
 * Returns when a period begins by the calendar of a plan.
 */
TimestampTz
subscriptions_start(const Subscription *subscription, const PlanTerms *plan,
					int64 number)
{
	return calendar_start(subscription->anchor, subscription->timezone,
						  plan->period, plan->every,
						  number - subscription->first_number);
}

/*
 * Sets when the clock next has something to do for a subscription.
 */
void
subscriptions_wake(Subscription *s)
{
	TimestampTz before = s->due_at;

	s->due_at = DT_NOEND;
	if (s->status == SUBSCRIPTION_CANCELED)
		return;
	if (s->status == SUBSCRIPTION_TRIALING ||
		(s->status == SUBSCRIPTION_ACTIVE && !s->by_payment))
		s->due_at = s->period_end;
	s->due_at = Min(s->due_at, s->cancel_at);
	/* it may be waiting to roll over what was paid before it began */
	if (s->by_payment)
		s->due_at = Min(s->due_at, before);
}

/* ------------------------------------------------------------------------
 * periods
 */

/*
 * Reads a period from a slot.
 */
static Period *
read_period(TupleTableSlot *slot)
{
	Period	   *p = palloc0(sizeof(Period));
	ArrayType  *grants;
	Datum	   *elements;
	Datum	   *values;
	int			i;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
#define NUMBER(a, none) (isnull[a] ? (none) : DatumGetInt64(values[a]))
	p->tid = slot->tts_tid;
	p->subscription_id = DatumGetInt64(values[Anum_periods_subscription_id]);
	p->starts_at = DatumGetTimestampTz(values[Anum_periods_starts_at]);
	p->ends_at = DatumGetTimestampTz(values[Anum_periods_ends_at]);
	p->number = DatumGetInt64(values[Anum_periods_number]);
	p->account_id = DatumGetInt64(values[Anum_periods_account_id]);
	p->plan_id = DatumGetInt64(values[Anum_periods_plan_id]);
	p->status = position_of(values[Anum_periods_status], period_status_names,
							lengthof(period_status_names));
	p->credits = DatumGetInt64(values[Anum_periods_credits]);
	p->given = DatumGetInt64(values[Anum_periods_given]);
	p->unused = NUMBER(Anum_periods_unused, -1);
	p->rolled = NUMBER(Anum_periods_rolled, -1);
	p->rolled_grant_id = NUMBER(Anum_periods_rolled_grant_id, 0);
	p->transaction_id = NUMBER(Anum_periods_transaction_id, 0);
#undef NUMBER
	grants = DatumGetArrayTypeP(values[Anum_periods_grant_ids]);
	deconstruct_array(grants, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, &p->ngrants);
	p->grant_ids = palloc(Max(p->ngrants, 1) * sizeof(int64));
	for (i = 0; i < p->ngrants; i++)
		p->grant_ids[i] = DatumGetInt64(elements[i]);
	if (p->status == PERIOD_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a period of subscription " INT64_FORMAT " has an unknown status",
						p->subscription_id),
				 errhint("Restore table credits.periods.")));
	return p;
}

/*
 * Adds a period to those of a posting, unless it is there already; returns the
 * one that is there.
 */
static Period *
remember(Posting *posting, Period *period)
{
	ListCell   *lc;

	foreach(lc, posting->periods)
	{
		Period	   *other = lfirst(lc);

		if (other->subscription_id == period->subscription_id &&
			other->starts_at == period->starts_at)
			return other;
	}
	posting->periods = lappend(posting->periods, period);
	return period;
}

/*
 * Returns a period of a subscription by when it begins, NULL if there is none.
 */
Period *
periods_in(Posting *posting, int64 subscription_id, TimestampTz starts_at)
{
	ListCell   *lc;
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	Period	   *period = NULL;

	foreach(lc, posting->periods)
	{
		period = lfirst(lc);
		if (period->subscription_id == subscription_id &&
			period->starts_at == starts_at)
			return period;
	}
	period = NULL;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(starts_at));
	store_scan(&scan, posting->store, &periods_by_start, posting->snapshot,
			   keys, 2);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		period = read_period(slot);
	store_scan_end(&scan);
	if (period)
		posting->periods = lappend(posting->periods, period);
	return period;
}

/*
 * Finds a period of a subscription by when it begins with a snapshot, past any
 * posting.
 */
bool
periods_read(Snapshot snapshot, int64 subscription_id, TimestampTz starts_at,
			 Period *period)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(starts_at));
	store_scan(&scan, NULL, &periods_by_start, snapshot, keys, 2);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		*period = *read_period(slot);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Returns the last period of a subscription that begins before an instant, NULL
 * if there is none.
 */
Period *
periods_before(Posting *posting, int64 subscription_id, TimestampTz at)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	Period	   *period = NULL;
	ListCell   *lc;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription_id));
	ScanKeyInit(&keys[1], 2, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(at));
	store_scan(&scan, posting->store, &periods_by_start, posting->snapshot,
			   keys, 2);
	slot = store_scan_next(&scan, BackwardScanDirection);
	if (slot)
		period = remember(posting, read_period(slot));
	store_scan_end(&scan);
	/* those that this posting makes are not in the table yet */
	foreach(lc, posting->periods)
	{
		Period	   *other = lfirst(lc);

		if (other->subscription_id == subscription_id &&
			other->starts_at < at &&
			(period == NULL || other->starts_at > period->starts_at))
			period = other;
	}
	return period;
}

/*
 * Returns all periods of a subscription, as pointers to Period.
 */
List *
periods_all(Posting *posting, int64 subscription_id)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	List	   *periods = NIL;
	ListCell   *lc;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription_id));
	store_scan(&scan, posting->store, &periods_by_start, posting->snapshot,
			   &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
		(void) remember(posting, read_period(slot));
	store_scan_end(&scan);
	foreach(lc, posting->periods)
	{
		Period	   *period = lfirst(lc);

		if (period->subscription_id == subscription_id)
			periods = lappend(periods, period);
	}
	return periods;
}

/*
 * Writes a period.
 */
static void
write_period(Posting *posting, void *row)
{
	Period	   *p = row;
	Datum		columns[Natts_periods];
	bool		nulls[Natts_periods] = {false};
	Datum	   *values = columns - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	Datum	   *grants = palloc(Max(p->ngrants, 1) * sizeof(Datum));
	int			i;

	for (i = 0; i < p->ngrants; i++)
		grants[i] = Int64GetDatum(p->grant_ids[i]);
#define NUMBER(a, value, none) \
	(values[a] = Int64GetDatum(value), isnull[a] = (value) == (none))
	values[Anum_periods_subscription_id] = Int64GetDatum(p->subscription_id);
	values[Anum_periods_starts_at] = TimestampTzGetDatum(p->starts_at);
	values[Anum_periods_ends_at] = TimestampTzGetDatum(p->ends_at);
	values[Anum_periods_number] = Int64GetDatum(p->number);
	values[Anum_periods_account_id] = Int64GetDatum(p->account_id);
	values[Anum_periods_plan_id] = Int64GetDatum(p->plan_id);
	values[Anum_periods_status] =
		CStringGetTextDatum(period_status_names[p->status]);
	values[Anum_periods_credits] = Int64GetDatum(p->credits);
	values[Anum_periods_given] = Int64GetDatum(p->given);
	NUMBER(Anum_periods_unused, p->unused, -1);
	NUMBER(Anum_periods_rolled, p->rolled, -1);
	NUMBER(Anum_periods_rolled_grant_id, p->rolled_grant_id, 0);
	NUMBER(Anum_periods_transaction_id, p->transaction_id, 0);
#undef NUMBER
	values[Anum_periods_grant_ids] =
		PointerGetDatum(construct_array(grants, p->ngrants, INT8OID,
										sizeof(int64), FLOAT8PASSBYVAL,
										TYPALIGN_DOUBLE));

	if (!ItemPointerIsValid(&p->tid))
		store_insert(posting->store, &periods_table, columns, nulls);
	else if (store_update(posting->store, &periods_table, posting->snapshot,
						  &p->tid, true, columns, nulls) != TM_Ok)
		raise_changed("periods", p->subscription_id);
}

/*
 * Has a period written with the account.
 */
void
periods_changed(Posting *posting, Period *period)
{
	if (!period->changed)
		log_defer(posting, write_period, period);
	period->changed = true;
}

/*
 * Makes a period that gives nothing yet and is not one of the posting's.
 */
Period *
periods_new(const Subscription *subscription, int64 number,
			TimestampTz starts_at, TimestampTz ends_at, int64 plan_id)
{
	Period	   *period = palloc0(sizeof(Period));

	ItemPointerSetInvalid(&period->tid);
	period->subscription_id = subscription->id;
	period->starts_at = starts_at;
	period->ends_at = ends_at;
	period->number = number;
	period->account_id = subscription->account_id;
	period->plan_id = plan_id;
	period->status = PERIOD_GRANTED;
	period->unused = period->rolled = -1;
	return period;
}

/*
 * Makes a period one of the posting's, to be written with the account.
 */
void
periods_keep(Posting *posting, Period *period)
{
	(void) remember(posting, period);
	periods_changed(posting, period);
}

/*
 * Writes that a subscription has another plan from an instant on.
 */
static void
write_plan_change(Posting *posting, void *row)
{
	PlanChanged *change = row;
	Datum		columns[Natts_plan_changes];
	bool		nulls[Natts_plan_changes] = {false};
	Datum	   *values = columns - 1;	/* by column number */

	values[Anum_plan_changes_subscription_id] =
		Int64GetDatum(change->subscription_id);
	values[Anum_plan_changes_at] = TimestampTzGetDatum(change->at);
	values[Anum_plan_changes_reference] =
		CStringGetTextDatum(change->reference);
	values[Anum_plan_changes_plan_id] = Int64GetDatum(change->plan_id);
	values[Anum_plan_changes_proration] =
		CStringGetTextDatum(change->proration);
	values[Anum_plan_changes_carried] = change->carried;
	nulls[Anum_plan_changes_carried - 1] = change->carried == 0;
	store_insert(posting->store, &plan_changes_table, columns, nulls);
}

/*
 * Has it written with the account that a subscription has a plan from an
 * instant on.
 */
PlanChanged *
periods_note_plan(Posting *posting, int64 subscription_id, TimestampTz at,
				  int64 plan_id, const char *proration, const char *reference)
{
	PlanChanged *change = palloc0(sizeof(PlanChanged));

	change->subscription_id = subscription_id;
	change->at = at;
	change->plan_id = plan_id;
	change->proration = proration;
	change->reference = reference;
	log_defer(posting, write_plan_change, change);
	return change;
}

/*
 * Tells whether a change of plan is known that is later than an instant.
 */
static bool
is_changed_after(Posting *posting, int64 subscription_id, TimestampTz at)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	bool		found;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription_id));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
				TimestampTzGetDatum(at));
	store_scan(&scan, posting->store, &plan_changes_by_instant,
			   posting->snapshot, keys, 2);
	found = store_scan_next(&scan, ForwardScanDirection) != NULL;
	store_scan_end(&scan);
	return found;
}

/*
 * Notes that a subscription has another plan from an instant on, and why.  That
 * is the one in force, unless a later change has come before this one.
 */
void
periods_change_plan(Posting *posting, Subscription *subscription,
					TimestampTz at, int64 plan_id, const char *proration,
					const char *reference)
{
	(void) periods_note_plan(posting, subscription->id, at, plan_id, proration,
							 reference);
	if (!is_changed_after(posting, subscription->id, at))
		subscription->plan_id = plan_id;
	subscriptions_changed(posting, subscription);
}

/*
 * Returns the plan that a subscription had just before an instant.
 */
const PlanTerms *
periods_plan_before(Posting *posting, const Subscription *subscription,
					TimestampTz at)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	int64		plan_id = subscription->plan_id;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription->id));
	ScanKeyInit(&keys[1], 2, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(at));
	store_scan(&scan, posting->store, &plan_changes_by_instant,
			   posting->snapshot, keys, 2);
	slot = store_scan_next(&scan, BackwardScanDirection);
	if (slot)
	{
		bool		isnull;

		plan_id = DatumGetInt64(slot_getattr(slot, Anum_plan_changes_plan_id,
											 &isnull));
	}
	store_scan_end(&scan);
	return plans_get(plan_id);
}
