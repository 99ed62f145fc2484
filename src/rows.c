/*
 * rows.c
 *	  Accounts, grants and transactions as rows: from a slot to a struct and
 *	  back, and by what they are found.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"

StoreTable	accounts_table = {
	.name = "accounts",
	.sequence = "accounts_id_seq",
	.types = (const Oid[]) {
		INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, BOOLOID, INT8OID,
		TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, BYTEAOID,
		InvalidOid
	}
};

StoreIndex	accounts_by_id = {&accounts_table, "accounts_pkey"};
StoreIndex	accounts_by_name = {&accounts_table, "accounts_name_key"};
StoreIndex	accounts_by_due_at = {&accounts_table, "accounts_due_at_idx"};

StoreTable	grants_table = {
	.name = "grants",
	.sequence = "grants_id_seq",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, INT8OID, INT4OID, TEXTOID, NUMERICOID, TEXTOID,
		TEXTOID, INT8OID, InvalidOid
	}
};

StoreIndex	grants_by_id = {&grants_table, "grants_pkey"};
StoreIndex	grants_by_account_id = {&grants_table, "grants_account_id_idx"};
StoreIndex	grants_in_burn_order = {&grants_table, "grants_burn_order_idx"};

StoreTable	transactions_table = {
	.name = "transactions",
	.sequence = "transactions_id_seq",
	.types = (const Oid[]) {
		INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		INT8ARRAYOID, JSONBOID, TEXTOID, JSONBOID, TEXTOID, BYTEAOID, BYTEAOID,
		InvalidOid
	}
};

StoreIndex	transactions_by_id = {&transactions_table, "transactions_pkey"};
StoreIndex	transactions_by_account_id =
{&transactions_table, "transactions_account_id_idx"};
StoreIndex	transactions_by_key =
{&transactions_table, "transactions_idempotency_key_idx"};
StoreIndex	transactions_by_target_id =
{&transactions_table, "transactions_target_id_idx"};

StoreTable	events_table = {
	.name = "events",
	.sequence = "events_id_seq",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, JSONBOID,
		InvalidOid
	}
};

StoreIndex	events_by_account_id = {&events_table, "events_account_id_idx"};

const char *const account_status_names[] = {"active", "paused", "closed"};

const char *const grant_status_names[] =
{"pending", "open", "used", "expired", "voided"};

/*
 * Makes a scan key for an id.
 */
static void
id_key(ScanKey key, AttrNumber attno, int64 id)
{
	ScanKeyInit(key, attno, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
}

/*
 * Makes a scan key for a text in collation "C".
 */
static void
text_key(ScanKey key, AttrNumber attno, text *value)
{
	ScanKeyEntryInitialize(key, 0, attno, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(value));
}

/*
 * Returns which of the names a text is, -1 if none.
 */
static int
which_name(Datum value, const char *const *names, int n)
{
	text	   *t = DatumGetTextPP(value);
	const char *s = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	int			i;

	for (i = 0; i < n; i++)
		if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0)
			return i;
	return -1;
}

/*
 * Returns the name of an account.
 */
char *
row_account_name(const Account *account)
{
	return TextDatumGetCString(account->values[Anum_accounts_name - 1]);
}

/*
 * Reads an account from a slot.
 */
void
row_read_account(TupleTableSlot *slot, Account *account)
{
	Datum	   *values;
	bytea	   *head;

	slot_getallattrs(slot);
	memcpy(account->values, slot->tts_values, sizeof(account->values));
	memcpy(account->isnull, slot->tts_isnull, sizeof(account->isnull));
	values = account->values - 1;	/* by column number */

	account->tid = slot->tts_tid;
	account->id = DatumGetInt64(values[Anum_accounts_id]);
	account->status = which_name(values[Anum_accounts_status],
								 account_status_names,
								 lengthof(account_status_names));
	account->limited = DatumGetBool(values[Anum_accounts_limited]);
	account->debt = DatumGetInt64(values[Anum_accounts_debt]);
	account->has_low_balance = !account->isnull[Anum_accounts_low_balance - 1];
	account->low_balance = account->has_low_balance ?
		DatumGetInt64(values[Anum_accounts_low_balance]) : 0;
	account->due_at = DatumGetTimestampTz(values[Anum_accounts_due_at]);
	account->granted = DatumGetInt64(values[Anum_accounts_granted]);
	account->refunded = DatumGetInt64(values[Anum_accounts_refunded]);
	account->expired = DatumGetInt64(values[Anum_accounts_expired]);
	account->held = DatumGetInt64(values[Anum_accounts_held]);
	account->balance = DatumGetInt64(values[Anum_accounts_balance]);
	account->spent = DatumGetInt64(values[Anum_accounts_spent]);
	account->transaction_count =
		DatumGetInt64(values[Anum_accounts_transaction_count]);
	account->last_transaction_id =
		DatumGetInt64(values[Anum_accounts_last_transaction_id]);
	account->last_at = DatumGetTimestampTz(values[Anum_accounts_last_at]);
	head = DatumGetByteaPP(values[Anum_accounts_head]);
	account->head_len = Min(VARSIZE_ANY_EXHDR(head), PG_SHA256_DIGEST_LENGTH);
	memcpy(account->head, VARDATA_ANY(head), account->head_len);
}

