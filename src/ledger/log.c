/*
 * log.c
 *	  The immutable log: building its rows, and the triggers that write and
 *	  protect them.
 *
 * The rows are written by the trigger accounts_write_log, so that an account
 * cannot change without them.  It finds the entries in the current posting,
 * and refuses an update of an account without one.  The apply worker of
 * logical replication is exempt, because it also replicates the rows of the
 * log.
 */
#include "credits.h"

#include "ledger/alerts.h"
#include "ledger/chain.h"
#include "ledger/grants.h"
#include "ledger/log.h"
#include "ledger/roles.h"
#include "store/statements.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "common/int.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(credits_write_log);
PG_FUNCTION_INFO_V1(credits_refuse_change);

/* postings whose rows are being written, linked by "outer", innermost first */
static Posting *current = NULL;

/* the one that was found last, whose next one is mostly what is sought next */
static Posting *found_last = NULL;

/*
 * Adds an amount to a total.  Returns false on overflow.
 */
static bool
add_total(int64 *total, int64 amount)
{
	int64		result;

	if (pg_add_s64_overflow(*total, amount, &result))
		return false;
	*total = result;
	return true;
}

/*
 * Adds a transaction to an account's lifetime totals.  Returns false on
 * overflow.
 */
bool
log_add_totals(Account *account, const Entry *entry)
{
	int64		moved = rows_moved(entry);

	switch (kinds_info(entry->kind)->total)
	{
		case TOTAL_SPENT:
			return add_total(&account->spent, moved);
		case TOTAL_REFUNDED:
			return add_total(&account->refunded, moved);
		case TOTAL_EXPIRED:
			return add_total(&account->expired, moved);
		case TOTAL_NONE:
			break;
	}
	/* accounts.granted is increased in grants_new */
	return true;
}

/*
 * Refuses a posting that would exceed the range of balances and totals.
 */
static bool
refuse_overflow(Posting *posting, int64 change)
{
	return refuse(&posting->refusal, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
				  "credits out of range",
				  psprintf("Account " INT64_FORMAT " was granted " INT64_FORMAT " and spent " INT64_FORMAT " in all; a change of " INT64_FORMAT " would exceed " INT64_FORMAT ".",
						   posting->account.id, posting->account.granted,
						   posting->account.spent, change, PG_INT64_MAX),
				  "A balance and each lifetime total must not exceed that.");
}

/*
 * Refuses a grant that would exceed the range of what is granted in all.
 */
bool
log_may_grant(Posting *posting, int64 amount)
{
	int64		granted = posting->account.granted;

	return add_total(&granted, amount) || refuse_overflow(posting, amount);
}

/*
 * Refuses a spend that would exceed the range of what is spent in all.
 */
bool
log_may_spend(Posting *posting, int64 amount)
{
	int64		spent = posting->account.spent;

	return add_total(&spent, amount) || refuse_overflow(posting, -amount);
}

/*
 * Raises the error for a posting that would exceed the range of balances and
 * totals.
 */
void
log_raise_overflow(Posting *posting, int64 change)
{
	refuse_overflow(posting, change);
	raise_refusal(&posting->refusal);
}

/*
 * Applies an entry to the balance, held credits and lifetime totals of an
 * account.  This is the only place where they change.
 */
static void
change_balance(Posting *posting, const Entry *entry)
{
	Account    *account = &posting->account;

	if (!add_total(&account->balance, entry->amount) ||
		!add_total(&account->held, entry->held) ||
		!log_add_totals(account, entry))
		log_raise_overflow(posting, entry->amount);
	alerts_rebase(posting);
}

/*
 * Adds an entry to a posting, and applies it to the account.  The draws are
 * not copied.
 */
Entry *
log_add_held(Posting *posting, TransactionKind kind, TimestampTz at,
			 int64 amount, int64 held, Draw *draws, int ndraws)
{
	Account    *account = &posting->account;
	Entry	   *entry = palloc0(sizeof(Entry));

	entry->kind = kind;
	entry->amount = amount;
	entry->held = held;
	change_balance(posting, entry);

	if (posting->dry)
		entry->id = FIRST_DRY_ID + posting->nentries;
	else
	{
		/*
		 * before that of the entry, as of events: readers rely on it, see
		 * moments.h
		 */
		(void) GetTopFullTransactionId();
		entry->id = store_next_id(&log_table);
	}
	if (entry->id <= account->last_transaction_id && !posting->dry)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"credits.transactions_id_seq\" is behind the log"),
				 errdetail("It gave " INT64_FORMAT ", but account " INT64_FORMAT " has transaction " INT64_FORMAT ".",
						   entry->id, account->id,
						   account->last_transaction_id),
				 errhint("After logical replication, call credits_sync_sequences() before writing here.")));
	entry->account_id = account->id;
	/* created_at must not decrease within an account, even if the clock does */
	entry->created_at = Max(at, account->last_at);
	entry->balance_after = account->balance;
	entry->held_after = account->held;
	entry->has_draws = draws != NULL;
	entry->draws = draws;
	entry->ndraws = ndraws;

	account->last_transaction_id = entry->id;
	account->last_at = entry->created_at;
	account->transaction_count++;

	if (posting->nentries == posting->max_entries)
	{
		posting->max_entries = posting->max_entries ?
			2 * posting->max_entries : 2;
		if (posting->entries)
			posting->entries = repalloc(posting->entries,
										posting->max_entries * sizeof(Entry *));
		else
			posting->entries = palloc(posting->max_entries * sizeof(Entry *));
	}
	return posting->entries[posting->nentries++] = entry;
}

