/*
 * bulk.c
 *	  The one door for many requests at once.
 *
 * The items are taken account by account, in order of their ids, and those of
 * one account in the order in which they came: it is settled, locked and
 * updated once, and its transactions are written together.
 *
 * As in ledger.c an account is not locked before its change is planned, unless
 * it has many items: to plan those twice costs more than the lock.  A dry run
 * locks nothing at all.
 */
#include "credits.h"

#include "posting.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* an account with as many items is locked before they are planned */
#define MANY_ITEMS 16

/* A batch under way */
typedef struct Batch
{
	Store	   *store;
	PlanChange	plan;
	BatchItem  *items;
	BatchItem **order;			/* those not refused yet, by account */
	int			nordered;
	BatchItem  *refused;		/* the first item that is, NULL if none */
	bool		atomic;			/* all items or none? */
	bool		dry;			/* is it only to see what would be? */
	bool		all_locked;		/* are all accounts to come locked? */
	TimestampTz now;			/* then the instant that they are changed at */
} Batch;

/*
 * Orders the items of a batch by account name, then as they came.
 */
static int
compare_names(const void *a, const void *b)
{
	const BatchItem *x = *(BatchItem *const *) a;
	const BatchItem *y = *(BatchItem *const *) b;
	int			lx = VARSIZE_ANY_EXHDR(x->account);
	int			ly = VARSIZE_ANY_EXHDR(y->account);
	int			result = memcmp(VARDATA_ANY(x->account),
								VARDATA_ANY(y->account), Min(lx, ly));

	if (result != 0)
		return result;
	if (lx != ly)
		return lx < ly ? -1 : 1;
	return x < y ? -1 : 1;
}

/*
 * Orders the items of a batch by account, then as they came.
 */
static int
compare_accounts(const void *a, const void *b)
{
	const BatchItem *x = *(BatchItem *const *) a;
	const BatchItem *y = *(BatchItem *const *) b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	return x < y ? -1 : 1;
}

/*
 * Notes that an item is refused.
 */
static void
note_refused(Batch *batch, BatchItem *item)
{
	if (batch->refused == NULL || item < batch->refused)
		batch->refused = item;
}

/*
 * Finds the accounts of a batch, each once.  Leaves those items that have one
 * in order of account.
 */
static void
find_accounts(Batch *batch)
{
	Snapshot	snapshot = GetActiveSnapshot();
	BatchItem **order = batch->order;
	int			n = batch->nordered;
	Account		account;
	int			found = 0;
	int			i;

	qsort(order, n, sizeof(BatchItem *), compare_names);
	for (i = 0; i < n; i++)
	{
		BatchItem  *item = order[i];

		CHECK_FOR_INTERRUPTS();
		if (i > 0 && same_text(item->account, order[i - 1]->account))
		{
			item->account_id = order[i - 1]->account_id;
			item->refusal = order[i - 1]->refusal;
		}
		else if (row_find_account(batch->store, snapshot, item->account, 0,
								  &account))
			item->account_id = account.id;
		else
			refuse_unknown_account(&item->refusal, item->account);
	}
	for (i = 0; i < n; i++)
		if (order[i]->account_id != 0)
			order[found++] = order[i];
		else
			note_refused(batch, order[i]);
	qsort(order, found, sizeof(BatchItem *), compare_accounts);
	batch->nordered = found;
}

/*
 * Returns the instant at which an account is changed.  Once all are locked it
 * is the same for all: what times out later is not among what is locked.
 */
static TimestampTz
now_for(const Batch *batch, const Account *account)
{
	return Max(batch->all_locked ? batch->now : clock_now(),
			   account->last_at);
}

/*
 * Adds the members to whose caps settling the accounts from one item on gives
 * back.
 */
static List *
members_of(Batch *batch, BatchItem **from, Snapshot snapshot)
{
	BatchItem **end = batch->order + batch->nordered;
	List	   *keys = NIL;

	for (; from < end; from++)
	{
		Posting		posting = {.store = batch->store,.snapshot = snapshot};

		CHECK_FOR_INTERRUPTS();
		if (from > batch->order && from[0]->account_id == from[-1]->account_id)
			continue;
		if (!row_find_account(batch->store, snapshot, NULL,
							  (*from)->account_id, &posting.account))
			continue;
		posting.now = now_for(batch, &posting.account);
		keys = reserve_add_members(keys, &posting);
	}
	return keys;
}

/*
 * Locks all accounts from the posting's on, whose items begin at one, in order
 * of their ids; then the members to whose caps settling any of them gives back,
 * in their order, which is not that of the accounts.
 */