/*
 * Finds an account by name, or by id if there is no name.
 */
bool
row_find_account(Store *store, Snapshot snapshot, text *name, int64 id,
				 Account *account)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (name)
		text_key(&key, 1, name);
	else
		id_key(&key, 1, id);
	store_scan(&scan, store, name ? &accounts_by_name : &accounts_by_id,
			   snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
	{
		row_read_account(slot, account);
		if (store == NULL)
		{
			/* what varies in width would go with the slot */
			Datum	   *name = &account->values[Anum_accounts_name - 1];

			*name = PointerGetDatum(DatumGetTextPCopy(*name));
		}
	}
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Copies what varies in width of an account, so that other accounts can be
 * read.
 */
void
row_keep_account(Account *account)
{
	static const AttrNumber wide[] = {
		Anum_accounts_name, Anum_accounts_unit, Anum_accounts_metadata
	};
	int			i;

	for (i = 0; i < (int) lengthof(wide); i++)
		if (!account->isnull[wide[i] - 1])
			account->values[wide[i] - 1] =
				datumCopy(account->values[wide[i] - 1], false, -1);
}

/*
 * Locks an account's row and reads its newest version.  Returns false if it is
 * locked by another and such rows are to be skipped.
 */
bool
row_lock_account(Store *store, Snapshot snapshot, Account *account,
				 bool skip_locked)
{
	TupleTableSlot *slot;
	TM_Result	result = store_lock(store, &accounts_table, snapshot,
									&account->tid, skip_locked, &slot);

	switch (result)
	{
		case TM_Ok:
			row_read_account(slot, account);
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
 * Writes an account's new state.  Anything but TM_Ok means that another has
 * changed it, or has it now and is not to be waited for.
 */
TM_Result
row_update_account(Store *store, Snapshot snapshot, Account *account,
				   bool wait)
{
	Datum	   *values = account->values - 1;	/* by column number */
	bool	   *isnull = account->isnull - 1;
	struct
	{
		char		header[VARHDRSZ];
		uint8		data[PG_SHA256_DIGEST_LENGTH];
	}			head;

	values[Anum_accounts_status] =
		CStringGetTextDatum(account_status_names[account->status]);
	values[Anum_accounts_limited] = BoolGetDatum(account->limited);
	values[Anum_accounts_debt] = Int64GetDatum(account->debt);
	values[Anum_accounts_low_balance] = Int64GetDatum(account->low_balance);
	isnull[Anum_accounts_low_balance] = !account->has_low_balance;
	values[Anum_accounts_due_at] = TimestampTzGetDatum(account->due_at);
	values[Anum_accounts_granted] = Int64GetDatum(account->granted);
	values[Anum_accounts_refunded] = Int64GetDatum(account->refunded);
	values[Anum_accounts_expired] = Int64GetDatum(account->expired);
	values[Anum_accounts_held] = Int64GetDatum(account->held);
	values[Anum_accounts_balance] = Int64GetDatum(account->balance);
	values[Anum_accounts_spent] = Int64GetDatum(account->spent);
	values[Anum_accounts_transaction_count] =
		Int64GetDatum(account->transaction_count);
	values[Anum_accounts_last_transaction_id] =
		Int64GetDatum(account->last_transaction_id);
	values[Anum_accounts_last_at] = TimestampTzGetDatum(account->last_at);
	SET_VARSIZE(&head, VARHDRSZ + account->head_len);
	memcpy(head.data, account->head, account->head_len);
	values[Anum_accounts_head] = PointerGetDatum(&head);

	return store_update(store, &accounts_table, snapshot, &account->tid, wait,
						account->values, account->isnull);
}

/*
 * Inserts an account unless one of that name exists.  Returns false if one
 * does.
 */
bool
row_insert_account(Store *store, Datum *values, bool *isnull)
{
	return store_insert_unless(store, &accounts_by_name, values, isnull);
}

/*
 * Reads a grant from a slot.  Texts are copied.
 */
void
row_read_grant(TupleTableSlot *slot, Grant *grant)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;

	grant->tid = slot->tts_tid;
	grant->changed = false;
	grant->id = DatumGetInt64(values[Anum_grants_id]);
	grant->account_id = DatumGetInt64(values[Anum_grants_account_id]);
	grant->transaction_id = DatumGetInt64(values[Anum_grants_transaction_id]);
	grant->effective_at = DatumGetTimestampTz(values[Anum_grants_effective_at]);
	grant->expires_at = isnull[Anum_grants_expires_at] ? DT_NOEND :
		DatumGetTimestampTz(values[Anum_grants_expires_at]);
	grant->granted_until = isnull[Anum_grants_granted_until] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[Anum_grants_granted_until]);
	grant->amount = DatumGetInt64(values[Anum_grants_amount]);
	grant->remaining = DatumGetInt64(values[Anum_grants_remaining]);
	grant->priority = DatumGetInt32(values[Anum_grants_priority]);
	grant->source = DatumGetTextPCopy(values[Anum_grants_source]);
	grant->price = isnull[Anum_grants_price] ? 0 :
		PointerGetDatum(PG_DETOAST_DATUM_COPY(values[Anum_grants_price]));
	grant->currency = isnull[Anum_grants_currency] ? NULL :
		DatumGetTextPCopy(values[Anum_grants_currency]);
	grant->status = which_name(values[Anum_grants_status],
							   grant_status_names,
							   GRANT_VOIDED + 1);
}

/*
 * Finds a grant by id.
 */
bool
row_find_grant(Store *store, Snapshot snapshot, int64 id, Grant *grant)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	id_key(&key, 1, id);
	store_scan(&scan, store, &grants_by_id, snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		row_read_grant(slot, grant);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Inserts a new grant, or updates one that has changed.
 */
void
row_write_grant(Store *store, Snapshot snapshot, Grant *grant)
{
	Datum		row[Natts_grants];
	bool		nulls[Natts_grants] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	TM_Result	result;

	values[Anum_grants_id] = Int64GetDatum(grant->id);
	values[Anum_grants_account_id] = Int64GetDatum(grant->account_id);
	values[Anum_grants_transaction_id] = Int64GetDatum(grant->transaction_id);
	values[Anum_grants_effective_at] = TimestampTzGetDatum(grant->effective_at);
	values[Anum_grants_expires_at] = TimestampTzGetDatum(grant->expires_at);
	isnull[Anum_grants_expires_at] = grant->expires_at == DT_NOEND;
	values[Anum_grants_granted_until] =
		TimestampTzGetDatum(grant->granted_until);
	isnull[Anum_grants_granted_until] = grant->granted_until == DT_NOBEGIN;
	values[Anum_grants_amount] = Int64GetDatum(grant->amount);
	values[Anum_grants_remaining] = Int64GetDatum(grant->remaining);
	values[Anum_grants_priority] = Int32GetDatum(grant->priority);
	values[Anum_grants_source] = PointerGetDatum(grant->source);
	values[Anum_grants_price] = grant->price;
	isnull[Anum_grants_price] = grant->price == 0;
	values[Anum_grants_currency] = PointerGetDatum(grant->currency);
	isnull[Anum_grants_currency] = grant->currency == NULL;
	values[Anum_grants_status] =
		CStringGetTextDatum(grant_status_names[grant->status]);

	if (!ItemPointerIsValid(&grant->tid))
	{
		store_insert(store, &grants_table, row, nulls);
		return;
	}
	/* the account's lock is ours: nobody else can have changed its grants */
	result = store_update(store, &grants_table, snapshot, &grant->tid, true,
						  row, nulls);
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Grant " INT64_FORMAT " has changed past its account.",
						   grant->id),
				 errhint("Retry the transaction.")));
}

