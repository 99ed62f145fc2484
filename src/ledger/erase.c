/*
 * erase.c
 *	  Erasing from a row of the log what may name a person.
 *
 * The row's hash covers these texts only by their salted digest.  When they are
 * erased, the digest takes the salt's place: the chain can still be checked, and
 * without the salt nobody can find out by trying what the texts were.
 *
 * When the books are closed, a row leaves the log, which may keep a copy of it: they
 * are erased together.  A copy that is not yet part of the log is thrown away, and
 * credits_archive makes it again.
 *
 * A logical subscriber gets the erasure as an update of the row.  But it keeps in its
 * own log what has left the publisher's, and there the event says what to erase.
 *
 * Tested in test/sql/erase.sql and test/t/archive_erase.pl.
 */
#include "credits.h"

#include "ledger/anchors.h"
#include "ledger/chain.h"
#include "ledger/erase.h"
#include "ledger/events.h"
#include "ledger/ledger.h"
#include "store/statements.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_erase_text);
PG_FUNCTION_INFO_V1(credits_erase_replicated);

/*
 * Replaces the texts of a row, and the salt, by their digest.
 */
static void
forget_text(Entry *entry)
{
	uint8	   *digest = palloc(PG_SHA256_DIGEST_LENGTH);

	chain_text_digest(entry, digest);
	entry->salt = digest;
	entry->salt_len = PG_SHA256_DIGEST_LENGTH;
	entry->key = entry->reference = entry->reason = entry->actor = NULL;
	entry->metadata = NULL;
	entry->has_request = false;
}

/*
 * Raises an error: there is no such transaction, or its partition was dropped.
 */
static void
raise_no_transaction(int64 id)
{
	const Leaf *leaves;
	Closing		closing;
	int64		left_until;
	int			n;
	int			i;

	leaves = leaves_list(&archived_log_table, &n);
	for (i = 0; i < n; i++)
		if (!leaves[i].rest && leaves[i].from <= id && id < leaves[i].until)
			break;
	if (i == n && anchors_last_closing(GetLatestSnapshot(), &closing) &&
		id <= (left_until = closing.ended ? closing.until_id : closing.from_id))
		ereport(ERROR,
				(errcode(ERRCODE_GONE),
				 errmsg("transaction " INT64_FORMAT " is not in this database any more", id),
				 errdetail("The books are closed up to transaction " INT64_FORMAT ", and no partition of credits.archived_log has this one.",
						   left_until),
				 errhint("If the partition was detached, attach it to credits.archived_log again; if it was exported and dropped, erase the texts from the export.")));
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 errmsg("transaction " INT64_FORMAT " does not exist", id),
			 errhint("Look for it in view credits.all_transactions.")));
}

/*
 * Finds a transaction in the log, or among those that have left it.
 */
static bool
find_anywhere(Store *store, Snapshot snapshot, int64 id, Entry *entry)
{
	return rows_find_entry(store, snapshot, id, entry) ||
		rows_find_archived_entry(store, snapshot, id, entry);
}

/*
 * Erases the texts of a row.  Returns whether it had any.
 */
static bool
erase_row(Store *store, StoreTable *table, Snapshot snapshot, Entry *entry)
{
	if (entry->salt == NULL || chain_is_erased(entry))
		return false;
	forget_text(entry);
	store_begin_changes(store);
	store_write(store, table, snapshot, entry);
	store_end_changes(store);
	return true;
}

/*
 * Erases the texts of a row wherever it is.  The caller has locked its account, and
 * the books are not being closed over the row at this moment: what is found in the log
 * stays there until the transaction ends.  Returns whether it had any; archived is set
 * to whether the row has left the log.
 */
static bool
erase_everywhere(Store *store, Snapshot snapshot, int64 id, bool *archived)
{
	Entry		entry;
	bool		erased = false;

	if (rows_find_entry(store, snapshot, id, &entry))
		erased |= erase_row(store, &log_table, snapshot, &entry);
	*archived = rows_find_archived_entry(store, snapshot, id, &entry);
	if (*archived)
		erased |= erase_row(store, &archived_log_table, snapshot, &entry);
	return erased;
}