/*
 * Adds an entry that does not change what is held.
 */
Entry *
log_add(Posting *posting, TransactionKind kind, TimestampTz at, int64 amount,
		Draw *draws, int ndraws)
{
	return log_add_held(posting, kind, at, amount, 0, draws, ndraws);
}

/*
 * Adds an entry that takes from a grant what another entry has just given back
 * to it, because the grant has expired or was voided.
 */
void
log_add_loss(Posting *posting, TransactionKind kind, TimestampTz at,
			 Draw *lost, int64 target_id)
{
	Entry	   *entry = log_add(posting, kind, at, lost->amount, lost, 1);
	Grant	   *grant = grants_get(posting, lost->grant_id);

	grant->lost -= lost->amount;
	grant->changed = true;
	entry->has_target = true;
	entry->target_id = target_id;
}

/*
 * Copies the caller's description of a request to an entry that accompanies
 * the main one.
 */
void
log_describe_part(Entry *entry, const Request *request)
{
	entry->operation = request->operation;
	entry->reference = request->reference;
	entry->reason = request->reason;
	entry->metadata = request->metadata;
}

/*
 * Copies key and description of a request to its main entry.
 */
void
log_describe(Entry *entry, const Request *request)
{
	entry->key = request->key;
	entry->has_request = entry->key != NULL;
	entry->fingerprint = &request->fingerprint;
	log_describe_part(entry, request);
}

/*
 * Returns a new salt, palloc'd.  Asking for random bytes takes long, however few
 * they are, so they are fetched for many salts at once.
 */
static uint8 *
new_salt(void)
{
	static uint8 bytes[64 * SALT_BYTES];
	static int	left = 0;
	uint8	   *salt = palloc(SALT_BYTES);

	if (left == 0)
	{
		random_fill(bytes, sizeof(bytes));
		left = sizeof(bytes);
	}
	left -= SALT_BYTES;
	memcpy(salt, bytes + left, SALT_BYTES);
	/* nothing is to remain of the salt of a row that is erased */
	memset(bytes + left, 0, SALT_BYTES);
	return salt;
}

/*
 * Completes the entries of a posting: sets who made them, and computes their
 * hashes.
 */
void
log_seal(Posting *posting)
{
	Account    *account = &posting->account;
	const char *role;
	text	   *actor = roles_actor();
	int32		role_id = roles_own(&role);
	int			i;

	for (i = 0; i < posting->nentries; i++)
	{
		Entry	   *entry = posting->entries[i];

		CHECK_FOR_INTERRUPTS();
		entry->role = role;
		entry->role_id = role_id;
		entry->actor = actor;
		/* salted, so that an erased text cannot be guessed from the hash */
		if (chain_has_text(entry))
		{
			entry->salt = new_salt();
			entry->salt_len = SALT_BYTES;
			if (entry->has_request)
				entry->request = chain_request(entry->fingerprint, entry->salt,
											   SALT_BYTES);
		}
		chain_hash(account->head, account->head_len, entry, entry->hash);
		memcpy(account->head, entry->hash, sizeof(entry->hash));
		account->head_len = sizeof(entry->hash);
	}
}

/*
 * Makes a posting known to the triggers, before its rows are written.  Those
 * of a joint posting are entered one after the other.
 */
void
log_enter(Posting *posting)
{
	posting->outer = current;
	current = posting;
	found_last = NULL;
}

/*
 * Removes a posting and those entered after it.  Must also be called after an
 * error.
 */
void
log_leave(Posting *posting)
{
	current = posting->outer;
	found_last = NULL;
}

/*
 * Refuses to post to an account from a trigger that fires while another
 * posting to it is being written.  The inner posting would not see what the
 * outer one has not written yet.
 */
void
log_check_idle(int64 account_id)
{
	Posting    *posting;

	for (posting = current; posting; posting = posting->outer)
		if (posting->account.id == account_id && !posting->written)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("account is being changed by the current command"),
					 errdetail("A trigger requests another change of account " INT64_FORMAT " before the first one is in the log.",
							   account_id),
					 errhint("Do it in an AFTER INSERT trigger on table \"credits.log\".")));
}

