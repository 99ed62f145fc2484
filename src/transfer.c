/*
 * transfer.c
 *	  Moving credits from one account to another, and back.
 *
 * Credits keep what they are: for each grant that the giver draws from, the
 * receiver gets one of the same source, priority and expiry, with its share of
 * the price.  So nobody makes expiring credits last by sending them round.
 *
 * Both rows are of kind transfer; the receiver's target is the giver's.
 */
#include "credits.h"

#include "transfer.h"

#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(credits_transfer);
PG_FUNCTION_INFO_V1(credits_reverse_transfer);

/* digits behind the point of a share of a price */
#define PRICE_SCALE 10

typedef struct Transfer
{
	int64		amount;
	Request		request;
} Transfer;

typedef struct Reversal
{
	int64		id;				/* the giver's transaction */
	int64		received_id;	/* the receiver's */
	bool		has_amount;		/* or else all that the receiver still has */
	int64		amount;
	Request		request;
} Reversal;

/*
 * Returns the share that part of a grant has in its price.
 */
static Datum
price_share(const Grant *grant, int64 part)
{
	Datum		share;

	if (part == grant->amount)
		return grant->price;
	share = DirectFunctionCall2(numeric_mul, grant->price,
								NumericGetDatum(int64_to_numeric(part)));
	share = DirectFunctionCall2(numeric_div, share,
								NumericGetDatum(int64_to_numeric(grant->amount)));
	share = DirectFunctionCall2(numeric_round, share,
								Int32GetDatum(PRICE_SCALE));
	return DirectFunctionCall1(numeric_trim_scale, share);
}

/*
 * Gives an account grants like those that another has drawn from.  Returns the
 * transaction, whose target is the other's.
 */
Entry *
transfer_receive(Posting *from, Posting *to, const Entry *given,
				 const char *kind, const char *source)
{
	Draw	   *draws = palloc(given->ndraws * sizeof(Draw));
	Grant	  **grants = palloc(given->ndraws * sizeof(Grant *));
	StringInfoData json;
	int64		amount = 0;
	Entry	   *entry;
	int			i;

	initStringInfo(&json);
	for (i = 0; i < given->ndraws; i++)
	{
		Grant	   *old = grants_get(from, given->draws[i].grant_id);
		int64		part = -given->draws[i].amount;
		Grant	   *new = grants_new(to, part,
									 source ? cstring_to_text(source) :
									 old->source, to->now, old->expires_at);

		if (source == NULL)
			new->priority = old->priority;
		if (old->price)
		{
			new->price = price_share(old, part);
			new->currency = old->currency;
		}
		draws[i] = (Draw) {new->id, part};
		grants[i] = new;
		grants_add_terms(&json, new);
		amount += part;
	}
	entry = log_add(to, kind, to->now, amount, draws, given->ndraws);
	entry->terms = json_document(&json);
	entry->has_target = true;
	entry->target_id = given->id;
	for (i = 0; i < given->ndraws; i++)
		grants[i]->transaction_id = entry->id;
	return entry;
}

/*
 * Refuses accounts that are closed, or whose credits are not the same thing.
 */
bool
transfer_allowed(Posting *from, Posting *to)
{
	char	   *unit = TextDatumGetCString(from->account.values[Anum_accounts_unit - 1]);
	char	   *other = TextDatumGetCString(to->account.values[Anum_accounts_unit - 1]);

	if (!ledger_not_closed(to))
	{
		from->refusal = to->refusal;
		return false;
	}
	if (strcmp(unit, other) == 0)
		return true;
	return refuse(&from->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "accounts must have the same unit",
				  psprintf("Account \"%s\" has credits called \"%s\", account \"%s\" has \"%s\".",
						   row_account_name(&from->account), unit,
						   row_account_name(&to->account), other),
				  "Open an account of the same unit for the receiver.");
}

/*
 * Takes an amount from one account and gives it to another.
 */
