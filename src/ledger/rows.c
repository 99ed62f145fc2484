/*
 * rows.c
 *	  Accounts, grants, transactions and events: the descriptions of their
 *	  tables and indexes, and functions that find and write their rows.
 */
#include "credits.h"

#include "ledger/anchors.h"
#include "ledger/rows.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "utils/builtins.h"

/* ------------------------------------------------------------------------
 * descriptions
 */

const char *const account_status_names[] = {"active", "paused", "closed"};

static const StoreColumn account_columns[] = {
	COLUMN_INT64(Account, id),
	COLUMN_TEXT(Account, name),
	COLUMN_TEXT(Account, unit),
	COLUMN_ENUM(Account, status, account_status_names),
	COLUMN_TOASTED(JSONBOID, Account, metadata, NULL_IF_ZERO),
	COLUMN_BOOL(Account, limited),
	COLUMN_INT64(Account, debt),
	COLUMN_TIME(Account, created_at),
	COLUMN_TEXT(Account, alert_levels, NULL_IF_ZERO),
	COLUMN_INT64(Account, alert_base, NULL_IF_ZERO),
	COLUMN_INT64(Account, topup_below, NULL_IF_ZERO),
	COLUMN_TIME(Account, due_at),
	COLUMN_INT64(Account, base),
	COLUMN_INT64(Account, granted),
	COLUMN_INT64(Account, refunded),
	COLUMN_INT64(Account, expired),
	COLUMN_INT64(Account, held),
	COLUMN_INT64(Account, balance),
	COLUMN_INT64(Account, spent),
	COLUMN_INT64(Account, transaction_count),
	COLUMN_INT64(Account, last_transaction_id),
	COLUMN_TIME(Account, last_at),
	COLUMN_DIGEST(Account, head, COUNTED(Account, head_len)),
	COLUMN_TIME(Account, renews_at, NULL_IS(DT_NOEND))
};

StoreTable	accounts_table = {
	.name = "accounts",
	.sequence = "accounts_id_seq",
	ROWS_OF(Account, account_columns)
};

StoreIndex	accounts_by_id = {
	&accounts_table, "accounts_pkey", {"id"},.unique = true
};
StoreIndex	accounts_by_name = {
	&accounts_table, "accounts_name_key", {"name"},.unique = true
};
StoreIndex	accounts_by_due_at = {
	&accounts_table, "accounts_due_at_idx", {"due_at", "id"},
	.predicate = "(due_at < 'infinity'::timestamp with time zone)"
};

const char *const grant_status_names[] =
{"pending", "open", "used", "expired", "voided"};

static const StoreColumn grant_columns[] = {
	COLUMN_INT64(Grant, id),
	COLUMN_INT64(Grant, account_id),
	COLUMN_INT64(Grant, transaction_id),
	COLUMN_TIME(Grant, effective_at),
	COLUMN_TIME(Grant, expires_at, NULL_IS(DT_NOEND)),
	COLUMN_TIME(Grant, granted_until, NULL_IS(DT_NOBEGIN)),
	COLUMN_INT64(Grant, amount),
	COLUMN_INT32(Grant, priority),
	COLUMN_TEXT(Grant, source),
	COLUMN_NUMERIC(Grant, price, NULL_IF_ZERO),
	COLUMN_TEXT(Grant, currency, NULL_IF_ZERO),
	COLUMN_ENUM(Grant, status, grant_status_names),
	COLUMN_INT64(Grant, remaining),
	/* stored as NULL if 0, as it usually is, to save space */
	COLUMN_INT64(Grant, lost, NULL_IF_ZERO),
	COLUMN_INT64(Grant, group_id, NULL_IF_ZERO),
	COLUMN_BOOL(Grant, all_claimed, NULL_IF_ZERO),
	COLUMN_BOOL(Grant, lost_claimed, NULL_IF_ZERO),
	COLUMN_INT64(Grant, group_owed, NULL_IF_ZERO)
};

StoreTable	grants_table = {
	.name = "grants",
	.sequence = "grants_id_seq",
	ROWS_OF(Grant, grant_columns)
};

StoreTable	archived_grants_table = {
	.name = "archived_grants",
	ROWS_OF(Grant, grant_columns)
};

StoreIndex	grants_by_id = {
	&grants_table, "grants_pkey", {"id"},.unique = true
};
StoreIndex	grants_by_account_id = {
	&grants_table, "grants_account_id_idx", {"account_id", "id"}
};
StoreIndex	grants_in_burn_order = {
	&grants_table, "grants_burn_order_idx",
	{"account_id", "priority", "expires_at", "effective_at", "id"},
	.predicate = "(status = ANY (ARRAY['open'::text, 'pending'::text]))"
};
StoreIndex	grants_by_effective_at = {
	&grants_table, "grants_effective_at_idx",
	{"account_id", "effective_at", "priority", "expires_at", "id"},
	.predicate = "(status = 'pending'::text)"
};