/*
 * Returns the posting to an account that is being written, NULL if there is
 * none.  Postings of an outer call, inside which a trigger has made the
 * current one, are not considered.
 */
static Posting *
find_current(int64 account_id)
{
	Posting    *posting;

	if (found_last && found_last->lead && found_last->outer &&
		found_last->outer->lead == found_last->lead &&
		found_last->outer->account.id == account_id)
		return found_last = found_last->outer;
	for (posting = current; posting; posting = posting->outer)
	{
		if (posting->account.id == account_id)
			return found_last = posting;
		/* continue only with those of the same joint posting */
		if (posting->lead == NULL || posting->outer == NULL ||
			posting->outer->lead != posting->lead)
			break;
	}
	return NULL;
}

/*
 * Checks that a function is called as a trigger.
 */
static TriggerData *
check_trigger(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger"),
				 errhint("It serves the tables of schema \"credits\" only.")));
	return (TriggerData *) fcinfo->context;
}

/*
 * Returns whether two versions of a row differ in other columns than those named.
 */
static bool
differ_beyond(TupleDesc tupdesc, TupleTableSlot *old, TupleTableSlot *new,
			  const char *const *names, int nnames)
{
	int			i;

	slot_getallattrs(old);
	slot_getallattrs(new);
	for (i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);
		bool		named = false;
		int			n;

		for (n = 0; n < nnames && !named; n++)
			named = strcmp(names[n], NameStr(att->attname)) == 0;
		if (named || att->attisdropped)
			continue;
		if (old->tts_isnull[i] != new->tts_isnull[i])
			return true;
		if (!old->tts_isnull[i] &&
			!datum_image_eq(old->tts_values[i], new->tts_values[i],
							att->attbyval, att->attlen))
			return true;
	}
	return false;
}

/* the columns of an account that may be updated directly */
static const char *const free_columns[] = {"unit", "metadata"};

/* the columns of the log that credits_erase_text changes */
static const char *const erased_columns[] = {
	"request", "idempotency_key", "reference", "reason", "metadata", "actor",
	"salt"
};

/*
 * Returns whether an update of the log erases the texts of a row, and does nothing
 * else.
 */
static bool
is_erasure(const TriggerData *trigger)
{
	TupleTableSlot *old = trigger->tg_trigslot;
	TupleTableSlot *new = trigger->tg_newslot;
	Entry		before;
	Entry		after;
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	if (differ_beyond(RelationGetDescr(trigger->tg_relation), old, new,
					  erased_columns, lengthof(erased_columns)))
		return false;
	codec_read(&log_table, old, &before);
	codec_read(&log_table, new, &after);
	if (before.salt == NULL || !chain_is_erased(&after) || chain_has_text(&after))
		return false;
	/* it was erased here before */
	if (chain_is_erased(&before))
		return memcmp(after.salt, before.salt, PG_SHA256_DIGEST_LENGTH) == 0;
	if (before.salt_len != SALT_BYTES)
		return false;
	chain_text_digest(&before, digest);
	return memcmp(after.salt, digest, sizeof(digest)) == 0;
}

/*
 * Trigger function on credits.accounts: writes the entries of the current
 * posting to the log, and refuses an update without a posting.
 */
Datum
credits_write_log(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = check_trigger(fcinfo);
	TupleTableSlot *new = trigger->tg_newslot;
	Posting    *posting;
	bool		isnull;
	int64		id;
	int			i;

	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!store_is_table(trigger->tg_relation, &accounts_table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger must be AFTER UPDATE FOR EACH ROW on table \"credits.accounts\""),
				 errhint("It serves that table only.")));

	id = DatumGetInt64(slot_getattr(new, Anum_accounts_id, &isnull));
	posting = find_current(id);
	/* a user's trigger may update the row again: only the first one counts */
	if (posting && !posting->logged &&
		DatumGetInt64(slot_getattr(new, Anum_accounts_transaction_count,
								   &isnull)) ==
		posting->account.transaction_count)
	{
		posting->logged = true;
		for (i = 0; i < posting->nentries; i++)
		{
			CHECK_FOR_INTERRUPTS();
			rows_insert_entry(posting->store, posting->entries[i]);
		}
		alerts_raise(&posting->account, trigger->tg_trigslot);
		posting->written = true;
		PG_RETURN_POINTER(NULL);
	}

	if (!IsLogicalWorker() &&
		differ_beyond(RelationGetDescr(trigger->tg_relation),
					  trigger->tg_trigslot, new, free_columns,
					  lengthof(free_columns)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("accounts cannot be changed directly"),
				 errdetail("Account " INT64_FORMAT " changes only together with its log.",
						   id),
				 errhint("Use credits_adjust to correct a balance.")));
	PG_RETURN_POINTER(NULL);
}

