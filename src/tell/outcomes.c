/*
 * outcomes.c
 *	  Deliveries, ended by the worker that has taken them, and replayed by hand.
 *
 * Tested in test/sql/deliveries.sql and test/specs/deliveries.spec.
 */
#include "credits.h"

#include "ledger/events.h"
#include "store/statements.h"
#include "tell/deliveries.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_delivery_sent);
PG_FUNCTION_INFO_V1(credits_delivery_failed);
PG_FUNCTION_INFO_V1(credits_replay_delivery);

/* RFC 9110, 15: of HTTP responses */
#define MIN_STATUS 100
#define MAX_STATUS 599
#define STATUS_GONE 410

static SqlStatement disable = {
	"UPDATE credits.contacts SET disabled_at = $3, changed_at = $3, role = session_user"
	" WHERE id = $1 AND channel = $2 AND disabled_at IS NULL",
	(const Oid[]) {INT8OID, TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* What a function does about a delivery that was locked */
typedef enum ChangeResult
{
	CHANGE_REFUSED,				/* nothing: it returns false */
	CHANGE_REPEATED,			/* nothing: it returns true */
	CHANGE_MADE
} ChangeResult;

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
	deliveries_end(delivery, DELIVERY_SENT, NULL);
	return CHANGE_MADE;
}

/*
 * Disables the contact of a delivery, unless it is disabled already, and writes an
 * event that says so.  The address is not in it.
 */
static void
disable_contact(const Delivery *delivery)
{
	TimestampTz now = clock_now();
	JsonObject	detail;
	Datum		values[3];

	values[0] = Int64GetDatum(delivery->contact_id);
	values[1] = CStringGetTextDatum(channel_names[delivery->channel]);
	values[2] = TimestampTzGetDatum(now);
	if (statements_run(&disable, values, NULL)->nrows == 0)
		return;
	json_begin(&detail);
	json_cstring(&detail, "channel", channel_names[delivery->channel]);
	json_int64(&detail, "contact_id", delivery->contact_id);
	json_int64(&detail, "delivery_id", delivery->id);
	events_announce("contact_disabled", delivery->account_id, 0, now, &detail);
}

/*
 * Returns whether the receiving side has said that it is gone: an endpoint, or a
 * device that a push service knows no more.
 */
static bool
is_gone(FunctionCallInfo fcinfo, const Delivery *delivery)
{
	return !PG_ARGISNULL(4) && PG_GETARG_INT32(4) == STATUS_GONE &&
		(delivery->channel == CHANNEL_WEBHOOK || delivery->channel == CHANNEL_PUSH);
}

/*
 * Records that a delivery has failed.
 */
static ChangeResult
record_failed(FunctionCallInfo fcinfo, Delivery *delivery)
{
	text	   *error = PG_GETARG_TEXT_PP(2);
	bool		gone = is_gone(fcinfo, delivery);

	if (!is_held(fcinfo, delivery))
		return CHANGE_REFUSED;
	deliveries_fail(delivery, VARDATA_ANY(error), VARSIZE_ANY_EXHDR(error),
					PG_GETARG_BOOL(3) || gone);
	if (gone)
		disable_contact(delivery);
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
	delivery->waiting_since = delivery->due_at;
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
	if (!PG_ARGISNULL(4) && (PG_GETARG_INT32(4) < MIN_STATUS ||
							 PG_GETARG_INT32(4) > MAX_STATUS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("status must be %d to %d", MIN_STATUS, MAX_STATUS),
				 errdetail("It is %d.", PG_GETARG_INT32(4)),
				 errhint("Pass the status of the HTTP response, or leave it out if there was none.")));
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
