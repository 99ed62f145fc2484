/*
 * deliveries.c
 *	  Deliveries: what people are to be told, and how one ends or is put off.
 *
 * A worker takes deliveries (take.c), sends them, and says what became of each
 * (outcomes.c).  Taking one moves its due_at to the end of a lease: a worker that
 * dies loses nothing, since it is due again then.  The lease is a random number,
 * which the worker has to show: after somebody else has taken the delivery, it is
 * another one.
 *
 * Tested in test/sql/deliveries.sql, in test/specs/deliveries.spec, and with
 * workers that are killed in test/t/deliveries.pl.
 */
#include "credits.h"

#include "tell/deliveries.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"

#define MAX_ERROR_BYTES 1000

/*
 * The second try comes after FIRST_DELAY, and each one after that after three times
 * as long: ten tries take about three days.
 */
#define FIRST_DELAY (30 * USECS_PER_SEC)
#define MAX_DELAY (30 * USECS_PER_DAY)

/* all times vary at random by this share, so that not all come back at once */
#define JITTER 0.25

/*
 * Seconds between the tries of a webhook: the example of the Standard Webhooks
 * specification, ten tries within three days and some hours.
 */
static const int webhook_delays[] = {
	5, 5 * SECS_PER_MINUTE, 30 * SECS_PER_MINUTE, 2 * SECS_PER_HOUR,
	5 * SECS_PER_HOUR, 10 * SECS_PER_HOUR, 14 * SECS_PER_HOUR, 20 * SECS_PER_HOUR,
	24 * SECS_PER_HOUR
};

/*
 * While something is missing, such as a contact that is verified, a delivery is put
 * off for as long as it has waited already, but no longer than this: it may be there
 * any time.
 */
#define MAX_PUT_OFF USECS_PER_HOUR

static const char *const delivery_status_names[] = {
	"waiting", "sent", "dead", "canceled", "expired"
};

static const StoreColumn delivery_columns[] = {
	COLUMN_INT64(Delivery, id),
	COLUMN_INT64(Delivery, event_id),
	COLUMN_INT64(Delivery, account_id),
	COLUMN_INT64(Delivery, contact_id),
	COLUMN_INT64(Delivery, template_id, NULL_IS(-1)),
	COLUMN_TIME(Delivery, event_at),
	COLUMN_TIME(Delivery, waiting_since),
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

StoreIndex	deliveries_by_id = {
	&deliveries_table, "deliveries_pkey", {"id"},.unique = true
};
StoreIndex	deliveries_by_event_id = {
	&deliveries_table, "deliveries_event_id_idx", {"event_id", "contact_id"},
	.unique = true
};
StoreIndex	deliveries_by_due_at = {
	&deliveries_table, "deliveries_due_at_idx", {"channel", "due_at", "id"},
	.predicate = "(status = 'waiting'::text)"
};
StoreIndex	deliveries_by_level = {
	&deliveries_table, "deliveries_level_idx",
	{"account_id", "kind", "level", "event_at"},
	.predicate = "(level IS NOT NULL)"
};

/*
 * Ends a delivery that was locked; error says why, if it is not NULL.
 */
void
deliveries_end(Delivery *delivery, DeliveryStatus status, const char *error)
{
	if (error)
		delivery->error = unconstify(char *, error);
	delivery->status = status;
	delivery->ended_at = clock_now();
	if (status != DELIVERY_SENT)
		delivery->lease = 0;
}

/*
 * Varies a delay.
 */
static int64
vary(double delay)
{
	return (int64) (delay * (1 - JITTER + 2 * JITTER * pg_prng_double(&pg_global_prng_state)));
}

/*
 * Returns how long to wait after a number of failed attempts.
 */
static int64
delay_after(Channel channel, int attempts)
{
	double		delay = FIRST_DELAY;
	int			i;

	if (channel == CHANNEL_WEBHOOK)
	{
		i = Min(attempts, (int) lengthof(webhook_delays)) - 1;
		return vary((double) webhook_delays[Max(i, 0)] * USECS_PER_SEC);
	}
	for (i = 1; i < attempts && delay < MAX_DELAY; i++)
		delay *= 3;
	return vary(Min(delay, MAX_DELAY));
}

/*
 * Puts off a delivery that was locked, because something is missing.  That is no
 * attempt.
 */
void
deliveries_put_off(Delivery *delivery, TimestampTz now, const char *error)
{
	int64		waited = now - delivery->waiting_since;

	delivery->due_at = now + Max(vary(FIRST_DELAY), Min(waited, MAX_PUT_OFF));
	delivery->lease = 0;
	delivery->error = unconstify(char *, error);
}

/*
 * Records that an attempt has failed: the delivery is due again later, or given up.
 * What is said about the failure is cut off if it is long: were it refused, the
 * failure would not be recorded.
 */
void
deliveries_fail(Delivery *delivery, const char *error, int len, bool permanent)
{
	delivery->error = pnstrdup(error, pg_mbcliplen(error, len, MAX_ERROR_BYTES));
	if (permanent || delivery->attempts >= setting_delivery_attempts)
		deliveries_end(delivery, DELIVERY_DEAD, NULL);
	else
	{
		delivery->lease = 0;
		delivery->due_at = clock_now() +
			delay_after(delivery->channel, delivery->attempts);
	}
}