/* A table that cannot be changed directly: what to say, and the hint */
typedef struct GuardedTable
{
	const char *name;
	const char *what;
	const char *remedy;
} GuardedTable;

#define SUBSCRIPTION_REMEDY \
	"Use credits_cancel_subscription, credits_pause_subscription, credits_change_plan or another function of subscriptions."
#define CORRECTION_REMEDY \
	"Use credits_preview_correction and credits_apply_correction to correct accounts, and credits_housekeep to continue."
#define PURCHASE_REMEDY \
	"Use credits_complete_purchase and the other functions of purchases."

static const GuardedTable guarded_tables[] = {
	{"log", "the log of credits is immutable",
	"Post a correction: credits_refund for a spend, credits_adjust for a balance."},
	{"audit_log", "the audit is immutable",
	"To undo a change, make another one: both are noted."},
	{"roles", "names in the log are immutable",
	"The log of credits refers to them."},
	{"operations", "prices of operations are immutable",
	"Set a new price with credits_set_operation, or end one with credits_retire_operation."},
	{"plans", "plans are immutable",
	"Publish a new version with credits_set_plan, or end a plan with credits_retire_plan."},
	{"templates", "templates are immutable",
	"Set a new version with credits_set_template, or end a template with credits_retire_template."},
	{"debts", NULL,
	"Credits that are bought pay a debt: use credits_allocate with source purchase to write one off."},
	{"hold_states", NULL,
	"Use credits_capture or credits_release to end a hold, credits_extend_hold to let it last longer."},
	{"limits", NULL,
	"Use credits_set_limits to change the limits of an account."},
	{"subscriptions", NULL, SUBSCRIPTION_REMEDY},
	{"periods", NULL, SUBSCRIPTION_REMEDY},
	{"plan_changes", NULL, SUBSCRIPTION_REMEDY},
	{"offers", NULL,
	"Use credits_offer_plan, credits_offer_package or credits_withdraw_offer."},
	{"members", NULL,
	"Use credits_add_member, credits_change_member or credits_remove_member."},
	{"erasures", NULL,
	"Use credits_erase_person to erase a person, and credits_housekeep to continue."},
	{"purchases", NULL, PURCHASE_REMEDY},
	{"disputes", NULL,
	"Use credits_resolve_dispute, credits_withdraw_dispute or another function of disputes."},
	{"corrections", NULL, CORRECTION_REMEDY},
	{"correction_items", NULL, CORRECTION_REMEDY},
	{"reversals", NULL, PURCHASE_REMEDY},
	{"topups", NULL,
	"Use credits_set_topup, credits_resume_topup or credits_remove_topup."},
	{"topup_requests", NULL, PURCHASE_REMEDY},
	/* all others */
	{NULL, NULL,
	"Use credits_adjust to correct a balance, credits_void_grant to take back a grant, credits_close_account to close an account."}
};

/*
 * Trigger function: refuses a direct UPDATE, DELETE or TRUNCATE.
 */
Datum
credits_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = check_trigger(fcinfo);
	const char *table = RelationGetRelationName(trigger->tg_relation);
	const char *command =
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE" :
		TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) ? "TRUNCATE" : "UPDATE";
	const GuardedTable *guarded = guarded_tables;

	/*
	 * with an argument, updates by the extension's own statements are
	 * allowed, and with two, that they delete
	 */
	if (statements_fired_trigger() &&
		((trigger->tg_trigger->tgnargs > 0 && TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) ||
		 (trigger->tg_trigger->tgnargs > 1 && TRIGGER_FIRED_BY_DELETE(trigger->tg_event))))
		PG_RETURN_POINTER(NULL);
	/* what credits_erase_text does on the publisher arrives here as an update */
	if (IsLogicalWorker() && TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		(store_is_table(trigger->tg_relation, &log_table) ||
		 store_is_table(trigger->tg_relation, &archived_log_table)) &&
		is_erasure(trigger))
		PG_RETURN_POINTER(trigger->tg_newtuple);

	/*
	 * partitions are called log_..., and are guarded for as long as they
	 * exist
	 */
	while (guarded->name && strcmp(guarded->name, table) != 0 &&
		   !(guarded == guarded_tables && strncmp(table, "log_", 4) == 0))
		guarded++;
	if (guarded->what)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s", guarded->what),
				 errdetail("%s on table \"credits.%s\" is refused to everyone.",
						   command, table),
				 errhint("%s", guarded->remedy)));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("table \"credits.%s\" cannot be changed directly", table),
			 errdetail("%s on it is refused to everyone.", command),
			 errhint("%s", guarded->remedy)));
	PG_RETURN_POINTER(NULL);
}
