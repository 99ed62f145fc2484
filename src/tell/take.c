/*
 * take.c
 *	  Deliveries, taken by workers: chosen, leased and rendered.
 *
 * Rows are found by a partial index on what is waiting, so that what has ended
 * costs nothing, and through the store and not by SQL: a cached plan made while the
 * table was small would stay in use after it has grown.
 *
 * Whether somebody wants to be told, and whether it is quiet, is looked up when a
 * delivery is made and again when it is taken.
 *
 * A message is made when its delivery is taken, and not before: it costs nothing
 * until then, and no table holds what was said to whom.  The delivery remembers the
 * version of the template, so that each attempt sends the same.  Where a message
 * cannot be made, that delivery fails and the others go on.
 *
 * Tested in test/sql/deliveries.sql, in test/specs/deliveries.spec, and with
 * workers that are killed in test/t/deliveries.pl.
 */
#include "credits.h"

#include "ledger/job.h"
#include "store/statements.h"
#include "tell/deliveries.h"
#include "tell/expand.h"
#include "tell/preferences.h"
#include "tell/render.h"
#include "tell/unsubscribe.h"
#include "tell/webhooks.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_take_deliveries);

#define MAX_DELIVERIES 1000

/* a lease that is longer is rather a mistake */
#define MAX_LEASE_DAYS 1

/*
 * Rows that one call changes at most, for each row that it may return, and at
 * least: what is put off or canceled is not returned.
 */
#define CHANGES_PER_ROW 10
#define MIN_CHANGES 1000

/* What became of a delivery that a scan has found */
typedef enum TakeResult
{
	PASSED_OVER,				/* others have it */
	NOT_TAKEN,					/* put off, or ended */
	TAKEN
} TakeResult;

/* A contact, as far as a message needs it */
typedef struct Recipient
{
	bool		found;
	bool		verified;
	bool		disabled;
	Datum		address;
	bool		no_address;
	Datum		locale;
	bool		no_locale;
} Recipient;

/* A call of credits_take_deliveries */
typedef struct Taking
{
	Store	   *store;
	Channel		channel;
	TimestampTz now;
	TimestampTz until;			/* when the lease ends */
	int64		lease;
	TemplateCache *templates;
	ReturnSetInfo *result;
} Taking;

/* A delivery that is dealt with, and what belongs to it */
typedef struct Taken
{
	Taking	   *taking;
	Delivery   *delivery;
	Recipient	to;
	Event		event;
	bool		has_event;
	char	   *unsubscribe_token;
	RenderedMessage message;
	Jsonb	   *headers;		/* NULL unless it is a webhook */
} Taken;

static SqlStatement find_recipient = {
	.text = "SELECT c.verified, c.address, c.locale, c.disabled_at IS NOT NULL "
	"FROM credits.contacts AS c "
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
	to->disabled = DatumGetBool(statements_value(result, 0, 4, &isnull));
}

/*
 * Returns whether a delivery has waited for so long that it is of no use any more.
 */
static bool
is_stale(const Delivery *delivery, TimestampTz now)
{
	Interval   *max_age = clock_delivery_max_age();

	return max_age && delivery->waiting_since < clock_before(now, max_age);
}

/*
 * Decides about a delivery that is due: takes it, puts it off, or ends it.  Returns
 * whether it is taken.
 */