static void
lock_all(Batch *batch, Posting *posting, BatchItem **from)
{
	BatchItem **end = batch->order + batch->nordered;
	BatchItem **item;
	Account		account;

	if (batch->all_locked)
		return;
	for (item = from; item < end; item++)
	{
		CHECK_FOR_INTERRUPTS();
		if (item[0]->account_id == from[0]->account_id ||
			item[0]->account_id == item[-1]->account_id)
			continue;
		if (row_find_account(batch->store, posting->snapshot, NULL,
							 (*item)->account_id, &account))
			row_lock_account(batch->store, posting->snapshot, &account, false);
	}
	posting->snapshot = posting_renew_snapshot();
	batch->all_locked = true;
	batch->now = clock_now();
	posting->now = now_for(batch, &posting->account);
	(void) caps_lock_members(posting,
							 members_of(batch, from, posting->snapshot),
							 false);
}

/* The keys of the items of one account that have been planned, by hash */
typedef struct BatchKey
{
	int64		hash;
	BatchItem  *first;			/* linked by next_of_hash */
} BatchKey;

/*
 * Finds the item of the same account that has used a key before in the batch,
 * and remembers this one if there is none.  What was refused keeps no key.
 */
static BatchItem *
same_key(HTAB **keys, BatchItem *item)
{
	HASHCTL		ctl = {0};
	StringInfoData key;
	BatchKey   *entry;
	BatchItem **other;
	int64		hash;
	bool		found;

	if (*keys == NULL)
	{
		ctl.keysize = sizeof(int64);
		ctl.entrysize = sizeof(BatchKey);
		ctl.hcxt = CurrentMemoryContext;
		*keys = hash_create("credits batch keys", 256, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	key.data = VARDATA_ANY(item->request.key);
	key.len = VARSIZE_ANY_EXHDR(item->request.key);
	hash = chain_fingerprint(&key);
	entry = hash_search(*keys, &hash, HASH_ENTER, &found);
	if (!found)
		entry->first = NULL;
	for (other = &entry->first; *other; other = &(*other)->next_of_hash)
		if (same_text((*other)->request.key, item->request.key))
		{
			if ((*other)->refusal.sqlstate == 0)
				return *other;
			/* this one may use the key in its place */
			item->next_of_hash = (*other)->next_of_hash;
			*other = item;
			return NULL;
		}
	item->next_of_hash = NULL;
	*other = item;
	return NULL;
}

/*
 * Answers an item whose key another item of the batch has used.  The
 * transaction of that one may come to nothing yet, so its id says little.
 */
static Outcome
replay_item(Batch *batch, Posting *posting, BatchItem *item, BatchItem *other)
{
	if (chain_fingerprint(&other->request.fingerprint) !=
		chain_fingerprint(&item->request.fingerprint))
	{
		refuse(&posting->refusal, ERRCODE_CONFLICT,
			   psprintf("idempotency key \"%s\" was used for another request",
						text_to_cstring(item->request.key)),
			   psprintf("Account \"%s\" uses it for item %d of the batch, of kind %s and amount " INT64_FORMAT ".",
						row_account_name(&posting->account),
						(int) (other - batch->items) + 1,
						other->receipt.kind, other->receipt.amount),
			   "Repeat a request with the very same arguments, or use a new key.");
		return REFUSED;
	}
	item->receipt = other->receipt;
	item->receipt.replayed = true;
	return REPLAYED;
}

/*
 * Plans one item of a batch.
 */
static Outcome
plan_item(Batch *batch, Posting *posting, BatchItem *item, HTAB **keys,
		  bool alone)
{
	Entry		entry;
	Outcome		outcome = POSTED;

	memset(&item->refusal, 0, sizeof(Refusal));
	if (item->request.key)
	{
		BatchItem  *other = alone ? NULL : same_key(keys, item);

		if (other)
			outcome = replay_item(batch, posting, item, other);
		else if (row_find_key(posting->store, posting->snapshot,
							  posting->account.id, item->request.key, &entry))
			outcome = posting_replay(posting, &item->request, &entry,
									 &item->receipt);
	}
	if (outcome == POSTED)
	{
		posting->main = NULL;
		if (batch->plan(posting, item->arg))
		{
			if (posting->account.debt > 0)
				debts_pay(posting, posting->now);
			log_describe(posting->main, &item->request);
			receipt_of_posting(&item->receipt, posting);
		}
		else
			outcome = REFUSED;
	}
	if (outcome == REFUSED)
	{
		item->refusal = posting->refusal;
		memset(&posting->refusal, 0, sizeof(Refusal));
	}
	return outcome;
}

/*
 * Plans and writes the items of one account, which change it once.
 */
static Outcome
attempt_items(Batch *batch, Posting *posting, BatchItem **items, int n)
{
	HTAB	   *keys = NULL;
	bool		posted = false;
	bool		refused = false;
	int			i;

	if (!row_find_account(posting->store, posting->snapshot, NULL,
						  items[0]->account_id, &posting->account))
		return CHANGED;
	log_check_idle(posting->account.id);
	if (posting->locked)
		posting_lock(posting);
	posting_check(&posting->account);
	posting->now = now_for(batch, &posting->account);
	if (posting_may_release(posting))
	{
		if (!posting->locked)
			return CHANGED;
		/* which reads them */
		row_keep_account(&posting->account);
		lock_all(batch, posting, items);
		(void) posting_lock_members(posting, 1, NULL, NULL, false);
	}
	reserve_settle(posting);
	if (n > 1)
		grants_load(posting);
	for (i = 0; i < n; i++)
	{
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = plan_item(batch, posting, items[i], &keys, n == 1);
		if (outcome == REFUSED && !posting->locked && !batch->dry)
			return CHANGED;
		posted = posted || outcome == POSTED;
		refused = refused || outcome == REFUSED;
	}
	if (!posted || posting->dry || (batch->atomic && refused))
		return POSTED;
	return posting_write(posting, NULL);
}

/*
 * Copies what an item says that lives in the memory of its account's change.
 */
static void
keep_item(BatchItem *item)
{
	Refusal    *refusal = &item->refusal;

	if (refusal->sqlstate != 0)
	{
		refusal->message = pstrdup(refusal->message);
		refusal->detail = refusal->detail ? pstrdup(refusal->detail) : NULL;
		refusal->hint = refusal->hint ? pstrdup(refusal->hint) : NULL;
	}
	else
	{
		item->receipt.kind = pstrdup(item->receipt.kind);
		item->receipt.account =
			DatumGetTextPCopy(PointerGetDatum(item->receipt.account));
	}
}

/*
 * Posts the items of one account.
 */
static void
post_items(Batch *batch, BatchItem **items, int n, bool dry)
{
	bool		locked = n >= MANY_ITEMS && !batch->dry;
	Posting		posting;
	Outcome		outcome;

	for (;;)
	{
		posting_begin(&posting, batch->store, locked, true);
		posting.dry = dry;
		outcome = attempt_items(batch, &posting, items, n);
		PopActiveSnapshot();
		if (outcome == POSTED || locked)
			break;
		locked = true;
	}
	if (outcome == CHANGED)
		posting_raise_changed(items[0]->account_id);
}

/*
 * Posts many requests at once.  Accounts are changed in order of their ids,
 * each once, and the items of an account in the order in which they came.
 * What becomes of an item is left in it: its receipt, or why it is refused.
 * Items that are refused already are left alone.  In a dry run nothing is
 * written.  Returns whether all items went well.
 *
 * If all are to be posted or none, nothing more is written once an item is
 * refused, and only what may come before it is looked at: the caller is told
 * the first one.
 */
bool
bulk_post(const char *function, BatchItem *items, int nitems, PlanChange plan,
		  bool atomic, bool dry)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext group = AllocSetContextCreate(context, "credits batch",
												ALLOCSET_DEFAULT_SIZES);
	Batch		batch = {.plan = plan,.items = items,.atomic = atomic,.dry = dry};
	int			first;
	int			next;
	int			i;

	store_check_writable(function);
	batch.order = palloc(nitems * sizeof(BatchItem *));
	for (i = 0; i < nitems; i++)
		if (items[i].refusal.sqlstate == 0)
			batch.order[batch.nordered++] = &items[i];
		else
			note_refused(&batch, &items[i]);

	batch.store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	find_accounts(&batch);
	PopActiveSnapshot();

	for (first = 0; first < batch.nordered; first = next)
	{
		BatchItem **order = batch.order;
		bool		doomed = atomic && batch.refused;

		for (next = first + 1; next < batch.nordered &&
			 order[next]->account_id == order[first]->account_id; next++)
			;
		if (doomed && order[first] > batch.refused)
			continue;
		MemoryContextSwitchTo(group);
		post_items(&batch, order + first, next - first, dry || doomed);
		MemoryContextSwitchTo(context);
		for (i = first; i < next; i++)
		{
			keep_item(order[i]);
			if (order[i]->refusal.sqlstate != 0)
				note_refused(&batch, order[i]);
		}
		MemoryContextReset(group);
	}
	store_close(batch.store);
	MemoryContextDelete(group);
	return batch.refused == NULL;
}