/*
 * Throws away the copies of rows that are to stay in the log, if that of a row with
 * texts has been made, and is not yet part of the log.  This waits for others who use
 * the table, such as pg_dump, and must be done before any account is locked.
 */
static void
discard_copies(const Entry *entry, const Closing *closing)
{
	const char *name = anchors_copies_table(closing->until_id);
	Oid			oid = get_relname_relid(name, get_namespace_oid("credits", false));
	CarriedRow	carried;

	if (entry->salt != NULL && !chain_is_erased(entry) &&
		OidIsValid(oid) && !leaves_has(&log_table, oid) &&
		anchors_find_carried(GetActiveSnapshot(), entry->id, &carried) &&
		carried.until_id == closing->until_id)
		statements_execute(psprintf("DROP TABLE IF EXISTS credits.%s", name));
}

/*
 * Prepares to erase the texts of several rows in one transaction, so that nobody else is
 * waited for once the account of the first one is locked.
 */
void
erase_prepare(const int64 *ids, int n)
{
	Closing		closing;
	Store	   *store;
	int			i;

	ledger_lock_tables("credits_erase_text()");
	/* until the transaction ends, no other closing begins */
	if (!anchors_lock_closing(&closing))
		return;
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	for (i = 0; i < n; i++)
	{
		Entry		entry;

		CHECK_FOR_INTERRUPTS();
		if (find_anywhere(store, GetActiveSnapshot(), ids[i], &entry))
			discard_copies(&entry, &closing);
	}
	PopActiveSnapshot();
	store_close(store);
}

/*
 * Erases the texts of a row of the log.  Returns whether it had any.
 *
 * Without always_event, an event says so only if the row has left the log: logical
 * subscribers need it then, see above.
 */
bool
erase_text(int64 id, bool always_event)
{
	Store	   *store;
	Snapshot	snapshot;
	Closing		closing;
	Account		account;
	Entry		entry;
	bool		closes;
	bool		archived;
	bool		erased;

	ledger_lock_tables("credits_erase_text()");
	closes = anchors_lock_closing(&closing);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	snapshot = GetActiveSnapshot();
	if (!find_anywhere(store, snapshot, id, &entry) ||
		!rows_find_account(store, snapshot, NULL, entry.account_id, &account))
		raise_no_transaction(id);
	if (closes)
		discard_copies(&entry, &closing);
	/* two calls must not both find the salt */
	(void) rows_lock_account(store, snapshot, &account, false);
	PopActiveSnapshot();

	PushActiveSnapshot(store_snapshot(true));
	erased = erase_everywhere(store, GetActiveSnapshot(), id, &archived);
	if (erased && (archived || always_event))
	{
		JsonObject	detail;

		json_begin(&detail);
		json_cstring(&detail, "role",
					 GetUserNameFromId(GetSessionUserId(), false));
		(void) events_add("text_erased", account.id, id, clock_now(),
						  json_document(&detail));
	}
	PopActiveSnapshot();
	store_close(store);
	return erased;
}

/*
 * SQL function: erases the texts of a row of the log.  Returns whether it had any.
 */
Datum
credits_erase_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(erase_text(arg_id(fcinfo, 0, "transaction_id"), true));
}

/*
 * Trigger function on credits.events: on a logical subscriber, erases the texts of the
 * row of which the publisher says that they were erased there.
 */
Datum
credits_erase_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Store	   *store;
	Event		event;
	bool		archived;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!store_is_table(trigger->tg_relation, &events_table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger must be AFTER INSERT FOR EACH ROW on table \"credits.events\""),
				 errhint("It serves that table only.")));
	codec_read(&events_table, trigger->tg_trigslot, &event);
	if (!IsLogicalWorker() || strcmp(event.kind, "text_erased") != 0)
		PG_RETURN_POINTER(NULL);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	(void) erase_everywhere(store, GetActiveSnapshot(), event.transaction_id, &archived);
	PopActiveSnapshot();
	store_close(store);
	PG_RETURN_POINTER(NULL);
}