static bool
take_or_put_off(Taken *taken)
{
	const Taking *taking = taken->taking;
	Delivery   *delivery = taken->delivery;
	const Recipient *to = &taken->to;
	TimestampTz not_before;

	/* otherwise, a message that kills its worker would be tried for ever */
	if (delivery->lease != 0 && delivery->attempts >= setting_delivery_attempts)
		deliveries_end(delivery, DELIVERY_DEAD,
					   "the lease of the last attempt ran out");
	else if (!taken->has_event)
		deliveries_end(delivery, DELIVERY_CANCELED, "the event was deleted");
	else if (!to->found)
		deliveries_end(delivery, DELIVERY_CANCELED, "the contact was removed");
	else if (to->disabled)
		deliveries_end(delivery, DELIVERY_CANCELED, "the contact is disabled");
	else if (!preferences_allow(delivery->account_id, delivery->kind,
								delivery->channel))
		deliveries_end(delivery, DELIVERY_CANCELED,
					   "the account is no longer told of this kind by this channel");
	else if (is_stale(delivery, taking->now))
		deliveries_end(delivery, DELIVERY_EXPIRED,
					   delivery->error ? NULL : "it has waited too long");
	else if (!to->verified && !channels_reach_unverified(delivery->channel))
		deliveries_put_off(delivery, taking->now, "the contact is not verified");
	else if (delivery->channel == CHANNEL_WEBHOOK &&
			 !webhooks_has_secret(delivery->contact_id, taking->now))
		deliveries_put_off(delivery, taking->now, "the webhook has no secret");
	else if ((not_before = preferences_not_before(delivery->account_id,
												  delivery->kind,
												  taking->now)) > taking->now)
	{
		delivery->due_at = not_before;
		delivery->lease = 0;
	}
	else
	{
		delivery->due_at = taking->until;
		delivery->lease = taking->lease;
		delivery->attempts++;
		return true;
	}
	return false;
}

/*
 * Makes the message of a delivery, with the template that it was made with before.
 */
static void
make_message(void *arg)
{
	Taken	   *taken = arg;
	Delivery   *delivery = taken->delivery;
	const Template *template = NULL;
	MessageFacts facts = {
		.kind = delivery->kind,
		.event_id = delivery->event_id,
		.created_at = taken->event.created_at,
		.detail = taken->event.detail
	};

	if (delivery->channel != CHANNEL_WEBHOOK)
	{
		template = render_find(taken->taking->templates, delivery->template_id,
							   delivery->kind, delivery->channel,
							   taken->to.no_locale ? NULL :
							   TextDatumGetCString(taken->to.locale));
		taken->unsubscribe_token = unsubscribe_token(delivery->account_id,
													 delivery->kind);
		facts.unsubscribe_token = taken->unsubscribe_token;
	}
	render_message(template, delivery->channel, &facts, &taken->message);
	if (template)
		delivery->template_id = template->id;
	else
		taken->headers = webhooks_headers(delivery->contact_id,
										  taken->taking->now,
										  delivery->message_id,
										  taken->message.body);
}

/*
 * Makes the message of a delivery that is taken.  If that is not possible, the
 * attempt has failed, and it is not taken.
 */
static bool
try_message(Taken *taken)
{
	ErrorData  *error = catch_error(make_message, taken);
	char	   *why;

	if (error == NULL)
		return true;
	if (job_is_ended_by(error))
		ReThrowError(error);
	why = psprintf("the message could not be made: %s",
				   error->message ? error->message : "");
	deliveries_fail(taken->delivery, why, strlen(why), false);
	return false;
}

/*
 * Sets a text of a row of a result.
 */
static void
set_text(Datum *value, bool *isnull, const char *s)
{
	*isnull = s == NULL;
	*value = s ? CStringGetTextDatum(s) : (Datum) 0;
}

/*
 * Returns a delivery that was taken as a row of a result.
 */
