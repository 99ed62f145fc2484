/*
 * events.c
 *	  Events and NOTIFY credits_event.
 */
#include "credits.h"

#include "ledger/events.h"

#include "access/xact.h"
#include "commands/async.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* NOTIFY_PAYLOAD_MAX_LENGTH of async.c, with the default block size */
#define MAX_PAYLOAD_BYTES 7999

/*
 * Inserts an event, through a store or by itself, and returns its id.
 *
 * The transaction gets its own id before the event does: so whoever knows which id
 * was drawn last, and then which transaction began last, knows all transactions
 * that can have drawn the ids up to there.  Readers rely on that, see feed.c.
 */
static int64
record(Store *store, const char *kind, int64 account_id, int64 transaction_id,
	   TimestampTz at, Jsonb *detail)
{
	FullTransactionId xid = GetTopFullTransactionId();
	Event		event = {
		.id = store_next_id(&events_table),
		.account_id = account_id,
		.transaction_id = transaction_id,
		.created_at = at,
		.kind = kind,
		.detail = detail
	};
	EventOrder	order = {
		.event_id = event.id,
		.xid = U64FromFullTransactionId(xid),
		.system = rows_system()
	};

	if (store)
	{
		store_insert(store, &events_table, &event);
		store_insert(store, &event_order_table, &order);
	}
	else
	{
		store_insert_alone(&events_table, &event);
		store_insert_alone(&event_order_table, &order);
	}
	return event.id;
}

/*
 * Inserts an event and returns its id.
 */
int64
events_add(const char *kind, int64 account_id, int64 transaction_id,
		   TimestampTz at, Jsonb *detail)
{
	return record(NULL, kind, account_id, transaction_id, at, detail);
}

/*
 * Returns whether an account has an event of this kind, which must be one of a
 * failure, and detail that was not recorded before a given time.  Uses the active
 * snapshot.
 */
bool
events_has_failure(int64 account_id, const char *kind, const Jsonb *detail,
				   TimestampTz since)
{
	StoreScan	scan;
	Event		event;
	bool		found = false;

	scan_begin(&scan, NULL, &events_failed, GetActiveSnapshot(),
			   BY_INT64(account_id));
	while (!found && scan_peek(&scan, BackwardScanDirection, &event) &&
		   event.created_at >= since)
		found = strcmp(event.kind, kind) == 0 &&
			compareJsonbContainers(&event.detail->root,
								   unconstify(JsonbContainer *,
											  &detail->root)) == 0;
	scan_end(&scan);
	return found;
}

/*
 * Returns the payload of NOTIFY credits_event.
 */
static char *
announcement(const char *kind, int64 event_id, const char *account,
			 int64 transaction_id, TimestampTz at, const Jsonb *detail)
{
	JsonObject	json;

	json_begin(&json);
	json_cstring(&json, "kind", kind);
	json_int64(&json, "event_id", event_id);
	if (account)
		json_cstring(&json, "account", account);
	if (transaction_id != 0)
		json_int64(&json, "transaction_id", transaction_id);
	json_time(&json, "at", at);
	if (detail)
		json_jsonb(&json, "detail", detail);
	else
		json_bool(&json, "truncated", true);
	return json_to_cstring(json_document(&json));
}

/*
 * Sends NOTIFY credits_event.  If the detail is too long for a notification it
 * is left out; listeners can read it from the event.
 */
static void
notify_event(const char *kind, int64 event_id, const char *account,
			 int64 transaction_id, TimestampTz at, const Jsonb *detail)
{
	char	   *payload = announcement(kind, event_id, account,
									   transaction_id, at, detail);

	if (strlen(payload) > MAX_PAYLOAD_BYTES)
		payload = announcement(kind, event_id, account, transaction_id, at,
							   NULL);
	Async_Notify("credits_event", payload);
}

/*
 * Inserts an event and sends NOTIFY credits_event.  The detail begins with the
 * name of the account, if the event concerns one.  Returns the id of the event.
 */
int64
events_announce(const char *kind, int64 account_id, int64 transaction_id,
				TimestampTz at, JsonObject *members)
{
	Account		account;
	char	   *name = NULL;
	JsonObject	json;
	Jsonb	   *detail;
	int64		id;

	json_begin(&json);
	if (account_id != 0 &&
		rows_find_account(NULL, store_snapshot(false), NULL, account_id,
						  &account))
	{
		name = rows_account_name(&account);
		json_cstring(&json, "account", name);
	}
	json_members(&json, members);
	detail = json_document(&json);
	id = events_add(kind, account_id, transaction_id, at, detail);
	notify_event(kind, id, name, transaction_id, at, detail);
	return id;
}

/* An event to be inserted when its posting is written */
typedef struct Announcement
{
	const char *kind;
	int64		transaction_id;
	TimestampTz at;
	Jsonb	   *detail;
} Announcement;

/*
 * Inserts an event and sends its notification, when the posting is written.
 */
static void
write_announcement(Posting *posting, void *row)
{
	Announcement *a = row;
	int64		id = record(posting->store, a->kind, posting->account.id,
							a->transaction_id, a->at, a->detail);

	notify_event(a->kind, id, rows_account_name(&posting->account),
				 a->transaction_id, a->at, a->detail);
}

/*
 * Registers an event about the posting's account, to be inserted and announced
 * when the posting is written.
 */
void
events_announce_with(Posting *posting, const char *kind, int64 transaction_id,
					 JsonObject *detail)
{
	Announcement *a = palloc(sizeof(Announcement));

	a->kind = kind;
	a->transaction_id = transaction_id;
	a->at = posting->now;
	a->detail = json_document(detail);
	posting_defer(posting, write_announcement, a);
}
