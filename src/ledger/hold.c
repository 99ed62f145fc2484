/*
 * hold.c
 *	  Holds of a posting: making, capturing, releasing and extending them.
 *
 * The credits that a hold reserves are drawn from grants immediately, in burn
 * order, so they cannot expire while they are held.  The draws are those of
 * the hold's transaction.  Captures use them up in order, and a release gives
 * the rest back.  If a grant has expired in the meantime, it loses what it
 * gets back immediately.
 */
#include "credits.h"

#include "ledger/burn.h"
#include "ledger/debts.h"
#include "ledger/draws.h"
#include "ledger/grants.h"
#include "ledger/hold.h"
#include "ledger/limit_rules.h"
#include "ledger/log.h"

#include "miscadmin.h"
#include "utils/builtins.h"

const char *const hold_status_names[] =
{"open", "captured", "released", "expired"};

static const StoreColumn hold_columns[] = {
	COLUMN_INT64(Hold, id),
	COLUMN_INT64(Hold, account_id),
	COLUMN_TIME(Hold, created_at),
	COLUMN_INT64(Hold, reserved),
	COLUMN_TIME(Hold, expires_at),
	COLUMN_ENUM(Hold, status, hold_status_names),
	COLUMN_INT64(Hold, captured),
	COLUMN_INT64(Hold, released)
};

StoreTable	holds_table = {
	.name = "hold_states",
	ROWS_OF(Hold, hold_columns)
};

StoreIndex	holds_by_id = {
	&holds_table, "hold_states_pkey", {"id"},.unique = true
};
StoreIndex	holds_by_expires_at = {
	&holds_table, "hold_states_expires_at_idx",
	{"account_id", "expires_at", "id"},
	.predicate = "(status = 'open'::text)"
};

/*
 * Returns how much of a hold has been neither captured nor released.
 */
int64
hold_left(const Hold *hold)
{
	return hold->reserved - hold->captured - hold->released;
}

/*
 * Finds a hold by id.
 */
bool
hold_find(Store *store, Snapshot snapshot, int64 id, Hold *hold)
{
	return scan_find(store, &holds_by_id, snapshot, hold, BY_INT64(id));
}

/*
 * Inserts or updates a hold, when the posting is written.
 */
static void
write_hold(Posting *posting, void *row)
{
	store_write(posting->store, &holds_table, posting->snapshot, row);
}

/*
 * Registers a hold to be written.
 */
static void
hold_changed(Posting *posting, Hold *hold)
{
	if (!hold->changed)
		posting_defer(posting, write_hold, hold);
	hold->changed = true;
}

/*
 * Returns the terms of a transaction that sets the expiry of a hold.
 */
static Jsonb *
expiry_terms(const Hold *hold)
{
	JsonObject	json;

	json_begin(&json);
	json_instant(&json, "expires_at", hold->expires_at);
	return json_document(&json);
}

/*
 * Makes a hold of an amount, for which the balance must be sufficient.
 * Returns it and its entry.
 */
Hold *
hold_new(Posting *posting, int64 amount, TimestampTz expires_at,
		 Entry **entry)
{
	Hold	   *hold = palloc0(sizeof(Hold));
	int			ndraws;
	Draw	   *draws = burn_grants(posting, amount, &ndraws);

	*entry = log_add_held(posting, KIND_HOLD, posting->now, -amount, amount,
						  draws, ndraws);
	ItemPointerSetInvalid(&hold->tid);
	hold->id = (*entry)->id;
	hold->account_id = posting->account.id;
	hold->created_at = (*entry)->created_at;
	hold->expires_at = expires_at;
	hold->reserved = amount;
	hold->status = HOLD_OPEN;
	hold->entry = *entry;
	(*entry)->terms = expiry_terms(hold);
	posting->holds = lappend(posting->holds, hold);
	hold_changed(posting, hold);
	grants_wake(posting, expires_at);
	return hold;
}

/*
 * Returns a hold of the posting's account by id, and reads it if necessary.
 */
Hold *
hold_get(Posting *posting, int64 id)
{
	ListCell   *lc;
	Hold	   *hold;

	CHECK_FOR_INTERRUPTS();
	foreach(lc, posting->holds)
	{
		hold = lfirst(lc);
		if (hold->id == id)
			return hold;
	}
	hold = palloc(sizeof(Hold));
	if (!hold_find(posting->store, posting->snapshot, id, hold) ||
		hold->account_id != posting->account.id ||
		hold->status == HOLD_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("hold " INT64_FORMAT " is missing or damaged", id),
				 errdetail("It is account " INT64_FORMAT "'s by the log.",
						   posting->account.id),
				 errhint("Run credits_verify.")));
	posting->holds = lappend(posting->holds, hold);
	return hold;
}

/*
 * Returns the transaction that made a hold, and reads it if necessary.
 */
static Entry *
entry_of(Posting *posting, Hold *hold)
{
	if (hold->entry == NULL)
	{
		Entry	   *entry = palloc(sizeof(Entry));

		if (!rows_find_entry(posting->store, posting->snapshot, hold->id, entry) ||
			entry->account_id != posting->account.id)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the transaction of hold " INT64_FORMAT " is missing",
							hold->id),
					 errhint("Run credits_verify.")));
		hold->entry = entry;
	}
	return hold->entry;
}

/*
 * Returns the draws of the next "amount" credits of a hold.
 */