static void
return_delivery(const Taken *taken)
{
	const Delivery *delivery = taken->delivery;
	ReturnSetInfo *result = taken->taking->result;
	Account		account;
	Datum		values[17];
	bool		isnull[17] = {false};

	values[0] = Int64GetDatum(delivery->id);
	values[1] = Int64GetDatum(delivery->lease);
	values[2] = CStringGetTextDatum(delivery->message_id);
	values[3] = Int32GetDatum(delivery->attempts);
	isnull[4] = !rows_find_account(NULL, GetActiveSnapshot(), NULL,
								   delivery->account_id, &account);
	values[4] = isnull[4] ? (Datum) 0 : PointerGetDatum(account.name);
	values[5] = taken->to.address;
	isnull[5] = taken->to.no_address;
	values[6] = taken->to.locale;
	isnull[6] = taken->to.no_locale;
	values[7] = Int64GetDatum(delivery->event_id);
	values[8] = CStringGetTextDatum(delivery->kind);
	values[9] = TimestampTzGetDatum(taken->event.created_at);
	values[10] = JsonbPGetDatum(taken->event.detail);
	isnull[11] = delivery->template_id <= 0;
	values[11] = Int64GetDatum(delivery->template_id);
	set_text(&values[12], &isnull[12], taken->message.subject);
	set_text(&values[13], &isnull[13], taken->message.body);
	set_text(&values[14], &isnull[14], taken->message.html);
	set_text(&values[15], &isnull[15], taken->unsubscribe_token);
	isnull[16] = taken->headers == NULL;
	values[16] = PointerGetDatum(taken->headers);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * Deals with a delivery that a scan has found.
 */
static TakeResult
deal_with(Taking *taking, Delivery *delivery)
{
	Snapshot	snapshot = GetActiveSnapshot();
	Taken		taken = {.taking = taking,.delivery = delivery};
	bool		is_taken;

	/* others have locked it, or have taken or ended it since the snapshot */
	if (store_lock(taking->store, &deliveries_table, snapshot, delivery, true) != TM_Ok ||
		delivery->status != DELIVERY_WAITING ||
		delivery->channel != taking->channel || delivery->due_at > taking->now)
		return PASSED_OVER;
	taken.has_event = scan_find(NULL, &events_by_id, snapshot, &taken.event,
								BY_INT64(delivery->event_id));
	find_contact(delivery, &taken.to);
	is_taken = take_or_put_off(&taken) && try_message(&taken);
	store_write(taking->store, &deliveries_table, snapshot, delivery);
	if (is_taken)
		return_delivery(&taken);
	return is_taken ? TAKEN : NOT_TAKEN;
}

/*
 * Takes up to max_rows deliveries of a channel.
 */
static void
take_due(Taking *taking, int max_rows)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits delivery",
												  ALLOCSET_DEFAULT_SIZES);
	StoreScan	scan;
	int			max_changes = Max(CHANGES_PER_ROW * max_rows, MIN_CHANGES);
	int			nchanges = 0;
	int			n = 0;

	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(taking->store);
	scan_begin(&scan, NULL, &deliveries_by_due_at, GetActiveSnapshot(),
			   BY_TEXT(cstring_to_text(channel_names[taking->channel])),
			   BY_TIME_UNTIL(taking->now));
	while (n < max_rows && nchanges < max_changes)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Delivery	delivery;
		bool		found = scan_read(&scan, ForwardScanDirection, &delivery);

		CHECK_FOR_INTERRUPTS();
		if (found)
		{
			TakeResult	outcome = deal_with(taking, &delivery);

			nchanges += outcome != PASSED_OVER;
			n += outcome == TAKEN;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (!found)
			break;
	}
	scan_end(&scan);
	store_end_changes(taking->store);
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
	Taking		taking = {
		.channel = (Channel) ARG_CHOICE(0, "channel", channel_names),
		.result = (ReturnSetInfo *) fcinfo->resultinfo
	};
	int			max_rows = arg_max_rows(fcinfo, 1, MAX_DELIVERIES,
										"Pass a value for max_rows.",
										"Take as many as can be sent within the lease.");

	taking.until = arg_lease(fcinfo, 2);
	store_check_writable("credits_take_deliveries()");
	store_lock_table(&deliveries_table);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	taking.store = store_open();
	expand_events(taking.store);
	taking.now = clock_now();
	taking.lease = new_lease();
	taking.templates = render_make_cache();
	take_due(&taking, max_rows);
	store_close(taking.store);
	return (Datum) 0;
}
