/*
 * events.c
 *	  Events, NOTIFY low_balance and NOTIFY credits_event.
 *
 * An alert is raised when a balance falls below its threshold, and again when
 * it falls to zero.  It is raised only at these crossings, because a
 * transaction with notifications takes a cluster-wide lock when it commits.
 * Like any notification, it is sent only if the transaction commits.
 */
#include "credits.h"

#include "ledger/events.h"
#include "ledger/log.h"

#include "commands/async.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_alert);

/* NOTIFY_PAYLOAD_MAX_LENGTH of async.c, with the default block size */
#define MAX_PAYLOAD_BYTES 7999

/*
 * Inserts an event, through a store or by itself, and returns its id.
 */
static int64
record(Store *store, const char *kind, int64 account_id, int64 transaction_id,
	   TimestampTz at, Jsonb *detail)
{
	Event		event = {
		.id = store_next_id(&events_table),
		.account_id = account_id,
		.transaction_id = transaction_id,
		.created_at = at,
		.kind = kind,
		.detail = detail
	};

	if (store)
		store_insert(store, &events_table, &event);
	else
		store_insert_alone(&events_table, &event);
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
 * name of the account, if the event concerns one.
 */
void
events_announce(const char *kind, int64 account_id, int64 transaction_id,
				TimestampTz at, JsonObject *members)
{
	Account		account;
	char	   *name = NULL;
	JsonObject	json;
	Jsonb	   *detail;

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
	notify_event(kind,
				 events_add(kind, account_id, transaction_id, at, detail),
				 name, transaction_id, at, detail);
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

/*
 * Trigger function on credits.accounts: sends NOTIFY low_balance and inserts
 * an event if the balance falls below the threshold or to zero.
 */
Datum
credits_alert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleTableSlot *old;
	TupleTableSlot *new;
	JsonObject	json;
	Jsonb	   *detail;
	bool		isnull;
	int64		id;
	int64		before;
	int64		balance;
	int64		threshold;
	int64		transaction_id;
	TimestampTz at;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!store_is_table(trigger->tg_relation, &accounts_table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger AFTER UPDATE FOR EACH ROW on table \"credits.accounts\""),
				 errhint("It serves that table only.")));
	old = trigger->tg_trigslot;
	new = trigger->tg_newslot;

	before = DatumGetInt64(slot_getattr(old, Anum_accounts_balance, &isnull));
	balance = DatumGetInt64(slot_getattr(new, Anum_accounts_balance, &isnull));
	if (balance >= before)
		PG_RETURN_POINTER(NULL);
	threshold = DatumGetInt64(slot_getattr(new, Anum_accounts_low_balance,
										   &isnull));
	if (isnull)
		threshold = setting_low_balance;
	/* below the threshold already, it must fall to zero */
	if (balance >= threshold || (before < threshold && balance > 0))
		PG_RETURN_POINTER(NULL);
	id = DatumGetInt64(slot_getattr(new, Anum_accounts_id, &isnull));
	/* the publisher has already raised an alert for a replicated update */
	if (IsLogicalWorker() && !log_is_posting(id))
		PG_RETURN_POINTER(NULL);

	transaction_id =
		DatumGetInt64(slot_getattr(new, Anum_accounts_last_transaction_id,
								   &isnull));
	at = DatumGetTimestampTz(slot_getattr(new, Anum_accounts_last_at,
										  &isnull));
	json_begin(&json);
	json_text(&json, "account",
			  DatumGetTextPP(slot_getattr(new, Anum_accounts_name, &isnull)));
	json_int64(&json, "balance", balance);
	json_int64(&json, "threshold", threshold);
	json_int64(&json, "transaction_id", transaction_id);
	json_time(&json, "at", at);
	if (balance == 0)
		json_bool(&json, "depleted", true);

	detail = json_document(&json);
	Async_Notify("low_balance", json_to_cstring(detail));
	events_add("low_balance", id, transaction_id, at, detail);
	PG_RETURN_POINTER(NULL);
}
