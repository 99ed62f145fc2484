/*
 * alerts.c
 *	  Events, NOTIFY low_balance and NOTIFY credits_event.
 *
 * An alert is raised when a balance falls from its threshold or above to below
 * it, and again when it falls to zero: at crossings only, since a transaction
 * that notifies takes a lock on the whole cluster when it commits.  It is a
 * part of the transaction: no commit, no alert.
 */
#include "credits.h"

#include "commands/async.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_alert);

/* PostgreSQL's own limit, NOTIFY_PAYLOAD_MAX_LENGTH, in any build */
#define MAX_PAYLOAD_BYTES 7999

/*
 * Records an event and returns its id.  Ids that are 0 are stored as NULL.
 */
int64
alerts_event(const char *kind, int64 account_id, int64 transaction_id,
			 TimestampTz at, Jsonb *detail)
{
	int64		id = store_next_id(&events_table);
	Datum		row[Natts_events];
	bool		nulls[Natts_events] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;

	values[Anum_events_id] = Int64GetDatum(id);
	values[Anum_events_account_id] = Int64GetDatum(account_id);
	isnull[Anum_events_account_id] = account_id == 0;
	values[Anum_events_transaction_id] = Int64GetDatum(transaction_id);
	isnull[Anum_events_transaction_id] = transaction_id == 0;
	values[Anum_events_created_at] = TimestampTzGetDatum(at);
	values[Anum_events_kind] = CStringGetTextDatum(kind);
	values[Anum_events_detail] = JsonbPGetDatum(detail);
	store_insert_alone(&events_table, row, nulls);
	return id;
}

/*
 * Puts the payload of NOTIFY credits_event together.
 */
static char *
announcement(const char *kind, int64 event_id, const char *account,
			 int64 transaction_id, TimestampTz at, const char *detail)
{
	StringInfoData json;

	initStringInfo(&json);
	json_cstring(&json, "kind", kind);
	json_int64(&json, "event_id", event_id);
	if (account)
		json_cstring(&json, "account", account);
	if (transaction_id != 0)
		json_int64(&json, "transaction_id", transaction_id);
	json_time(&json, "at", at);
	if (detail)
		json_raw(&json, "detail", detail);
	else
		json_raw(&json, "truncated", "true");
	appendStringInfoChar(&json, '}');
	return json.data;
}

/*
 * Raises NOTIFY credits_event.  A detail that is too long for a notification is
 * left out of it: the event has it.
 */
static void
notify_event(const char *kind, int64 event_id, const char *account,
			 int64 transaction_id, TimestampTz at, const char *detail)
{
	char	   *payload = announcement(kind, event_id, account,
									   transaction_id, at, detail);

	if (strlen(payload) > MAX_PAYLOAD_BYTES)
		payload = announcement(kind, event_id, account, transaction_id, at,
							   NULL);
	Async_Notify("credits_event", payload);
}

/*
 * Records an event and raises NOTIFY credits_event for those who listen.  Both
 * are a part of the transaction.
 */
void
alerts_announce(const char *kind, int64 account_id, int64 transaction_id,
				TimestampTz at, Jsonb *detail)
{
	int64		id = alerts_event(kind, account_id, transaction_id, at, detail);
	Account		account;
	char	   *name = NULL;

	if (account_id != 0 &&
		row_find_account(NULL, store_snapshot(false), NULL, account_id,
						 &account))
		name = row_account_name(&account);
	notify_event(kind, id, name, transaction_id, at,
				 JsonbToCString(NULL, &detail->root, VARSIZE(detail)));
}

/* An event that is recorded with the posting that it is about */
typedef struct Announcement
{
	const char *kind;
	int64		transaction_id;
	TimestampTz at;
	Jsonb	   *detail;
	char	   *text;			/* of the detail */
} Announcement;

/*
 * Records an event of a posting, and announces it.
 */
static void
write_announcement(Posting *posting, void *row)
{
	Announcement *a = row;
	int64		id = store_next_id(&events_table);
	Datum		columns[Natts_events];
	bool		nulls[Natts_events] = {false};
	Datum	   *values = columns - 1;	/* by column number */

	values[Anum_events_id] = Int64GetDatum(id);
	values[Anum_events_account_id] = Int64GetDatum(posting->account.id);
	values[Anum_events_transaction_id] = Int64GetDatum(a->transaction_id);
	nulls[Anum_events_transaction_id - 1] = a->transaction_id == 0;
	values[Anum_events_created_at] = TimestampTzGetDatum(a->at);
	values[Anum_events_kind] = CStringGetTextDatum(a->kind);
	values[Anum_events_detail] = JsonbPGetDatum(a->detail);
	store_insert(posting->store, &events_table, columns, nulls);
	notify_event(a->kind, id, row_account_name(&posting->account),
				 a->transaction_id, a->at, a->text);
}

/*
 * Has an event recorded and announced with a posting, whose account it is
 * about.  The detail is an object without its last brace.
 */
void
alerts_announce_with(Posting *posting, const char *kind, int64 transaction_id,
					 StringInfo detail)
{
	Announcement *a = palloc(sizeof(Announcement));

	a->kind = kind;
	a->transaction_id = transaction_id;
	a->at = posting->now;
	a->detail = json_document(detail);
	a->text = detail->data;
	log_defer(posting, write_announcement, a);
}

/*
 * Raises NOTIFY low_balance for the account that is being updated, if its
 * balance crosses the threshold or falls to zero.
 */
Datum
credits_alert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleTableSlot *old;
	TupleTableSlot *new;
	StringInfoData json;
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
	if (balance >= threshold || (before < threshold && balance > 0))
		PG_RETURN_POINTER(NULL);
	id = DatumGetInt64(slot_getattr(new, Anum_accounts_id, &isnull));
	/* a change that was replicated was an alert where it was made */
	if (IsLogicalWorker() && !log_is_posting(id))
		PG_RETURN_POINTER(NULL);

	transaction_id =
		DatumGetInt64(slot_getattr(new, Anum_accounts_last_transaction_id,
								   &isnull));
	at = DatumGetTimestampTz(slot_getattr(new, Anum_accounts_last_at,
										  &isnull));
	initStringInfo(&json);
	json_text(&json, "account",
			  DatumGetTextPP(slot_getattr(new, Anum_accounts_name, &isnull)));
	json_int64(&json, "balance", balance);
	json_int64(&json, "threshold", threshold);
	json_int64(&json, "transaction_id", transaction_id);
	json_time(&json, "at", at);
	if (balance == 0)
		appendStringInfoString(&json, ", \"depleted\": true");

	detail = json_document(&json);
	Async_Notify("low_balance", json.data);
	alerts_event("low_balance", id, transaction_id, at, detail);
	PG_RETURN_POINTER(NULL);
}