/*
 * Columns of eight bytes come first, then those of four and of one, so that none
 * are lost to alignment; what is mostly 0 is stored as NULL, which takes none.
 */
static const StoreColumn log_columns[] = {
	COLUMN_INT64(Entry, id),
	COLUMN_INT64(Entry, account_id),
	COLUMN_TIME(Entry, created_at),
	COLUMN_INT64(Entry, amount),
	COLUMN_INT64(Entry, balance_after),
	COLUMN_INT64(Entry, held, NULL_IF_ZERO),
	COLUMN_INT64(Entry, held_after, NULL_IF_ZERO),
	COLUMN_INT64(Entry, target_id, NULL_UNLESS(Entry, has_target)),
	COLUMN_INT64(Entry, member_id, NULL_IF_ZERO),
	COLUMN_INT32(Entry, role_id),
	COLUMN_INT32(Entry, request, NULL_UNLESS(Entry, has_request)),
	COLUMN_CODE(Entry, kind, transaction_kind_codes, AS("kind_code"),
				KEEPING_UNKNOWN(Entry, unknown_kind)),
	COLUMN_TEXT(Entry, key, AS("idempotency_key"), NULL_IF_ZERO),
	/* if the draws are damaged, there are none and the hash is wrong */
	COLUMN_PACKED(Entry, draws, ndraws, NULL_UNLESS(Entry, has_draws)),
	COLUMN_TEXT(Entry, operation, NULL_IF_ZERO),
	COLUMN_TEXT(Entry, reference, NULL_IF_ZERO),
	COLUMN_JSONB(Entry, terms, NULL_IF_ZERO),
	COLUMN_TEXT(Entry, reason, NULL_IF_ZERO),
	COLUMN_JSONB(Entry, metadata, NULL_IF_ZERO),
	COLUMN_TEXT(Entry, actor, NULL_IF_ZERO),
	COLUMN_BYTES(Entry, salt, salt_len, NULL_IF_ZERO),
	COLUMN_DIGEST(Entry, hash)
};

StoreTable	log_table = {
	.name = "log",
	.sequence = "transactions_id_seq",
	.partition_key = offsetof(Entry, id),
	.copies = COPIES_TABLE,
	ROWS_OF(Entry, log_columns)
};

/* partitions that have left the log, see anchors.c */
StoreTable	archived_log_table = {
	.name = "archived_log",
	.partition_key = offsetof(Entry, id),
	ROWS_OF(Entry, log_columns)
};

StoreIndex	log_by_id = {
	&log_table, NULL, {"id"},.unique = true
};
StoreIndex	log_by_account_id = {
	&log_table, NULL,
	{"account_id", "created_at", "id"}
};
StoreIndex	log_by_key = {
	&log_table, NULL,
	{"(COALESCE(member_id, account_id))", "(credits.key_digest(idempotency_key))"},
	.unique = true,
	.predicate = "(idempotency_key IS NOT NULL)"
};
StoreIndex	log_by_target_id = {
	&log_table, NULL, {"target_id"},
	.predicate = "(target_id IS NOT NULL)"
};
StoreIndex	log_by_reference = {
	&log_table, NULL, {"reference"},
	.predicate = "(reference IS NOT NULL)"
};

StoreIndex	archived_log_by_id = {
	&archived_log_table, NULL, {"id"},.unique = true
};

static const StoreColumn event_columns[] = {
	COLUMN_INT64(Event, id),
	COLUMN_INT64(Event, account_id, NULL_IF_ZERO),
	COLUMN_INT64(Event, transaction_id, NULL_IF_ZERO),
	COLUMN_TIME(Event, created_at),
	COLUMN_CSTRING(Event, kind),
	COLUMN_JSONB(Event, detail)
};

StoreTable	events_table = {
	.name = "events",
	.sequence = "events_id_seq",
	ROWS_OF(Event, event_columns)
};

StoreIndex	events_by_id = {
	&events_table, "events_pkey", {"id"},.unique = true
};
StoreIndex	events_failed = {
	&events_table, "events_failed_idx", {"account_id", "id"},
	.predicate = "(kind = ANY (ARRAY['renewal_failed'::text, 'settle_failed'::text]))"
};

static const StoreColumn event_order_columns[] = {
	COLUMN_INT64(EventOrder, event_id),
	COLUMN_XID8(EventOrder, xid),
	COLUMN_INT64(EventOrder, system)
};

StoreTable	event_order_table = {
	.name = "event_order",
	ROWS_OF(EventOrder, event_order_columns)
};

StoreIndex	event_order_by_id = {
	&event_order_table, "event_order_pkey", {"event_id"},.unique = true
};
StoreIndex	event_order_by_xid = {
	&event_order_table, "event_order_xid_idx", {"xid", "event_id"}
};