/*
 * Reads draws from an array, NULL if it is not one of our shape.
 */
Draw *
row_read_draws(Datum value, int *n)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	Draw	   *draws;
	int			i;

	*n = 0;
	if (ARR_NDIM(array) != 2 || ARR_DIMS(array)[1] != 2 ||
		ARR_LBOUND(array)[0] != 1 || ARR_LBOUND(array)[1] != 1 ||
		ARR_HASNULL(array))
		return NULL;
	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, n);
	*n /= 2;
	draws = palloc(*n * sizeof(Draw));
	for (i = 0; i < *n; i++)
	{
		draws[i].grant_id = DatumGetInt64(elements[2 * i]);
		draws[i].amount = DatumGetInt64(elements[2 * i + 1]);
	}
	return draws;
}

/*
 * Reads a transaction from a slot.  Texts are good as long as the slot is,
 * draws and names are copied.
 */
void
row_read_entry(TupleTableSlot *slot, Entry *entry)
{
	Datum	   *values;
	bool	   *isnull;
	bytea	   *b;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
	memset(entry, 0, sizeof(Entry));

#define TEXT_OR_NULL(a) (isnull[a] ? NULL : DatumGetTextPP(values[a]))
	entry->id = DatumGetInt64(values[Anum_transactions_id]);
	entry->account_id = DatumGetInt64(values[Anum_transactions_account_id]);
	entry->created_at =
		DatumGetTimestampTz(values[Anum_transactions_created_at]);
	entry->amount = DatumGetInt64(values[Anum_transactions_amount]);
	entry->held = DatumGetInt64(values[Anum_transactions_held]);
	entry->balance_after =
		DatumGetInt64(values[Anum_transactions_balance_after]);
	entry->held_after = DatumGetInt64(values[Anum_transactions_held_after]);
	entry->has_target = !isnull[Anum_transactions_target_id];
	if (entry->has_target)
		entry->target_id = DatumGetInt64(values[Anum_transactions_target_id]);
	if (!isnull[Anum_transactions_member_id])
		entry->member_id = DatumGetInt64(values[Anum_transactions_member_id]);
	entry->has_request = !isnull[Anum_transactions_request];
	if (entry->has_request)
		entry->request = DatumGetInt64(values[Anum_transactions_request]);
	entry->kind = TextDatumGetCString(values[Anum_transactions_kind]);
	entry->role = TextDatumGetCString(values[Anum_transactions_role]);
	entry->key = TEXT_OR_NULL(Anum_transactions_idempotency_key);
	entry->operation = TEXT_OR_NULL(Anum_transactions_operation);
	entry->reference = TEXT_OR_NULL(Anum_transactions_reference);
	if (!isnull[Anum_transactions_draws])
	{
		/* an array not of our shape shows as a broken chain, and as no draws */
		entry->draws = row_read_draws(values[Anum_transactions_draws],
									  &entry->ndraws);
		entry->has_draws = entry->draws != NULL;
	}
	entry->terms = isnull[Anum_transactions_terms] ? NULL :
		DatumGetJsonbP(values[Anum_transactions_terms]);
	entry->reason = TEXT_OR_NULL(Anum_transactions_reason);
	entry->metadata = isnull[Anum_transactions_metadata] ? NULL :
		DatumGetJsonbP(values[Anum_transactions_metadata]);
	entry->actor = TEXT_OR_NULL(Anum_transactions_actor);
#undef TEXT_OR_NULL
	if (!isnull[Anum_transactions_salt])
	{
		b = DatumGetByteaPP(values[Anum_transactions_salt]);
		entry->salt = (uint8 *) VARDATA_ANY(b);
		entry->salt_len = VARSIZE_ANY_EXHDR(b);
	}
	b = DatumGetByteaPP(values[Anum_transactions_hash]);
	memcpy(entry->hash, VARDATA_ANY(b),
		   Min(VARSIZE_ANY_EXHDR(b), PG_SHA256_DIGEST_LENGTH));
}

