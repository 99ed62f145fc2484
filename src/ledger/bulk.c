/*
 * bulk.c
 *	  Posting batches: many requests in one call.
 *
 * The items are grouped by account, and accounts are processed in order of
 * their ids.  The items of one account are processed in their original order;
 * the account is settled, locked and updated once, and all its transactions
 * are written together.
 *
 * As in ledger.c, an account is not locked before its items are planned,
 * unless there are many of them: planning them twice would cost more than the
 * lock.  A dry run locks nothing.
 *
 * bulk_post_joint is for requests that concern two accounts each.  There, one
 * item may bring what the next one spends, so the accounts cannot be taken one
 * by one: all of them make one joint change.
 */
#include "credits.h"

#include "ledger/keys.h"
#include "ledger/ledger.h"
#include "ledger/settle.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* an account with at least this many items is locked and loaded at first */
#define MANY_ITEMS 16

/* The state of a batch */
typedef struct Batch
{
	Store	   *store;
	PlanFunction plan;
	BatchItem  *items;
	BatchItem **order;			/* the items to be posted, by account */
	int			nordered;
	BatchItem **first;			/* first item of the current account */
	int			n;				/* number of items of the current account */
	BatchItem  *refused;		/* the first refused item, NULL if none */
	bool		atomic;			/* all items or none? */
	bool		dry;			/* a dry run? */
	bool		all_locked;		/* are the remaining accounts locked? */
	TimestampTz now;			/* if so, the time of their postings, else 0 */
} Batch;

/*
 * qsort comparator: by account name, then by position in the batch.
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
 * qsort comparator: by account id, then by position in the batch.
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
 * Remembers the first refused item.
 */
static void
note_refused(Batch *batch, BatchItem *item)
{
	if (batch->refused == NULL || item < batch->refused)
		batch->refused = item;
}

/*
 * Looks up the accounts of the items, each once, and sorts the items by
 * account.  Items whose account does not exist are refused and removed.
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
		else if (rows_find_account(batch->store, snapshot, item->account, 0,
								   &account))
			item->account_id = account.id;
		else
			guards_refuse_unknown(&item->refusal, item->account);
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
 * Returns the members that must be locked because settling the remaining
 * accounts, beginning with that of "from", may give back to their caps.
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
		if (!rows_find_account(batch->store, snapshot, NULL,
							   (*from)->account_id, &posting.account))
			continue;
		posting.now = ledger_instant(batch->now, &posting.account);
		keys = settle_add_members(keys, &posting, SETTLE_ALL);
	}
	return keys;
}

/*
 * Callback before_settling: if settling the current account may change
 * members, locks all remaining accounts in order of their ids, and then the
 * members that settling any of them may change.
 *
 * Members must be locked after all accounts, in their own order, so it would
 * be too late to lock the other accounts afterwards.
 */
static void
lock_rest(Posting *posting, void *arg)
{
	Batch	   *batch = arg;
	BatchItem **from = batch->first;
	BatchItem **end = batch->order + batch->nordered;
	BatchItem **item;
	Account		account;

	if (batch->all_locked || !posting_may_release(posting))
		return;
	for (item = from; item < end; item++)
	{
		CHECK_FOR_INTERRUPTS();
		if (item[0]->account_id == from[0]->account_id ||
			item[0]->account_id == item[-1]->account_id)
			continue;
		if (rows_find_account(batch->store, posting->snapshot, NULL,
							  (*item)->account_id, &account))
			rows_lock_account(batch->store, posting->snapshot, &account, false);
	}
	ledger_renew_snapshot(posting, 1);
	batch->all_locked = true;

	/*
	 * From now on the time must not advance: a hold that expires later could
	 * need a member that is not locked.
	 */
	batch->now = clock_now();
	posting->now = ledger_instant(batch->now, &posting->account);
	(void) members_lock(posting,
						members_of(batch, from, posting->snapshot),
						false);
}

/* Idempotency keys with the same hash, of planned items of one account */
typedef struct BatchKey
{
	int64		hash;
	BatchItem  *first;			/* list linked by next_of_hash */
} BatchKey;

/*
 * Returns an earlier item of the same account with the same key, or NULL if
 * there is none; in that case this item is remembered.  A refused item does
 * not use up its key.
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
	hash = chain_fingerprint(&key, NULL, 0);
	entry = hash_search(*keys, &hash, HASH_ENTER, &found);
	if (!found)
		entry->first = NULL;
	for (other = &entry->first; *other; other = &(*other)->next_of_hash)
		if ((*other)->account_id == item->account_id &&
			same_text((*other)->request.key, item->request.key))
		{
			if ((*other)->refusal.sqlstate == 0)
				return *other;
			/* that one was refused: this one replaces it */
			item->next_of_hash = (*other)->next_of_hash;
			*other = item;
			return NULL;
		}
	item->next_of_hash = NULL;
	*other = item;
	return NULL;
}

/*
 * Handles an item whose key was used by an earlier item of the batch: returns
 * REPLAYED and the receipt of that item or, if it is a different request,
 * REFUSED.
 *
 * The message has the number of the item instead of a transaction id, because
 * that transaction may never be committed.
 */
