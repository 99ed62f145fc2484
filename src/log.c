/*
 * log.c
 *	  The immutable log: putting its rows together, and the triggers that
 *	  write and keep it.
 *
 * The trigger accounts_write_log writes the rows.  It is told what to write by
 * the posting under way, and refuses a change of an account that comes without
 * one.  Logical replication's apply is let through: it brings the log rows
 * itself.
 */
#include "credits.h"

#include "sql.h"

#include "commands/trigger.h"
#include "common/int.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(credits_write_log);
PG_FUNCTION_INFO_V1(credits_refuse_change);

/* the posting whose triggers are firing, innermost first */
static Posting *current = NULL;

/*
 * Adds a change to a total.  Returns false on overflow.
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
totals_add(Account *account, const Entry *entry)
{
	if (strcmp(entry->kind, KIND_DEDUCTION) == 0)
		return add_total(&account->spent, -entry->amount);
	if (strcmp(entry->kind, KIND_CAPTURE) == 0)
		return add_total(&account->spent, -entry->held);
	if (strcmp(entry->kind, KIND_REFUND) == 0)
		return add_total(&account->refunded, entry->amount);
	if (strcmp(entry->kind, KIND_EXPIRATION) == 0)
		return add_total(&account->expired, -entry->amount);
	/* what is granted is counted with the grant */
	return true;
}

/*
 * Refuses a change that would exceed what can be counted.
 */
bool
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
 * Raises the error for a change that would exceed what can be counted.
 */
void
raise_overflow(Posting *posting, int64 change)
{
	refuse_overflow(posting, change);
	raise_refusal(&posting->refusal);
}

/*
 * Adds an entry to a posting, and its effect on balance and held to the
 * account.
 */
Entry *
log_add_held(Posting *posting, const char *kind, TimestampTz at, int64 amount,
			 int64 held, Draw *draws, int ndraws)
{
	Account    *account = &posting->account;
	Entry	   *entry = palloc0(sizeof(Entry));

	entry->kind = kind;
	entry->amount = amount;
	entry->held = held;
	if (!add_total(&account->balance, amount) ||
		!add_total(&account->held, held) ||
		!totals_add(account, entry))
		raise_overflow(posting, amount);

	if (!posting->dry)
		entry->id = store_next_id(&transactions_table);
	if (entry->id <= account->last_transaction_id && !posting->dry)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"credits.transactions_id_seq\" is behind the log"),
				 errdetail("It gave " INT64_FORMAT ", but account " INT64_FORMAT " has transaction " INT64_FORMAT ".",
						   entry->id, account->id,
						   account->last_transaction_id),
				 errhint("After logical replication, call credits_sync_sequences() before writing here.")));
	entry->account_id = account->id;
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
 * Adds an entry that holds nothing.
 */
Entry *
log_add(Posting *posting, const char *kind, TimestampTz at, int64 amount,
		Draw *draws, int ndraws)
{
	return log_add_held(posting, kind, at, amount, 0, draws, ndraws);
}

/*
 * Adds the transaction that takes again at once what another has given back.
 */
void
log_add_loss(Posting *posting, const char *kind, TimestampTz at, Draw *lost,
			 int64 target_id)
{
	Entry	   *entry = log_add(posting, kind, at, lost->amount, lost, 1);

	entry->has_target = true;
	entry->target_id = target_id;
}

/*
 * Notes in an entry that goes with the main one what the caller said.
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
 * Notes in an entry what the caller said about it.
 */
void
log_describe(Entry *entry, const Request *request)
{
	entry->key = request->key;
	entry->has_request = entry->key != NULL;
	if (entry->has_request)
		entry->request = chain_fingerprint(&request->fingerprint);
	log_describe_part(entry, request);
}

/*
 * Has a row of another table written with the account, once it is known that
 * nobody else has changed the account meanwhile.
 */
void
log_defer(Posting *posting, void (*write) (Posting *, void *), void *row)
{
	Change	   *change = palloc(sizeof(Change));

	change->next = posting->changes;
	change->write = write;
	change->row = row;
	posting->changes = change;
}

/*
 * Completes the entries of a posting: who, and the chain.
 */
void
log_seal(Posting *posting)
{
	Account    *account = &posting->account;
	char	   *role = GetUserNameFromId(GetSessionUserId(), false);
	text	   *actor = *setting_actor ? cstring_to_text(setting_actor) : NULL;
	int			i;

	/* these come past the checks that the client's texts go through */
	(void) pg_verifymbstr(role, strlen(role), false);
	(void) pg_verifymbstr(setting_actor, strlen(setting_actor), false);

	for (i = 0; i < posting->nentries; i++)
	{
		Entry	   *entry = posting->entries[i];

		entry->role = role;
		entry->actor = actor;
		if (entry->reason || entry->metadata || entry->actor)
		{
			entry->salt = palloc(SALT_BYTES);
			entry->salt_len = SALT_BYTES;
			if (!pg_strong_random(entry->salt, SALT_BYTES))
				ereport(ERROR,
						(errcode(ERRCODE_INTERNAL_ERROR),
						 errmsg("could not generate random bytes")));
		}
		chain_hash(account->head, account->head_len, entry, entry->hash);
		memcpy(account->head, entry->hash, sizeof(entry->hash));
		account->head_len = sizeof(entry->hash);
	}
}