static Draw *
take_draws(Posting *posting, Hold *hold, int64 amount, int *ndraws)
{
	Entry	   *entry = entry_of(posting, hold);
	Draw	   *draws = palloc(Max(entry->ndraws, 1) * sizeof(Draw));
	int64		skip = hold->captured + hold->released;

	/* two draws on one grant are possible only if the hold was enlarged */
	DrawPlaces *places = hold->enlarged ? draws_places(NULL, 0) : NULL;
	int			n = 0;
	int			i;

	for (i = 0; i < entry->ndraws && amount > 0; i++)
	{
		int64		drawn = -entry->draws[i].amount;
		int64		skipped = Min(skip, drawn);
		int64		part = Min(amount, drawn - skipped);
		int			place = -1;

		CHECK_FOR_INTERRUPTS();
		skip -= skipped;
		if (part == 0)
			continue;
		if (places)
			place = draws_find(places, entry->draws[i].grant_id);
		if (place < 0)
		{
			place = n++;
			draws[place] = DRAW(entry->draws[i].grant_id, 0);
			if (places)
				draws_note(places, draws[place].grant_id, place);
		}
		draws[place].amount -= part;
		amount -= part;
	}
	if (amount > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("hold " INT64_FORMAT " has not drawn what it reserves",
						hold->id),
				 errdetail("It is " INT64_FORMAT " short.", amount),
				 errhint("Run credits_verify.")));
	*ndraws = n;
	return draws;
}

/*
 * Takes an amount from a hold, of which at least that much must be left.  The
 * hold ends if nothing is left.
 */
Entry *
hold_capture(Posting *posting, Hold *hold, TransactionKind kind,
			 int64 amount)
{
	int			ndraws;
	Draw	   *draws = take_draws(posting, hold, amount, &ndraws);
	Entry	   *entry = log_add_held(posting, kind, posting->now, 0, -amount,
									 draws, ndraws);

	entry->has_target = true;
	entry->target_id = hold->id;
	entry->member_id = entry_of(posting, hold)->member_id;
	hold->captured += amount;
	if (hold_left(hold) == 0)
		hold->status = HOLD_CAPTURED;
	hold_changed(posting, hold);
	return entry;
}

/*
 * Returns what is left of a hold to the grants, which ends the hold.  The
 * target of the new entry is "main" or, if that is NULL, the hold.  If credits
 * are lost immediately, entries for that follow, with the same target as the
 * release or, if "main" is NULL, the release itself.
 */
Entry *
hold_release(Posting *posting, Hold *hold, TimestampTz at,
			 HoldStatus status, const Entry *main)
{
	int64		amount = hold_left(hold);
	int			ndraws;
	Draw	   *draws = take_draws(posting, hold, amount, &ndraws);
	TransactionKind *lost_as = palloc(ndraws * sizeof(TransactionKind));
	Entry	   *entry;
	int			i;

	for (i = 0; i < ndraws; i++)
	{
		Grant	   *grant = grants_get(posting, draws[i].grant_id);

		draws[i].amount = -draws[i].amount;
		lost_as[i] = grants_give_back(posting, grant, draws[i].amount,
									  hold->created_at, at, at, NULL);
	}
	hold->released += amount;
	hold->status = status;
	hold_changed(posting, hold);
	limit_rules_give_back(posting, entry_of(posting, hold), amount);

	entry = log_add_held(posting, KIND_RELEASE, at, amount, -amount, draws,
						 ndraws);
	entry->has_target = true;
	entry->target_id = main ? main->id : hold->id;
	entry->member_id = entry_of(posting, hold)->member_id;
	for (i = 0; i < ndraws; i++)
		if (lost_as[i] != KIND_NONE)
		{
			Grant	   *grant = grants_get(posting, draws[i].grant_id);

			log_add_loss(posting, lost_as[i], at,
						 grants_draw(grant, -draws[i].amount),
						 main ? main->id : entry->id);
		}
	return entry;
}

/*
 * Adds an amount to a hold, for which the balance must be sufficient.  The
 * hold must be captured completely in the same posting.
 */
Entry *
hold_enlarge(Posting *posting, Hold *hold, int64 amount)
{
	Entry	   *made = entry_of(posting, hold);
	Entry	   *all = palloc(sizeof(Entry));
	Entry	   *entry;
	int			ndraws;
	Draw	   *draws = burn_grants(posting, amount, &ndraws);

	entry = log_add_held(posting, KIND_HOLD, posting->now, -amount, amount,
						 draws, ndraws);
	entry->has_target = true;
	entry->target_id = hold->id;
	entry->member_id = made->member_id;
	hold->reserved += amount;
	hold->enlarged = true;
	hold_changed(posting, hold);

	/* let the capture that follows in this posting use all draws */
	*all = *made;
	all->ndraws = made->ndraws + ndraws;
	all->draws = palloc(all->ndraws * sizeof(Draw));
	memcpy(all->draws, made->draws, made->ndraws * sizeof(Draw));
	memcpy(all->draws + made->ndraws, draws, ndraws * sizeof(Draw));
	hold->entry = all;
	return entry;
}

/*
 * Sets a new expiry of a hold.
 */
Entry *
hold_extend(Posting *posting, Hold *hold, TimestampTz expires_at)
{
	Entry	   *entry = log_add(posting, KIND_EXTENSION, posting->now, 0, NULL,
								0);

	hold->expires_at = expires_at;
	hold_changed(posting, hold);
	entry->has_target = true;
	entry->target_id = hold->id;
	entry->terms = expiry_terms(hold);
	entry->member_id = entry_of(posting, hold)->member_id;
	grants_wake(posting, expires_at);
	return entry;
}
