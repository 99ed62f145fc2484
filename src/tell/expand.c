/*
 * expand.c
 *	  Making deliveries from events.
 *
 * Whoever takes deliveries first reads the events that are new, as a consumer of
 * the feed, and inserts a delivery for each contact that is to be told of one.
 * There is one such reader at a time: others take what there is.  So a spend writes
 * its event and nothing else, and no error here can refuse one.
 *
 * After a restore, the consumer reads some events again.  A unique index on event
 * and contact makes the delivery once, and the id of the message is made from the
 * same facts, so that it is the same even if the first delivery was lost.
 *
 * Tested in test/sql/deliveries.sql.
 */
#include "credits.h"

#include "store/statements.h"
#include "tell/expand.h"
#include "tell/feed.h"
#include "tell/preferences.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* how many events are read in one call, so that taking a few takes no time */
#define MAX_EVENTS_PER_CALL 200

/* bytes of a digest that become a message id, two characters each */
#define MESSAGE_ID_BYTES 16

static SqlStatement find_contacts = {
	.text = "SELECT c.id, c.channel, c.verified, c.created_at "
	"FROM credits.contacts AS c WHERE c.account_id = $1 "
	"AND c.disabled_at IS NULL ORDER BY c.id",
	.types = (const Oid[]) {INT8OID, InvalidOid}
};

/*
 * Returns the id of the message about an event to a contact.
 */
char *
expand_message_id(const Event *event, int64 contact_id)
{
	char	   *facts = psprintf(INT64_FORMAT " " INT64_FORMAT " " INT64_FORMAT " %s",
								 event->id, contact_id, event->created_at,
								 event->kind);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char	   *id = palloc(4 + 2 * MESSAGE_ID_BYTES + 1);
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (uint8 *) facts, strlen(facts)) < 0 ||
		pg_cryptohash_final(context, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute a digest: %s", pg_cryptohash_error(context));
	pg_cryptohash_free(context);
	memcpy(id, "msg_", 4);
	id[4 + hex_encode((char *) digest, MESSAGE_ID_BYTES, id + 4)] = '\0';
	return id;
}

/*
 * Returns the level of an event that is an alert at one, NULL if it is another.
 */
static char *
level_of(const Event *event)
{
	JsonbValue	value;

	if ((strcmp(event->kind, "low_balance") != 0 &&
		 strcmp(event->kind, "balance_recovered") != 0) ||
		!JB_ROOT_IS_OBJECT(event->detail) ||
		getKeyJsonValueFromContainer(&event->detail->root, "level", 5, &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/*
 * Returns whether an account was told of the same level a short time before.  Not
 * only what was sent counts: what is waiting will be.  What was given up or canceled
 * told nobody.
 */
static bool
is_cooling_down(const Event *event, const char *level)
{
	Interval   *cooldown = clock_alert_cooldown();
	StoreScan	scan;
	Delivery	last;
	bool		found;

	if (level == NULL || cooldown == NULL)
		return false;
	scan_begin(&scan, NULL, &deliveries_by_level, GetActiveSnapshot(),
			   BY_INT64(event->account_id), BY_TEXT(cstring_to_text(event->kind)),
			   BY_TEXT(cstring_to_text(level)),
			   BY_TIME_AFTER(clock_before(event->created_at, cooldown)));
	do
		found = scan_peek(&scan, BackwardScanDirection, &last);
	while (found && (last.event_id >= event->id || last.status == DELIVERY_DEAD ||
					 last.status == DELIVERY_CANCELED ||
					 last.status == DELIVERY_EXPIRED));
	scan_end(&scan);
	return found;
}

/*
 * Inserts the deliveries of an event, unless they are there already.
 */
static void
expand_event(Store *store, const Event *event)
{
	Datum		account_id = Int64GetDatum(event->account_id);
	char	   *level = level_of(event);
	TimestampTz now = clock_now();
	SqlResult  *contacts;
	uint64		i;

	if (event->account_id == 0 || is_cooling_down(event, level))
		return;
	contacts = statements_run(&find_contacts, &account_id, NULL);
	for (i = 0; i < contacts->nrows; i++)
	{
		bool		isnull;
		Delivery	delivery = {
			.event_id = event->id,
			.account_id = event->account_id,
			.contact_id = DatumGetInt64(statements_value(contacts, i, 1, &isnull)),
			.template_id = -1,
			.event_at = event->created_at,
			.waiting_since = event->created_at,
			.channel = NAME_FIND(channel_names,
								 TextDatumGetCString(statements_value(contacts, i, 2,
																	  &isnull))),
			.kind = unconstify(char *, event->kind),
			.level = level
		};

		/* a contact is told of nothing that happened before it was there */
		if (delivery.channel == CHANNEL_UNKNOWN ||
			event->created_at < DatumGetTimestampTz(statements_value(contacts, i, 4,
																	 &isnull)) ||
			!(DatumGetBool(statements_value(contacts, i, 3, &isnull)) ||
			  channels_reach_unverified(delivery.channel)) ||
			!preferences_allow(event->account_id, event->kind, delivery.channel))
			continue;
		delivery.id = store_next_id(&deliveries_table);
		delivery.message_id = expand_message_id(event, delivery.contact_id);
		delivery.due_at = preferences_not_before(event->account_id, event->kind, now);
		(void) store_insert_unless(store, &deliveries_by_event_id, &delivery);
	}
}

/*
 * Reads events that nobody has read for this before, and makes their deliveries.
 */
void
expand_events(Store *store)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits deliveries",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	FeedPage   *page = feed_take(FEED_DELIVERIES, MAX_EVENTS_PER_CALL);

	if (page)
	{
		int			i;

		for (i = 0; i < page->nevents; i++)
		{
			CHECK_FOR_INTERRUPTS();
			/* the snapshot shows the deliveries of the events before */
			PushActiveSnapshot(store_snapshot(true));
			store_begin_changes(store);
			expand_event(store, &page->events[i]);
			store_end_changes(store);
			PopActiveSnapshot();
		}
		feed_taken(page, page->nevents);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
