/*
 * deliveries.c
 *	  Deliveries: what people are to be told, taken and ended by workers.
 *
 * A worker takes deliveries, sends them, and says what became of each.  Taking one
 * moves its due_at to the end of a lease: a worker that dies loses nothing, since
 * it is due again then.  The lease is a random number, which the worker has to
 * show: after somebody else has taken the delivery, it is another one.
 *
 * Rows are found by a partial index on what is waiting, so that what has ended
 * costs nothing, and through the store and not by SQL: a cached plan made while the
 * table was small would stay in use after it has grown.
 *
 * Whether somebody wants to be told, and whether it is quiet, is looked up when a
 * delivery is made and again when it is taken.
 *
 * Tested in test/sql/deliveries.sql, in test/specs/deliveries.spec, and with
 * workers that are killed in test/t/deliveries.pl.
 */
#include "credits.h"

#include "store/statements.h"
#include "tell/deliveries.h"
#include "tell/expand.h"
#include "tell/preferences.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_take_deliveries);
PG_FUNCTION_INFO_V1(credits_delivery_sent);
PG_FUNCTION_INFO_V1(credits_delivery_failed);
PG_FUNCTION_INFO_V1(credits_replay_delivery);

#define MAX_DELIVERIES 1000
#define MAX_ERROR_BYTES 1000

/* a lease that is longer is rather a mistake */
#define MAX_LEASE_DAYS 1

/*
 * The second try comes after FIRST_DELAY, and each one after that after three times
 * as long, give or take JITTER: ten tries take about three days.
 */
#define FIRST_DELAY (30 * USECS_PER_SEC)
#define MAX_DELAY (30 * USECS_PER_DAY)
#define JITTER 0.25

/*
 * While a contact is not verified, a delivery is put off for as long as it has
 * waited already, but no longer than this: somebody may verify it any time.
 */
#define MAX_UNVERIFIED_DELAY USECS_PER_HOUR

/*
 * Rows that one call of credits_take_deliveries changes at most, for each row that it
 * may return, and at least: what is put off or canceled is not returned.
 */
#define CHANGES_PER_ROW 10
#define MIN_CHANGES 1000

static const char *const delivery_status_names[] = {
	"waiting", "sent", "dead", "canceled"
};

static const StoreColumn delivery_columns[] = {
	COLUMN_INT64(Delivery, id),
	COLUMN_INT64(Delivery, event_id),
	COLUMN_INT64(Delivery, account_id),
	COLUMN_INT64(Delivery, contact_id),
	COLUMN_TIME(Delivery, event_at),
	COLUMN_TIME(Delivery, due_at),
	COLUMN_TIME(Delivery, ended_at, NULL_IS(0)),
	COLUMN_INT64(Delivery, lease, NULL_IS(0)),
	COLUMN_INT32(Delivery, attempts),
	COLUMN_ENUM(Delivery, channel, channel_names),
	COLUMN_ENUM(Delivery, status, delivery_status_names),
	COLUMN_CSTRING(Delivery, kind),
	COLUMN_CSTRING(Delivery, message_id),
	COLUMN_CSTRING(Delivery, level, NULL_IF_ZERO),
	COLUMN_CSTRING(Delivery, error, NULL_IF_ZERO)
};

StoreTable	deliveries_table = {
	.name = "deliveries",
	.sequence = "deliveries_id_seq",
	ROWS_OF(Delivery, delivery_columns)
};

static StoreIndex deliveries_by_id = {
	&deliveries_table, "deliveries_pkey", {"id"},.unique = true
};
StoreIndex	deliveries_by_event_id = {
	&deliveries_table, "deliveries_event_id_idx", {"event_id", "contact_id"},
	.unique = true
};
static StoreIndex deliveries_by_due_at = {
	&deliveries_table, "deliveries_due_at_idx", {"channel", "due_at", "id"},
	.predicate = "(status = 'waiting'::text)"
};
StoreIndex	deliveries_by_level = {
	&deliveries_table, "deliveries_level_idx",
	{"account_id", "kind", "level", "event_at"},
	.predicate = "(level IS NOT NULL)"
};

/* What became of a delivery that a scan has found */
typedef enum TakeResult
{
	PASSED_OVER,				/* others have it */
	NOT_TAKEN,					/* put off, or ended */
	TAKEN
} TakeResult;

/* What a function does about a delivery that was locked */
typedef enum ChangeResult
{
	CHANGE_REFUSED,				/* nothing: it returns false */
	CHANGE_REPEATED,			/* nothing: it returns true */
	CHANGE_MADE
} ChangeResult;

/* A contact, as far as a message needs it */
typedef struct Recipient
{
	bool		found;
	bool		verified;
	Datum		address;
	bool		no_address;
	Datum		locale;
	bool		no_locale;
} Recipient;

