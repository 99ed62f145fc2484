/*
 * erase.c
 *	  Erasing from a row of the log what may name a person.
 *
 * The row's hash covers these texts only by their salted digest.  When they are
 * erased, the digest takes the salt's place: the chain can still be checked, and
 * without the salt nobody can find out by trying what the texts were.
 *
 * Tested in test/sql/erase.sql.
 */
#include "credits.h"

#include "ledger/chain.h"
#include "ledger/events.h"
#include "ledger/ledger.h"

#include "miscadmin.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_erase_text);

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
 * Raises an error: there is no such transaction.
 */
static void
raise_no_transaction(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 errmsg("transaction " INT64_FORMAT " does not exist", id),
			 errhint("Look for it in view credits.transactions.")));
}

/*
 * SQL function: erases the texts of a row of the log.  Returns whether it had any.
 */
Datum
credits_erase_text(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "transaction_id");
	Store	   *store;
	Snapshot	snapshot;
	Account		account;
	Entry		entry;
	bool		erases;

	ledger_lock_tables("credits_erase_text()");
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	snapshot = GetActiveSnapshot();
	anchors_check(id);
	if (!rows_find_entry(store, snapshot, id, &entry) ||
		!rows_find_account(store, snapshot, NULL, entry.account_id, &account))
		raise_no_transaction(id);
	/* two calls must not both find the salt */
	(void) rows_lock_account(store, snapshot, &account, false);
	PopActiveSnapshot();

	PushActiveSnapshot(store_snapshot(true));
	snapshot = GetActiveSnapshot();
	if (!rows_find_entry(store, snapshot, id, &entry))
		raise_no_transaction(id);
	erases = entry.salt && !chain_is_erased(&entry);
	if (erases)
	{
		JsonObject	detail;

		forget_text(&entry);
		store_begin_changes(store);
		store_write(store, &log_table, snapshot, &entry);
		store_end_changes(store);
		json_begin(&detail);
		json_cstring(&detail, "role",
					 GetUserNameFromId(GetSessionUserId(), false));
		(void) events_add("text_erased", account.id, id, clock_now(),
						  json_document(&detail));
	}
	PopActiveSnapshot();
	store_close(store);
	PG_RETURN_BOOL(erases);
}