/* ------------------------------------------------------------------------
 * accounts that were changed by the current transaction
 *
 * The row versions that a transaction replaces cannot be removed before it ends.
 * An index scan for the row visits all of them, so many calls on one account in
 * one transaction would take quadratic time.  Therefore the TIDs of the accounts
 * that were written last are remembered, with the first open grant in burn order
 * where it is known.
 *
 * What a subtransaction has written is forgotten if it is rolled back.  VACUUM
 * may free its TIDs at once, and others may put newer versions of the same rows
 * there: then the grant need no longer be the first in burn order.
 */

#define NREMEMBERED 4

typedef struct Remembered
{
	FullTransactionId transaction;
	SubTransactionId subtransaction;
	uint64		generation;
	int64		account_id;
	uint32		name_hash;
	ItemPointerData tid;
	int64		first_grant_id; /* the first open one in burn order, 0 if not
								 * known */
	ItemPointerData first_grant_tid;
} Remembered;

static Remembered remembered[NREMEMBERED];

/*
 * Returns the hash value of a name.
 */
static uint32
hash_of(text *name)
{
	return hash_bytes((unsigned char *) VARDATA_ANY(name),
					  VARSIZE_ANY_EXHDR(name));
}

/*
 * Returns what is remembered of an account, which is found by name or, if that
 * is NULL, by id; NULL if nothing is.
 */
static Remembered *
recall(text *name, int64 id)
{
	FullTransactionId transaction = GetTopFullTransactionIdIfAny();
	uint32		hash;
	int			i;

	if (!FullTransactionIdIsValid(transaction))
		return NULL;
	hash = name ? hash_of(name) : 0;
	for (i = 0; i < NREMEMBERED; i++)
		if (FullTransactionIdEquals(remembered[i].transaction, transaction) &&
			(name ? remembered[i].name_hash == hash :
			 remembered[i].account_id == id))
			return &remembered[i];
	return NULL;
}

/*
 * Remembers the TID of an account that has been written and, unless it is NULL,
 * its first open grant in burn order.
 */
void
rows_remember_account(const Account *account, ItemPointer tid,
					  const Grant *first_grant, ItemPointer grant_tid)
{
	static int	next = 0;
	Remembered *place = recall(NULL, account->id);

	if (place == NULL)
		place = &remembered[next++ % NREMEMBERED];
	place->transaction = GetTopFullTransactionId();
	place->subtransaction = GetCurrentSubTransactionId();
	place->generation = tables_generation();
	place->account_id = account->id;
	place->name_hash = hash_of(account->name);
	place->tid = *tid;
	place->first_grant_id = first_grant ? first_grant->id : 0;
	if (first_grant)
		place->first_grant_tid = *grant_tid;
}

/*
 * Finds an account by its remembered TID.
 */
static bool
recall_account(Store *store, Snapshot snapshot, text *name, int64 id,
			   Account *account)
{
	Remembered *place = recall(name, id);

	return place &&
		scan_fetch(store, &accounts_table, snapshot, place->generation,
				   &place->tid, account) &&
		account->id == place->account_id &&
		(name == NULL || same_text(account->name, name));
}

/*
 * Finds the first open grant in burn order, if it is remembered, the account has
 * not been changed since, and it is the one with the given id, unless that is 0.
 */
bool
rows_recall_first_grant(Store *store, Snapshot snapshot,
						const Account *account, int64 id, Grant *grant)
{
	Remembered *place = recall(NULL, account->id);

	return place && place->first_grant_id != 0 &&
		(id == 0 || place->first_grant_id == id) &&
		ItemPointerEquals(&place->tid,
						  unconstify(ItemPointerData *, &account->tid)) &&
		scan_fetch(store, &grants_table, snapshot, place->generation,
				   &place->first_grant_tid, grant) &&
		grant->id == place->first_grant_id;
}

/*
 * Callback: forgets what a subtransaction that is rolled back has written, in
 * itself or in one inside it, which has a higher id.
 */
static void
forget_rolled_back(SubXactEvent event, SubTransactionId id,
				   SubTransactionId parent, void *arg)
{
	int			i;

	for (i = 0; event == SUBXACT_EVENT_ABORT_SUB && i < NREMEMBERED; i++)
		if (remembered[i].subtransaction >= id)
			remembered[i].transaction = InvalidFullTransactionId;
}

/* ------------------------------------------------------------------------
 * initialization
 */

/* the tables that every posting uses */
static StoreTable *const core_tables[] = {
	&accounts_table, &grants_table, &log_table
};

/*
 * Initializes the store with the tables that every posting uses.  Called once,
 * when the library is loaded.
 */
void
rows_init(void)
{
	store_init(core_tables, lengthof(core_tables));
	RegisterSubXactCallback(forget_rolled_back, NULL);
}