static SqlStatement find_recipient = {
	.text = "SELECT c.verified, c.address, c.locale FROM credits.contacts AS c "
	"WHERE c.id = $1 AND c.channel = $2",
	.types = (const Oid[]) {INT8OID, TEXTOID, InvalidOid}
};

/*
 * Returns a random number above 0.
 */
static int64
new_lease(void)
{
	int64		lease = 0;

	while (lease == 0)
	{
		random_fill(&lease, sizeof(lease));
		lease &= PG_INT64_MAX;
	}
	return lease;
}

/*
 * Ends a delivery that was locked.
 */
static void
end_delivery(Delivery *delivery, DeliveryStatus status)
{
	delivery->status = status;
	delivery->ended_at = clock_now();
	if (status != DELIVERY_SENT)
		delivery->lease = 0;
}

/*
 * Ends a delivery that was locked, and says why.
 */
static void
end_because(Delivery *delivery, DeliveryStatus status, const char *error)
{
	delivery->error = unconstify(char *, error);
	end_delivery(delivery, status);
}

/*
 * Returns how long to wait after a number of failed attempts.
 */
static int64
delay_after(int attempts)
{
	double		delay = FIRST_DELAY;
	int			i;

	for (i = 1; i < attempts && delay < MAX_DELAY; i++)
		delay *= 3;
	delay = Min(delay, MAX_DELAY);
	return (int64) (delay * (1 - JITTER + 2 * JITTER * pg_prng_double(&pg_global_prng_state)));
}

/*
 * Puts off a delivery that was locked and whose contact is not verified.
 */
static void
put_off_unverified(Delivery *delivery, TimestampTz now)
{
	int64		waited = now - delivery->event_at;

	delivery->due_at = now + Max(delay_after(1), Min(waited, MAX_UNVERIFIED_DELAY));
	delivery->lease = 0;
	delivery->error = "the contact is not verified";
}

/*
 * Finds the contact of a delivery.
 */
static void
find_contact(const Delivery *delivery, Recipient *to)
{
	Datum		values[2];
	SqlResult  *result;
	bool		isnull;

	values[0] = Int64GetDatum(delivery->contact_id);
	values[1] = CStringGetTextDatum(channel_names[delivery->channel]);
	result = statements_run(&find_recipient, values, NULL);
	to->found = result->nrows > 0;
	if (!to->found)
		return;
	to->verified = DatumGetBool(statements_value(result, 0, 1, &isnull));
	to->address = statements_value(result, 0, 2, &to->no_address);
	to->locale = statements_value(result, 0, 3, &to->no_locale);
}

/*
 * Decides about a delivery that is due: takes it, puts it off, or ends it.  Returns
 * whether it is taken.
 */
static bool
take_or_put_off(Delivery *delivery, const Recipient *to, const Event *event,
				TimestampTz now, TimestampTz until, int64 lease)
{
	TimestampTz not_before;

	/* otherwise, a message that kills its worker would be tried for ever */
	if (delivery->lease != 0 && delivery->attempts >= setting_delivery_attempts)
		end_because(delivery, DELIVERY_DEAD, "the lease of the last attempt ran out");
	else if (event == NULL)
		end_because(delivery, DELIVERY_CANCELED, "the event was deleted");
	else if (!to->found)
		end_because(delivery, DELIVERY_CANCELED, "the contact was removed");
	else if (!preferences_allow(delivery->account_id, delivery->kind,
								delivery->channel))
		end_because(delivery, DELIVERY_CANCELED,
					"the account is no longer told of this kind by this channel");
	else if (!to->verified && !channels_reach_unverified(delivery->channel))
		put_off_unverified(delivery, now);
	else if ((not_before = preferences_not_before(delivery->account_id,
												  delivery->kind, now)) > now)
	{
		delivery->due_at = not_before;
		delivery->lease = 0;
	}
	else
	{
		delivery->due_at = until;
		delivery->lease = lease;
		delivery->attempts++;
		return true;
	}
	return false;
}

/*
 * Returns a delivery that was taken as a row of a result.
 */