static Outcome
replay_item(BatchItem *items, Posting *posting, BatchItem *item,
			BatchItem *other)
{
	if (chain_fingerprint(&other->request.fingerprint, NULL, 0) !=
		chain_fingerprint(&item->request.fingerprint, NULL, 0))
	{
		refuse(&posting->refusal, ERRCODE_CONFLICT,
			   psprintf("idempotency key \"%s\" was used for another request",
						text_to_cstring(item->request.key)),
			   psprintf("Account \"%s\" uses it for item %d of the batch, of kind %s and amount " INT64_FORMAT ".",
						rows_account_name(&posting->account),
						(int) (other - items) + 1,
						other->receipt.kind, other->receipt.amount),
			   "Repeat the request with the same arguments, or use a new key.");
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
			outcome = replay_item(batch->items, posting, item, other);
		else if (keys_find(posting->store, posting->snapshot,
						   posting->account.id, item->request.key, &entry))
			outcome = requests_replay(posting, &item->request, &entry,
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
			receipts_of_posting(&item->receipt, posting);
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
 * Plans all items of one account, as one posting.
 */
static bool
plan_items(Posting *posting, void *arg)
{
	Batch	   *batch = arg;
	HTAB	   *keys = NULL;
	bool		posted = false;
	bool		refused = false;
	int			i;

	/* once for all items, instead of a scan for each */
	if (batch->n >= MANY_ITEMS)
		burn_load(posting);
	for (i = 0; i < batch->n; i++)
	{
		BatchItem  *item = batch->first[i];
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = plan_item(batch, posting, item, &keys, batch->n == 1);
		/* as the account is not locked, make ledger_run plan all items again */
		if (outcome == REFUSED && !posting->locked && !batch->dry)
		{
			posting->refusal = item->refusal;
			return false;
		}
		posted = posted || outcome == POSTED;
		refused = refused || outcome == REFUSED;
	}
	/* without a refusal, false means that there is nothing to write */
	return posted && !posting->dry && !(batch->atomic && refused);
}

/*
 * Copies refusal or receipt of an item to the caller's memory context.
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
	Party		party = {NULL, items[0]->account_id};
	LedgerCall	call = {
		.parties = &party,
		.nparties = 1,
		.plan = plan_items,
		.arg = batch,
		.lock_first = n >= MANY_ITEMS && !batch->dry,
		.dry = dry,
		.no_locks = batch->dry,
		.now = batch->now,
		.before_settling = lock_rest
	};
	Refusal		refusal;

	batch->first = items;
	batch->n = n;
	/* accounts are never deleted, so this happens only if a table is damaged */
	if (ledger_run(batch->store, &call, &refusal) == REFUSED)
		raise_refusal(&refusal);
}

/*
 * Posts a batch.  Each item gets a receipt or a refusal; items that already
 * have a refusal are skipped.  Returns whether no item was refused.
 *
 * If "atomic", nothing more is written after an item has been refused, and the
 * caller must raise an error.  Items that precede the refused one are still
 * planned, so that the error is that of the first refused item.
 */
bool
bulk_post(const char *function, BatchItem *items, int nitems, PlanFunction plan,
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

/* A batch of joint changes under way */
typedef struct JointBatch
{
	PlanItem	plan;
	BatchItem  *items;
	int			nitems;
	Party	   *parties;		/* all accounts, in order of their ids */
	int			nparties;
	bool		atomic;
	bool		refused;		/* is any item refused? */
} JointBatch;

/*
 * Finds an account of an item by name, unless its id is known.
 */
static bool
find_account(Store *store, BatchItem *item, text *name, int64 *id)
{
	Account		account;

	if (*id != 0)
		return true;
	if (!rows_find_account(store, GetActiveSnapshot(), name, 0, &account))
		return guards_refuse_unknown(&item->refusal, name);
	*id = account.id;
	return true;
}

/*
 * Orders accounts by id.
 */
static int
compare_parties(const void *a, const void *b)
{
	int64		x = ((const Party *) a)->id;
	int64		y = ((const Party *) b)->id;

	return x < y ? -1 : x > y;
}

/*
 * Returns the place of an account among those of a batch.
 */
static int
party_place(const JointBatch *batch, int64 id)
{
	Party		party = {NULL, id};

	return (Party *) bsearch(&party, batch->parties, batch->nparties,
							 sizeof(Party), compare_parties) - batch->parties;
}

/*
 * Finds the accounts of all items that are not refused, and the places of each
 * item's.
 */
static void
find_parties_of_all(JointBatch *batch, Store *store)
{
	int			n = 0;
	int			i;

	batch->parties = palloc0(2 * batch->nitems * sizeof(Party));
	for (i = 0; i < batch->nitems; i++)
	{
		BatchItem  *item = &batch->items[i];

		CHECK_FOR_INTERRUPTS();
		if (item->refusal.sqlstate != 0 ||
			!find_account(store, item, item->account, &item->account_id))
			continue;
		if (item->other || item->other_id != 0)
		{
			if (!find_account(store, item, item->other, &item->other_id))
				continue;
			if (item->other_id == item->account_id)
			{
				refuse(&item->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					   "accounts must differ",
					   psprintf("Account \"%s\" is named twice.",
								text_to_cstring(item->account)),
					   "Name two accounts.");
				continue;
			}
			batch->parties[n++].id = item->other_id;
		}
		batch->parties[n++].id = item->account_id;
	}
	qsort(batch->parties, n, sizeof(Party), compare_parties);
	for (i = 0; i < n; i++)
		if (i == 0 || batch->parties[i].id != batch->parties[i - 1].id)
			batch->parties[batch->nparties++] = batch->parties[i];
	for (i = 0; i < batch->nitems; i++)
	{
		BatchItem  *item = &batch->items[i];

		if (item->refusal.sqlstate != 0)
		{
			batch->refused = true;
			continue;
		}
		item->places[0] = party_place(batch, item->account_id);
		if (item->other_id != 0)
			item->places[1] = party_place(batch, item->other_id);
	}
}

/*
 * Locks the members that settling any of the accounts and the plan of any item
 * change, so that all are locked in order.
 */
static void
lock_all_members(Posting *postings, void *arg)
{
	JointBatch *batch = arg;
	List	   *keys = NIL;
	int			i;

	for (i = 0; i < batch->nparties; i++)
	{
		CHECK_FOR_INTERRUPTS();
		keys = settle_add_members(keys, &postings[i], SETTLE_ALL);
	}
	for (i = 0; i < batch->nitems; i++)
		if (batch->items[i].refusal.sqlstate == 0)
			keys = list_concat(keys, batch->items[i].members);
	(void) members_lock(&postings[0], keys, false);
}

/*
 * Takes over what a plan says about why an item is refused.
 */
static void
take_refusal(BatchItem *item, Posting *posting)
{
	if (posting->refusal.sqlstate != 0)
		item->refusal = posting->refusal;
	memset(&posting->refusal, 0, sizeof(Refusal));
}

/*
 * Plans one item of a batch of joint changes.
 */
static Outcome
plan_joint_item(JointBatch *batch, Posting *postings, BatchItem *item,
				HTAB **keys)
{
	Posting    *first = &postings[item->places[0]];
	Posting    *second = item->other_id != 0 ?
		&postings[item->places[1]] : NULL;
	Posting    *main;
	Outcome		outcome = POSTED;
	Entry		entry;

	if (item->request.key)
	{
		BatchItem  *other = same_key(keys, item);

		if (other)
			outcome = replay_item(batch->items, first, item, other);
		else if (keys_find(first->store, first->snapshot,
						   first->account.id, item->request.key, &entry))
			outcome = requests_replay(first, &item->request, &entry,
									  &item->receipt);
	}
	first->main = NULL;
	if (second)
		second->main = NULL;
	if (outcome == POSTED && !batch->plan(postings, item))
		outcome = REFUSED;
	if (outcome == REFUSED)
	{
		if (second)
			take_refusal(item, second);
		take_refusal(item, first);
	}
	if (outcome != POSTED)
		return outcome;

	if (first->account.debt > 0)
		debts_pay(first, first->now);
	if (second && second->account.debt > 0)
		debts_pay(second, second->now);
	main = first->main ? first : second;
	log_describe(main->main, &item->request);
	receipts_of_posting(&item->receipt, main);
	/* the key is of the first account, even if only the second one changes */
	if (item->request.key)
		first->touched = true;
	return POSTED;
}

/*
 * Plans all items of a batch of joint changes, in the order in which they came.
 */
static bool
plan_joint_items(Posting *postings, void *arg)
{
	JointBatch *batch = arg;
	HTAB	   *keys = NULL;
	bool		posted = false;
	int			i;

	for (i = 0; i < batch->nitems; i++)
	{
		BatchItem  *item = &batch->items[i];
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		if (item->refusal.sqlstate != 0)
			continue;
		outcome = plan_joint_item(batch, postings, item, &keys);
		posted = posted || outcome == POSTED;
		batch->refused = batch->refused || outcome == REFUSED;
		/* the caller is told the first one */
		if (batch->refused && batch->atomic)
			return false;
	}
	return posted;
}

/*
 * Posts many requests that may concern two accounts each.  All accounts are
 * locked in order of their ids, and changed at the same instant, each once.
 * Otherwise like bulk_post.
 */
bool
bulk_post_joint(const char *function, BatchItem *items, int nitems,
				PlanItem plan, bool atomic)
{
	JointBatch	batch = {
		.plan = plan,.items = items,.nitems = nitems,.atomic = atomic
	};
	LedgerCall	call = {
		.plan = plan_joint_items,
		.arg = &batch,
		.lock_first = true,
		.before_settling = lock_all_members
	};
	Refusal		refusal;
	Store	   *store;

	store_check_writable(function);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	find_parties_of_all(&batch, store);
	PopActiveSnapshot();
	call.parties = batch.parties;
	call.nparties = batch.nparties;
	if (call.nparties > 0 && !(atomic && batch.refused) &&
		ledger_run(store, &call, &refusal) == REFUSED)
		raise_refusal(&refusal);
	store_close(store);
	return !batch.refused;
}