/* ------------------------------------------------------------------------
 * accounts
 */

/*
 * Returns the name of an account.
 */
char *
rows_account_name(const Account *account)
{
	return text_to_cstring(account->name);
}

/*
 * Remembers the values of an account before a posting changes them.
 */
static void
note_stored(Account *account)
{
	account->stored.due_at = account->due_at;
	account->stored.renews_at = account->renews_at;
	account->stored.held = account->held;
	account->stored.balance = account->balance;
	account->stored.transaction_count = account->transaction_count;
	account->stored.last_transaction_id = account->last_transaction_id;
	account->stored.last_at = account->last_at;
}

/*
 * Finds an account by name or, if name is NULL, by id.
 */
bool
rows_find_account(Store *store, Snapshot snapshot, text *name, int64 id,
				  Account *account)
{
	bool		found = recall_account(store, snapshot, name, id, account) ||
		(name ?
		 scan_find(store, &accounts_by_name, snapshot, account,
				   BY_TEXT(name)) :
		 scan_find(store, &accounts_by_id, snapshot, account, BY_INT64(id)));

	if (found)
		note_stored(account);
	return found;
}

/*
 * Locks an account's row and reads its newest version.  Returns false if
 * another session has locked it and skip_locked is set.
 */
bool
rows_lock_account(Store *store, Snapshot snapshot, Account *account,
				  bool skip_locked)
{
	TM_Result	result = store_lock(store, &accounts_table, snapshot, account,
									skip_locked);

	switch (result)
	{
		case TM_Ok:
			note_stored(account);
			return true;
		case TM_WouldBlock:
			return false;
		case TM_Updated:
		case TM_Deleted:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("Account " INT64_FORMAT " has changed since the transaction's snapshot.",
							   account->id),
					 errhint("Retry the transaction.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("account is being changed by the current command"),
					 errdetail("Account " INT64_FORMAT " cannot be locked (%d).",
							   account->id, (int) result),
					 errhint("Call the function in a statement of its own.")));
	}
	return false;
}

/*
 * Updates an account's row.  A result other than TM_Ok means that another
 * session has changed it.
 */
TM_Result
rows_update_account(Store *store, Snapshot snapshot, Account *account)
{
	return store_update(store, &accounts_table, snapshot, account);
}

/*
 * Inserts an account.  Returns false if there is one of that name.
 */
bool
rows_insert_account(Store *store, const Account *account)
{
	return store_insert_unless(store, &accounts_by_name, account);
}

/* ------------------------------------------------------------------------
 * grants
 */

/*
 * Finds a grant by id.
 */
bool
rows_find_grant(Store *store, Snapshot snapshot, int64 id, Grant *grant)
{
	return scan_find(store, &grants_by_id, snapshot, grant, BY_INT64(id));
}

/*
 * Inserts a new grant, or updates one that has changed.  The account must be
 * locked or have been updated, so that nobody else can have changed its
 * grants.
 */
void
rows_write_grant(Store *store, Snapshot snapshot, Grant *grant)
{
	store_write(store, &grants_table, snapshot, grant);
}

/* ------------------------------------------------------------------------
 * transactions
 */

/*
 * Returns the amount of a transaction, positive in the direction of its kind:
 * what a deduction or a capture has spent, or what a refund has given back.
 */
int64
rows_moved(const Entry *entry)
{
	const KindInfo *info = kinds_info(entry->kind);
	int64		amount = info->of_held ? entry->held : entry->amount;

	return info->gives ? amount : -amount;
}

/*
 * Finds a transaction by id, in the partition that has it.
 */
static bool
find_entry(Store *store, StoreIndex *by_id, Snapshot snapshot, int64 id,
		   Entry *entry)
{
	StoreScan	scan;
	bool		found;

	scan_begin_ids(&scan, store, by_id, snapshot, id, id, BY_INT64(id));
	found = scan_read(&scan, ForwardScanDirection, entry);
	scan_end(&scan);
	return found;
}

/*
 * Finds a transaction by id.
 */
bool
rows_find_entry(Store *store, Snapshot snapshot, int64 id, Entry *entry)
{
	return find_entry(store, &log_by_id, snapshot, id, entry);
}

/*
 * Finds a transaction by id whose row has left the log.
 */
bool
rows_find_archived_entry(Store *store, Snapshot snapshot, int64 id, Entry *entry)
{
	return find_entry(store, &archived_log_by_id, snapshot, id, entry);
}

/*
 * Inserts a transaction into the log.
 */
void
rows_insert_entry(Store *store, Entry *entry)
{
	store_insert(store, &log_table, entry);
}

/*
 * Returns what identifies the cluster: transaction ids mean something only there.
 */
int64
rows_system(void)
{
	return (int64) GetSystemIdentifier();
}