static void
return_delivery(ReturnSetInfo *result, const Delivery *delivery,
				const Recipient *to, const Event *event)
{
	Account		account;
	Datum		values[11];
	bool		isnull[11] = {false};

	values[0] = Int64GetDatum(delivery->id);
	values[1] = Int64GetDatum(delivery->lease);
	values[2] = CStringGetTextDatum(delivery->message_id);
	values[3] = Int32GetDatum(delivery->attempts);
	isnull[4] = !rows_find_account(NULL, GetActiveSnapshot(), NULL,
								   delivery->account_id, &account);
	values[4] = isnull[4] ? (Datum) 0 : PointerGetDatum(account.name);
	values[5] = to->address;
	isnull[5] = to->no_address;
	values[6] = to->locale;
	isnull[6] = to->no_locale;
	values[7] = Int64GetDatum(delivery->event_id);
	values[8] = CStringGetTextDatum(delivery->kind);
	values[9] = TimestampTzGetDatum(event->created_at);
	values[10] = JsonbPGetDatum(event->detail);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * Deals with a delivery that a scan has found.
 */
static TakeResult
deal_with(Store *store, Delivery *delivery, TimestampTz now, TimestampTz until,
		  int64 lease, ReturnSetInfo *result)
{
	Snapshot	snapshot = GetActiveSnapshot();
	Channel		channel = delivery->channel;
	Recipient	to = {0};
	Event		event;
	bool		has_event;
	bool		taken;

	/* others have locked it, or have taken or ended it since the snapshot */
	if (store_lock(store, &deliveries_table, snapshot, delivery, true) != TM_Ok ||
		delivery->status != DELIVERY_WAITING || delivery->channel != channel ||
		delivery->due_at > now)
		return PASSED_OVER;
	has_event = scan_find(NULL, &events_by_id, snapshot, &event,
						  BY_INT64(delivery->event_id));
	find_contact(delivery, &to);
	taken = take_or_put_off(delivery, &to, has_event ? &event : NULL, now, until,
							lease);
	store_write(store, &deliveries_table, snapshot, delivery);
	if (taken)
		return_delivery(result, delivery, &to, &event);
	return taken ? TAKEN : NOT_TAKEN;
}

/*
 * Takes up to max_rows deliveries of a channel.
 */
static void
take_due(Store *store, Channel channel, int max_rows, TimestampTz until,
		 ReturnSetInfo *result)
{
	TimestampTz now = clock_now();
	int64		lease = new_lease();
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits delivery",
												  ALLOCSET_DEFAULT_SIZES);
	StoreScan	scan;
	int			max_changes = Max(CHANGES_PER_ROW * max_rows, MIN_CHANGES);
	int			nchanges = 0;
	int			n = 0;

	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	scan_begin(&scan, NULL, &deliveries_by_due_at, GetActiveSnapshot(),
			   BY_TEXT(cstring_to_text(channel_names[channel])), BY_TIME_UNTIL(now));
	while (n < max_rows && nchanges < max_changes)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Delivery	delivery;
		bool		found = scan_read(&scan, ForwardScanDirection, &delivery);

		CHECK_FOR_INTERRUPTS();
		if (found)
		{
			TakeResult	outcome = deal_with(store, &delivery, now, until, lease,
											result);

			nchanges += outcome != PASSED_OVER;
			n += outcome == TAKEN;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (!found)
			break;
	}
	scan_end(&scan);
	store_end_changes(store);
	PopActiveSnapshot();
	MemoryContextDelete(context);
}

/*
 * Returns when a lease ends that begins now, by an argument.
 */
static TimestampTz
arg_lease(FunctionCallInfo fcinfo, int n)
{
	TimestampTz now = clock_now();
	Interval   *lease = arg_interval(fcinfo, n, "lease");
	TimestampTz until = clock_after(now, lease);

	if (until <= now || until > now + MAX_LEASE_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease must be above 0, and at most %d day", MAX_LEASE_DAYS),
				 errdetail("It would end at %s.", clock_show(until)),
				 errhint("Pass the time that a worker needs for what it takes, such as '1 minute'.")));
	return until;
}

/*
 * SQL function: takes deliveries of a channel.
 */
Datum
credits_take_deliveries(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Channel		channel = (Channel) ARG_CHOICE(0, "channel", channel_names);
	int			max_rows;
	TimestampTz until;
	Store	   *store;

	max_rows = arg_max_rows(fcinfo, 1, MAX_DELIVERIES,
							"Pass a value for max_rows.",
							"Take as many as can be sent within the lease.");
	until = arg_lease(fcinfo, 2);
	store_check_writable("credits_take_deliveries()");
	store_lock_table(&deliveries_table);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	store = store_open();
	expand_events(store);
	take_due(store, channel, max_rows, until, result);
	store_close(store);
	return (Datum) 0;
}

/*
 * Finds and locks a delivery by its id, an argument.
 */
static void
lock_delivery(FunctionCallInfo fcinfo, Store *store, Delivery *delivery)
{
	int64		id = arg_id(fcinfo, 0, "delivery_id");
	TM_Result	locked = TM_Deleted;

	if (scan_find(NULL, &deliveries_by_id, GetActiveSnapshot(), delivery,
				  BY_INT64(id)))
		locked = store_lock(store, &deliveries_table, GetActiveSnapshot(), delivery,
							false);
	if (locked == TM_Deleted)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("delivery " INT64_FORMAT " does not exist", id),
				 errhint("Pass a delivery_id of credits_take_deliveries or credits.delivery_list.")));
	if (locked != TM_Ok)
		store_raise_changed(&deliveries_table, delivery);
}

