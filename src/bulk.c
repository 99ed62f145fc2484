/*
 * bulk.c
 *	  The one door for many requests at once.
 *
 * The items are taken account by account, in order of their ids, and those of
 * one account in the order in which they came: it is settled, locked and
 * updated once, and its transactions are written together.
 */
#include "credits.h"

#include "posting.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

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
 * Finds the accounts of a batch, each once.  Leaves those items that have one
 * in order of account, and returns their number.
 */
static int
find_accounts(Store *store, BatchItem **order, int n)
{
	Snapshot	snapshot = GetActiveSnapshot();
	Account		account;
	int			found = 0;
	int			i;

	qsort(order, n, sizeof(BatchItem *), compare_names);
	for (i = 0; i < n; i++)
	{
		BatchItem  *item = order[i];

		if (i > 0 && item->account_id == 0 &&
			VARSIZE_ANY_EXHDR(item->account) == VARSIZE_ANY_EXHDR(order[i - 1]->account) &&
			memcmp(VARDATA_ANY(item->account), VARDATA_ANY(order[i - 1]->account),
				   VARSIZE_ANY_EXHDR(item->account)) == 0)
		{
			item->account_id = order[i - 1]->account_id;
			item->refusal = order[i - 1]->refusal;
		}
		else if (row_find_account(store, snapshot, item->account, 0, &account))
			item->account_id = account.id;
		else
			refuse_unknown_account(&item->refusal, item->account);
	}
	for (i = 0; i < n; i++)
		if (order[i]->account_id != 0)
			order[found++] = order[i];
	qsort(order, found, sizeof(BatchItem *), compare_accounts);
	return found;
}

/* The keys of the items of one account that have been planned, by hash */
typedef struct BatchKey
{
	int64		hash;
	BatchItem  *first;			/* linked by next_of_hash */
} BatchKey;

/*
 * Finds the item of the same account that has used a key before in the batch,
 * and remembers this one if there is none.
 */
static BatchItem *
same_key(HTAB **keys, BatchItem *item)
{
	HASHCTL		ctl = {0};
	StringInfoData key;
	BatchKey   *entry;
	BatchItem  *other;
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
	for (other = entry->first; other; other = other->next_of_hash)
		if (VARSIZE_ANY_EXHDR(other->request.key) == (Size) key.len &&
			memcmp(VARDATA_ANY(other->request.key), key.data, key.len) == 0)
			return other;
	item->next_of_hash = entry->first;
	entry->first = item;
	return NULL;
}

/*
 * Answers an item whose key another item of the batch has used.
 */
static Outcome
replay_item(Posting *posting, BatchItem *item, BatchItem *other)
{
	Entry		entry;

	if (other->refusal.sqlstate != 0)
		/* what was refused keeps no key */
		return POSTED;
	if (other->entry == NULL)
	{
		/* a replay itself, so in the log */
		if (!row_find_key(posting->store, posting->snapshot,
						  posting->account.id, item->request.key, &entry))
			return POSTED;
		return posting_replay(posting, &item->request, &entry, &item->receipt);
	}
	if (other->entry->request != chain_fingerprint(&item->request.fingerprint))
		return posting_replay(posting, &item->request, other->entry, &item->receipt);
	item->receipt = other->receipt;
	item->receipt.replayed = true;
	return REPLAYED;
}

/*
 * Plans one item of a batch.
 */
static Outcome
plan_item(Posting *posting, BatchItem *item, HTAB **keys, bool alone,
		  PlanChange plan)
{
	Entry		entry;
	Outcome		outcome = POSTED;

	memset(&item->refusal, 0, sizeof(Refusal));
	item->entry = NULL;
	if (item->request.key)
	{
		BatchItem  *other = alone ? NULL : same_key(keys, item);

		if (other)
			outcome = replay_item(posting, item, other);
		else if (row_find_key(posting->store, posting->snapshot,
							  posting->account.id, item->request.key, &entry))
			outcome = posting_replay(posting, &item->request, &entry, &item->receipt);
	}
	if (outcome == POSTED)
	{
		posting->main = NULL;
		if (plan(posting, item->arg))
		{
			item->entry = posting->main;
			log_describe(item->entry, &item->request);
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
attempt_items(Posting *posting, BatchItem **items, int n, PlanChange plan)
{
	HTAB	   *keys = NULL;
	bool		posted = false;
	int			i;

	if (!row_find_account(posting->store, posting->snapshot, NULL,
						  items[0]->account_id, &posting->account))
		return CHANGED;
	log_check_idle(posting->account.id);
	/* a hold that times out gives back to caps, which are locked after it */
	if (!posting->locked && posting->account.held > 0 &&
		clock_now() >= posting->account.due_at)
		return CHANGED;
	if (posting->locked)
		posting_lock(posting);
	posting_check(&posting->account);
	posting->now = Max(clock_now(), posting->account.last_at);
	if (!posting->dry)
		(void) posting_lock_members(posting, 1, NULL, NULL, false);
	reserve_settle(posting);
	if (n > 1)
		grants_load(posting);
	for (i = 0; i < n; i++)
	{
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = plan_item(posting, items[i], &keys, n == 1, plan);
		if (outcome == REFUSED && !posting->locked)
			return CHANGED;
		posted = posted || outcome == POSTED;
	}
	if (!posted || posting->dry)
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

	item->entry = NULL;
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
 * Posts many requests at once.  Accounts are changed in order of their ids,
 * each once, and the items of an account in the order in which they came.
 * What becomes of an item is left in it: its receipt, or why it is refused.
 * Items that are refused already are left alone.  In a dry run nothing is
 * written.  Returns whether all items went well; stops at the first one that
 * does not, if that is wanted.
 */
bool
bulk_post(const char *function, BatchItem *items, int nitems,
				  PlanChange plan, bool stop, bool dry)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext group = AllocSetContextCreate(context, "credits batch",
												ALLOCSET_DEFAULT_SIZES);
	BatchItem **order = palloc(nitems * sizeof(BatchItem *));
	Store	   *store;
	bool		all = true;
	int			n = 0;
	int			first;
	int			next;
	int			i;

	for (i = 0; i < nitems; i++)
		if (items[i].refusal.sqlstate == 0)
			order[n++] = &items[i];
	all = n == nitems;
	if (!all && stop)
		return false;

	store_check_writable(function);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	first = find_accounts(store, order, n);
	PopActiveSnapshot();
	all = all && first == n;
	n = first;

	for (first = 0; first < n && (all || !stop); first = next)
	{
		Posting		posting;
		Outcome		outcome;
		bool		locked = false;

		for (next = first + 1; next < n &&
			 order[next]->account_id == order[first]->account_id; next++)
			;
		MemoryContextSwitchTo(group);
		for (;;)
		{
			posting_begin(&posting, store, locked, true);
			posting.dry = dry;
			outcome = attempt_items(&posting, order + first, next - first,
									plan);
			PopActiveSnapshot();
			if (outcome == POSTED || locked)
				break;
			locked = true;
		}
		if (outcome == CHANGED)
			posting_raise_changed(order[first]->account_id);
		MemoryContextSwitchTo(context);
		for (i = first; i < next; i++)
		{
			keep_item(order[i]);
			all = all && order[i]->refusal.sqlstate == 0;
		}
		MemoryContextReset(group);
	}
	store_close(store);
	MemoryContextDelete(group);
	return all;
}