/*
 * Lets triggers find a posting whose changes are about to be made: those of a
 * joint change one after the other.
 */
void
log_enter(Posting *posting)
{
	posting->outer = current;
	current = posting;
}

/*
 * Ends that, after an error too: of a joint change with the first entered.
 */
void
log_leave(Posting *posting)
{
	current = posting->outer;
}

/*
 * Refuses to change an account in the middle of another change of it: from a
 * trigger that fires before the log has all the rows of the outer one, which
 * would not be seen.
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
					 errdetail("A trigger calls for another change of account " INT64_FORMAT " before the first one is in the log.",
							   account_id),
					 errhint("Do it in an AFTER INSERT trigger on table \"credits.transactions\".")));
}

/*
 * Returns the posting that is changing an account just now, not one that a
 * trigger runs inside of; NULL if there is none.
 */
static Posting *
find_current(int64 account_id)
{
	Posting    *posting;

	for (posting = current; posting; posting = posting->outer)
	{
		if (posting->account.id == account_id)
			return posting;
		/* others of the same joint change were entered before */
		if (posting->lead == NULL || posting->outer == NULL ||
			posting->outer->lead != posting->lead)
			break;
	}
	return NULL;
}

/*
 * Tells whether a posting is changing an account just now.
 */
bool
log_is_posting(int64 account_id)
{
	return find_current(account_id) != NULL;
}

/*
 * Checks that a trigger is called as one.
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
 * Tells whether an update changes what only postings may: all but unit,
 * metadata and the threshold.
 */
static bool
changes_protected(TupleDesc tupdesc, TupleTableSlot *old, TupleTableSlot *new)
{
	int			i;

	slot_getallattrs(old);
	slot_getallattrs(new);
	for (i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);

		if (att->attnum == Anum_accounts_unit ||
			att->attnum == Anum_accounts_metadata ||
			att->attnum == Anum_accounts_low_balance)
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

/*
 * Writes the entries of the posting that is changing this account.
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
	if (posting && !posting->logged &&
		DatumGetInt64(slot_getattr(new, Anum_accounts_transaction_count,
								   &isnull)) ==
		posting->account.transaction_count)
	{
		posting->logged = true;
		for (i = 0; i < posting->nentries; i++)
			row_insert_entry(posting->store, posting->entries[i]);
		posting->written = true;
		PG_RETURN_POINTER(NULL);
	}

	if (!IsLogicalWorker() &&
		changes_protected(RelationGetDescr(trigger->tg_relation),
						  trigger->tg_trigslot, new))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("an account cannot be changed directly"),
				 errdetail("Account " INT64_FORMAT " changes only together with its log.",
						   id),
				 errhint("Use credits_adjust to correct a balance.")));
	PG_RETURN_POINTER(NULL);
}

/*
 * Returns what to do instead of changing a table.
 */
static const char *
remedy(const char *table)
{
	if (strcmp(table, "debts") == 0)
		return "Credits that are bought pay a debt: use credits_allocate with source purchase to write one off.";
	if (strcmp(table, "hold_states") == 0)
		return "Use credits_capture or credits_release to end a hold, credits_extend_hold to let it last longer.";
	if (strcmp(table, "limits") == 0)
		return "Use credits_set_limits to change the limits of an account.";
	if (strcmp(table, "subscriptions") == 0 || strcmp(table, "periods") == 0 ||
		strcmp(table, "plan_changes") == 0)
		return "Use credits_cancel_subscription, credits_pause_subscription, credits_change_plan or another function of subscriptions.";
	if (strcmp(table, "members") == 0)
		return "Use credits_add_member, credits_change_member or credits_remove_member.";
	if (strcmp(table, "purchases") == 0 || strcmp(table, "reversals") == 0)
		return "Use credits_purchase_complete and the other functions of purchases.";
	return "Use credits_adjust to correct a balance, credits_void_grant to take back a grant, credits_close_account to close an account.";
}

/*
 * Refuses whatever it is called for.
 */
Datum
credits_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = check_trigger(fcinfo);
	const char *table = RelationGetRelationName(trigger->tg_relation);
	const char *command =
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE" :
		TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) ? "TRUNCATE" : "UPDATE";

	/* with an argument it guards what statements of ours may change */
	if (trigger->tg_trigger->tgnargs > 0 && sql_is_running() &&
		TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		PG_RETURN_POINTER(NULL);
	if (strcmp(table, "transactions") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the log of credits is immutable"),
				 errdetail("%s on table \"credits.%s\" is refused to everyone.",
						   command, table),
				 errhint("Post a correction: credits_refund for a spend, credits_adjust for a balance.")));
	if (strcmp(table, "operations") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("prices of operations are immutable"),
				 errdetail("%s on table \"credits.%s\" is refused to everyone.",
						   command, table),
				 errhint("Set a new price with credits_set_operation, or end one with credits_retire_operation.")));
	if (strcmp(table, "plans") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("plans are immutable"),
				 errdetail("%s on table \"credits.%s\" is refused to everyone.",
						   command, table),
				 errhint("Publish a new version with credits_set_plan, or end a plan with credits_retire_plan.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("table \"credits.%s\" cannot be changed directly", table),
			 errdetail("%s on it is refused to everyone.", command),
			 errhint("%s", remedy(table))));
	PG_RETURN_POINTER(NULL);
}