/* How a delivery that was locked is changed */
typedef ChangeResult (*DeliveryChange) (FunctionCallInfo fcinfo, Delivery *delivery);

/*
 * Changes a delivery.  Returns whether it is as asked for, for an SQL function.
 */
static Datum
change_delivery(FunctionCallInfo fcinfo, const char *function,
				DeliveryChange change)
{
	Store	   *store;
	Delivery	delivery;
	ChangeResult done;

	store_check_writable(function);
	store_lock_table(&deliveries_table);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	lock_delivery(fcinfo, store, &delivery);
	done = change(fcinfo, &delivery);
	if (done == CHANGE_MADE)
		store_write(store, &deliveries_table, GetActiveSnapshot(), &delivery);
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
	PG_RETURN_BOOL(done != CHANGE_REFUSED);
}

/*
 * Returns whether a delivery is waiting and the lease, an argument, holds it.
 */
static bool
is_held(FunctionCallInfo fcinfo, const Delivery *delivery)
{
	return delivery->status == DELIVERY_WAITING && delivery->lease != 0 &&
		delivery->lease == PG_GETARG_INT64(1);
}

/*
 * Records that a delivery was sent.
 */
static ChangeResult
record_sent(FunctionCallInfo fcinfo, Delivery *delivery)
{
	/* the worker may not know whether its first call has committed */
	if (delivery->status == DELIVERY_SENT && delivery->lease == PG_GETARG_INT64(1))
		return CHANGE_REPEATED;
	if (!is_held(fcinfo, delivery))
		return CHANGE_REFUSED;
	end_delivery(delivery, DELIVERY_SENT);
	return CHANGE_MADE;
}

/*
 * Returns what a worker says about a failure, cut off if it is long: were it refused,
 * the failure would not be recorded.
 */
static char *
arg_error(FunctionCallInfo fcinfo, int n)
{
	text	   *error = PG_GETARG_TEXT_PP(n);

	return pnstrdup(VARDATA_ANY(error),
					pg_mbcliplen(VARDATA_ANY(error), VARSIZE_ANY_EXHDR(error),
								 MAX_ERROR_BYTES));
}

/*
 * Records that a delivery has failed: it is due again later, or given up.
 */
static ChangeResult
record_failed(FunctionCallInfo fcinfo, Delivery *delivery)
{
	if (!is_held(fcinfo, delivery))
		return CHANGE_REFUSED;
	delivery->error = arg_error(fcinfo, 2);
	if (PG_GETARG_BOOL(3) || delivery->attempts >= setting_delivery_attempts)
		end_delivery(delivery, DELIVERY_DEAD);
	else
	{
		delivery->lease = 0;
		delivery->due_at = clock_now() + delay_after(delivery->attempts);
	}
	return CHANGE_MADE;
}

/*
 * Has a delivery that has ended sent again.
 */
static ChangeResult
replay_ended(FunctionCallInfo fcinfo, Delivery *delivery)
{
	Event		event;

	if (delivery->status == DELIVERY_WAITING)
		return CHANGE_REFUSED;
	if (!scan_find(NULL, &events_by_id, GetActiveSnapshot(), &event,
				   BY_INT64(delivery->event_id)))
		ereport(ERROR,
				(errcode(ERRCODE_GONE),
				 errmsg("the event of delivery " INT64_FORMAT " was deleted",
						delivery->id),
				 errdetail("Its id was " INT64_FORMAT ".", delivery->event_id),
				 errhint("Raise credits.event_retention to keep events for longer.")));
	delivery->status = DELIVERY_WAITING;
	delivery->ended_at = 0;
	delivery->lease = 0;
	delivery->attempts = 0;
	delivery->due_at = clock_now();
	return CHANGE_MADE;
}

/*
 * SQL function: records that a delivery was sent.  Returns false if the lease does
 * not hold it.
 */
Datum
credits_delivery_sent(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(1))
		raise_null("lease_id");
	return change_delivery(fcinfo, "credits_delivery_sent()", record_sent);
}

/*
 * SQL function: records that a delivery has failed.  Returns false if the lease does
 * not hold it.
 */
Datum
credits_delivery_failed(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(1))
		raise_null("lease_id");
	if (PG_ARGISNULL(2))
		raise_null("error");
	(void) arg_bool(fcinfo, 3, "permanent");
	return change_delivery(fcinfo, "credits_delivery_failed()", record_failed);
}

/*
 * SQL function: has a delivery sent again.  Returns false if it is waiting.
 */
Datum
credits_replay_delivery(PG_FUNCTION_ARGS)
{
	return change_delivery(fcinfo, "credits_replay_delivery()", replay_ended);
}