/*
 * Copies what a transaction has in a slot, so that others can be read.
 */
static void
copy_entry(Entry *entry)
{
#define KEEP(type, field) \
	if (entry->field) \
		entry->field = (type *) \
			DatumGetPointer(datumCopy(PointerGetDatum(entry->field), false, -1))
	KEEP(text, key);
	KEEP(text, operation);
	KEEP(text, reference);
	KEEP(Jsonb, terms);
	KEEP(text, reason);
	KEEP(Jsonb, metadata);
	KEEP(text, actor);
#undef KEEP
	if (entry->salt)
	{
		uint8	   *salt = palloc(entry->salt_len);

		memcpy(salt, entry->salt, entry->salt_len);
		entry->salt = salt;
	}
}

/*
 * Finds a transaction by a scan that yields it alone.
 */
static bool
find_entry(Store *store, StoreIndex *index, Snapshot snapshot, ScanKey keys,
		   int nkeys, Entry *entry)
{
	StoreScan	scan;
	TupleTableSlot *slot;

	store_scan(&scan, store, index, snapshot, keys, nkeys);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
	{
		row_read_entry(slot, entry);
		copy_entry(entry);
	}
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Finds a transaction by id.
 */
bool
row_find_entry(Store *store, Snapshot snapshot, int64 id, Entry *entry)
{
	ScanKeyData key;

	id_key(&key, 1, id);
	return find_entry(store, &transactions_by_id, snapshot, &key, 1, entry);
}

/*
 * Finds a transaction by its idempotency key and the account whose key it is:
 * the one that spends, also where a pool pays.
 */
bool
row_find_key(Store *store, Snapshot snapshot, int64 account_id, text *key,
			 Entry *entry)
{
	ScanKeyData keys[2];

	id_key(&keys[0], 1, account_id);
	text_key(&keys[1], 2, key);
	return find_entry(store, &transactions_by_key, snapshot, keys, 2, entry);
}

/*
 * Makes an array of draws.
 */
Datum
row_draws_datum(const Draw *draws, int n)
{
	Datum	   *elements = palloc(2 * n * sizeof(Datum));
	int			dims[2] = {n, 2};
	int			lower_bounds[2] = {1, 1};
	int			i;

	for (i = 0; i < n; i++)
	{
		elements[2 * i] = Int64GetDatum(draws[i].grant_id);
		elements[2 * i + 1] = Int64GetDatum(draws[i].amount);
	}
	return PointerGetDatum(construct_md_array(elements, NULL, 2, dims,
											  lower_bounds, INT8OID,
											  sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

/*
 * Inserts a transaction into the log.
 */
void
row_insert_entry(Store *store, Entry *entry)
{
	Datum		row[Natts_transactions];
	bool		nulls[Natts_transactions] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	bytea	   *b;

#define SET_OR_NULL(a, p) \
	(values[a] = PointerGetDatum(p), isnull[a] = (p) == NULL)
	values[Anum_transactions_id] = Int64GetDatum(entry->id);
	values[Anum_transactions_account_id] = Int64GetDatum(entry->account_id);
	values[Anum_transactions_created_at] =
		TimestampTzGetDatum(entry->created_at);
	values[Anum_transactions_amount] = Int64GetDatum(entry->amount);
	values[Anum_transactions_held] = Int64GetDatum(entry->held);
	values[Anum_transactions_balance_after] =
		Int64GetDatum(entry->balance_after);
	values[Anum_transactions_held_after] = Int64GetDatum(entry->held_after);
	values[Anum_transactions_target_id] = Int64GetDatum(entry->target_id);
	isnull[Anum_transactions_target_id] = !entry->has_target;
	values[Anum_transactions_member_id] = Int64GetDatum(entry->member_id);
	isnull[Anum_transactions_member_id] = entry->member_id == 0;
	values[Anum_transactions_request] = Int64GetDatum(entry->request);
	isnull[Anum_transactions_request] = !entry->has_request;
	values[Anum_transactions_kind] = CStringGetTextDatum(entry->kind);
	values[Anum_transactions_role] = CStringGetTextDatum(entry->role);
	SET_OR_NULL(Anum_transactions_idempotency_key, entry->key);
	SET_OR_NULL(Anum_transactions_operation, entry->operation);
	SET_OR_NULL(Anum_transactions_reference, entry->reference);
	if (entry->has_draws)
		values[Anum_transactions_draws] = row_draws_datum(entry->draws,
															 entry->ndraws);
	else
		isnull[Anum_transactions_draws] = true;
	SET_OR_NULL(Anum_transactions_terms, entry->terms);
	SET_OR_NULL(Anum_transactions_reason, entry->reason);
	SET_OR_NULL(Anum_transactions_metadata, entry->metadata);
	SET_OR_NULL(Anum_transactions_actor, entry->actor);
	b = NULL;
	if (entry->salt)
	{
		b = palloc(VARHDRSZ + SALT_BYTES);
		SET_VARSIZE(b, VARHDRSZ + SALT_BYTES);
		memcpy(VARDATA(b), entry->salt, SALT_BYTES);
	}
	SET_OR_NULL(Anum_transactions_salt, b);
	b = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	SET_VARSIZE(b, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	memcpy(VARDATA(b), entry->hash, PG_SHA256_DIGEST_LENGTH);
	values[Anum_transactions_hash] = PointerGetDatum(b);
#undef SET_OR_NULL

	store_insert(store, &transactions_table, row, nulls);
}