bool
transfer_move(Posting *from, Posting *to, int64 amount, const char *kind,
			  const char *source, const Request *request)
{
	int64		received = amount;
	int			ndraws;
	Draw	   *draws;

	if (!ledger_may_spend(from, amount) || !transfer_allowed(from, to))
		return false;
	if (!caps_receive(to, &received, false))
	{
		from->refusal = to->refusal;
		return false;
	}
	if (!caps_spend(from, amount, amount))
		return false;
	draws = grants_burn(from, amount, &ndraws);
	from->main = log_add(from, kind, from->now, -amount, draws, ndraws);
	log_describe_part(transfer_receive(from, to, from->main, kind, source),
					  request);
	return true;
}

/*
 * Plans a transfer.
 */
static bool
plan_transfer(Posting *postings, void *arg)
{
	Transfer   *transfer = arg;

	return transfer_move(&postings[0], &postings[1], transfer->amount,
						 KIND_TRANSFER, NULL, &transfer->request);
}

/*
 * Moves credits from one account to another.
 */
Datum
credits_transfer(PG_FUNCTION_ARGS)
{
	Transfer	transfer = {0};
	Request    *request = &transfer.request;
	Party		parties[2] = {{0}};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null",
						PG_ARGISNULL(0) ? "from_account" : "to_account"),
				 errhint("Pass the names of two accounts.")));
	parties[0].name = arg_account(fcinfo, 0);
	parties[1].name = arg_account(fcinfo, 1);
	transfer.amount = arg_amount(fcinfo, 2, "amount");
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->reason = arg_text(fcinfo, 4, "reason", MAX_REASON_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, KIND_TRANSFER);
	fingerprint_text(&request->fingerprint, parties[1].name);
	fingerprint_int64(&request->fingerprint, true, transfer.amount);
	return ledger_call_joint(fcinfo, "credits_transfer()", parties, 2, request,
							 plan_transfer, &transfer);
}

/*
 * Returns how much of each grant that a transfer made the receiver still has.
 */
static int64
still_there(Posting *to, const Entry *received)
{
	int64		total = 0;
	int			i;

	for (i = 0; i < received->ndraws; i++)
		total += grants_get(to, received->draws[i].grant_id)->remaining;
	return total;
}

/*
 * Raises the error for a transfer that lacks what it must have.
 */
static void
raise_damaged(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("transfer " INT64_FORMAT " is damaged", id),
			 errdetail("The receiver's transaction is not there or has other draws."),
			 errhint("Run credits_verify.")));
}

/*
 * Plans to send back what a receiver still has of a transfer: from the very
 * grants that it made to those that it was drawn from.
 */
static bool
plan_reversal(Posting *postings, void *arg)
{
	Reversal   *reversal = arg;
	Posting    *from = &postings[0];
	Posting    *to = &postings[1];
	Entry		given;
	Entry		received;
	Draw	   *taken;
	Draw	   *back;
	Draw	   *lost;
	const char **lost_as;
	int			n = 0;
	int			nlost = 0;
	int64		left;
	int64		amount;
	int64		rest;
	Entry	   *entry;
	int			i;

	if (!ledger_not_closed(from))
		return false;
	if (!ledger_not_closed(to))
	{
		from->refusal = to->refusal;
		return false;
	}
	if (!row_find_entry(from->store, from->snapshot, reversal->id, &given) ||
		!row_find_entry(to->store, to->snapshot, reversal->received_id,
						&received) || given.ndraws != received.ndraws)
		raise_damaged(reversal->id);
	left = still_there(to, &received);
	amount = reversal->has_amount ? reversal->amount : left;
	if (left == 0 || amount > left)
		return refuse(&from->refusal, ERRCODE_CONFLICT,
					  left == 0 ?
					  psprintf("nothing is left of transfer " INT64_FORMAT,
							   reversal->id) :
					  psprintf("cannot reverse " INT64_FORMAT " of transfer " INT64_FORMAT,
							   amount, reversal->id),
					  psprintf("It moved " INT64_FORMAT ", of which account \"%s\" still has " INT64_FORMAT ".",
							   -given.amount, row_account_name(&to->account),
							   left),
					  "Reverse what is left; use credits_adjust for anything else.");

	taken = palloc(given.ndraws * sizeof(Draw));
	back = palloc(given.ndraws * sizeof(Draw));
	lost = palloc(given.ndraws * sizeof(Draw));
	lost_as = palloc(given.ndraws * sizeof(char *));
	rest = amount;
	for (i = given.ndraws - 1; i >= 0 && rest > 0; i--)
	{
		Grant	   *new = grants_get(to, received.draws[i].grant_id);
		Grant	   *old = grants_get(from, given.draws[i].grant_id);
		int64		part = Min(rest, new->remaining);
		const char *kind;

		if (part == 0)
			continue;
		grants_take(new, part, &taken[n]);
		kind = grants_give_back(from, old, part, given.created_at, from->now,
								from->now, NULL);
		back[n++] = *grants_draw(old, part);
		if (kind)
		{
			lost[nlost] = *grants_draw(old, -part);
			lost_as[nlost++] = kind;
		}
		rest -= part;
	}

	from->main = log_add(from, KIND_REVERSAL, from->now, amount, back, n);
	from->main->has_target = true;
	from->main->target_id = reversal->id;
	caps_give_back(from, &given, amount);
	for (i = 0; i < nlost; i++)
		log_add_loss(from, lost_as[i], from->now, &lost[i], from->main->id);
	entry = log_add(to, KIND_REVERSAL, to->now, -amount, taken, n);
	entry->has_target = true;
	entry->target_id = reversal->received_id;
	log_describe_part(entry, &reversal->request);
	return true;
}

/*
 * Finds the two transactions of a transfer, which never change.
 */
static void
find_transfer(int64 id, Reversal *reversal, Party *parties)
{
	Snapshot	snapshot;
	Entry		given;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	store_lock_tables("credits_reverse_transfer()");
	snapshot = store_snapshot(true);
	if (!row_find_entry(NULL, snapshot, id, &given))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("transaction " INT64_FORMAT " does not exist", id),
				 errhint("Pass the transaction_id of the transfer's receipt.")));
	if (strcmp(given.kind, KIND_TRANSFER) != 0 || given.amount > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("transaction " INT64_FORMAT " is not a transfer to another account",
						id),
				 errdetail("It is of kind %s and amount " INT64_FORMAT ".",
						   given.kind, given.amount),
				 errhint("Pass the transaction_id of the transfer's receipt.")));
	reversal->id = id;
	parties[0].id = given.account_id;
	parties[1].id = 0;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	store_scan(&scan, NULL, &transactions_by_target_id, snapshot, &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		other;

		row_read_entry(slot, &other);
		if (strcmp(other.kind, KIND_TRANSFER) == 0)
		{
			reversal->received_id = other.id;
			parties[1].id = other.account_id;
		}
	}
	store_scan_end(&scan);
	if (parties[1].id == 0)
		raise_damaged(id);
}

/*
 * Sends back what the receiver still has of a transfer.
 */
Datum
credits_reverse_transfer(PG_FUNCTION_ARGS)
{
	Reversal	reversal = {0};
	Request    *request = &reversal.request;
	Party		parties[2] = {{0}};
	int64		id = arg_id(fcinfo, 0, "transaction_id");

	request->reason = arg_reason(fcinfo, 1);
	if (!PG_ARGISNULL(2))
	{
		reversal.has_amount = true;
		reversal.amount = arg_amount(fcinfo, 2, "amount");
	}
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 4);
	find_transfer(id, &reversal, parties);

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, KIND_REVERSAL);
	fingerprint_int64(&request->fingerprint, true, id);
	fingerprint_int64(&request->fingerprint, reversal.has_amount,
					  reversal.amount);
	return ledger_call_joint(fcinfo, "credits_reverse_transfer()", parties, 2,
							 request, plan_reversal, &reversal);
}
