/*
 * transfer.c
 *	  Moving credits from one account to another, and back.
 *
 * Credits keep their properties: for each grant that the giver draws from, the
 * receiver gets a grant with the same source, priority and expiry, and with
 * its share of the price.  So credits that expire cannot be made permanent by
 * transferring them.
 *
 * Both transactions are of kind transfer.  The target of the receiver's is the
 * giver's.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "spend/items.h"
#include "spend/spend.h"
#include "spend/transfer.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(credits_transfer);
PG_FUNCTION_INFO_V1(credits_transfer_up_to);
PG_FUNCTION_INFO_V1(credits_transfer_many);
PG_FUNCTION_INFO_V1(credits_transfer_many_json);
PG_FUNCTION_INFO_V1(credits_reverse_transfer);

/* all accounts of a batch are locked and in memory at once */
#define MAX_TRANSFERS 10000

static const ItemColumn transfer_item_columns[] = {
	{"from_account", TEXTOID}, {"to_account", TEXTOID}, {"amount", INT8OID},
	{"idempotency_key", TEXTOID}, {"reason", TEXTOID}, {"metadata", JSONBOID},
	{NULL}
};

enum
{
	TRANSFER_FROM,
	TRANSFER_TO,
	TRANSFER_AMOUNT,
	TRANSFER_KEY,
	TRANSFER_REASON,
	TRANSFER_METADATA
};

/* decimals of a share of a price */
#define PRICE_SCALE 10

typedef struct Transfer
{
	int64		amount;
	bool		up_to;			/* move what there is, up to the amount? */
	Request		request;
} Transfer;

typedef struct Reversal
{
	int64		id;				/* the giver's transaction */
	int64		received_id;	/* the receiver's */
	bool		has_amount;		/* false for all that the receiver still has */
	int64		amount;
	Request		request;
} Reversal;

/*
 * Returns the share of a grant's price that belongs to a part of the grant.
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
 * Gives an account grants like those from which an entry of another account
 * has drawn.  Their source is the one given or, if it is NULL, that of the
 * original grants.  Returns the new entry, whose target is the other one.
 */
Entry *
transfer_receive(Posting *from, Posting *to, const Entry *given,
				 TransactionKind kind, const char *source)
{
	Draw	   *draws = palloc(given->ndraws * sizeof(Draw));
	Grant	  **grants = palloc(given->ndraws * sizeof(Grant *));
	JsonObject	json;
	int64		amount = 0;
	bool		begins_anew = to->begins_anew;
	Entry	   *entry;
	int			i;

	json_begin(&json);
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
		draws[i] = DRAW(new->id, part);
		grants[i] = new;
		grants_add_terms(&json, new);
		amount += part;
	}
	/* whoever gave them away had the purchase */
	to->begins_anew = begins_anew;
	if (given->ndraws == 0)
		draws = NULL;
	entry = log_add(to, kind, to->now, amount, draws, given->ndraws);
	if (draws)
		entry->terms = json_document(&json);
	entry->has_target = true;
	entry->target_id = given->id;
	for (i = 0; i < given->ndraws; i++)
		grants[i]->transaction_id = entry->id;
	return entry;
}

/*
 * Refuses a receiver that is closed, and accounts with different units.
 */
bool
transfer_allowed(Posting *from, Posting *to)
{
	char	   *unit = text_to_cstring(from->account.unit);
	char	   *other = text_to_cstring(to->account.unit);

	if (!guards_not_closed(to))
		return false;
	if (strcmp(unit, other) == 0)
		return true;
	return refuse(&from->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "accounts must have the same unit",
				  psprintf("Account \"%s\" has credits called \"%s\", but account \"%s\" has \"%s\".",
						   rows_account_name(&from->account), unit,
						   rows_account_name(&to->account), other),
				  "Open an account of the same unit for the receiver.");
}

/*
 * Plans to take an amount from one account and give it to another.
 */
static bool
transfer_move(Posting *from, Posting *to, int64 amount, TransactionKind kind,
			  const char *source, const Request *request)
{
	int64		received = amount;
	int			ndraws = 0;
	Draw	   *draws = NULL;

	if (!service_allows(from, kind, NULL) || !guards_may_spend(from, amount) ||
		!transfer_allowed(from, to))
		return false;
	if (!limit_rules_receive(to, &received, false) ||
		!log_may_grant(to, amount))
		return false;
	if (!limit_rules_spend(from, amount, amount))
		return false;
	if (amount > 0)
		draws = burn_grants(from, amount, &ndraws);
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
	int64		amount = transfer->amount;

	if (transfer->up_to)
		amount = spend_up_to(&postings[0], amount,
							 limit_rules_room_for(&postings[1]));
	return transfer_move(&postings[0], &postings[1], amount,
						 KIND_TRANSFER, NULL, &transfer->request);
}

/*
 * Sets what a retry must repeat.
 */
static void
transfer_fingerprint(Request *request, const Transfer *transfer, text *to)
{
	StringInfo	f = &request->fingerprint;

	initStringInfo(f);
	appendStringInfoString(f, kinds_name(KIND_TRANSFER));
	if (transfer->up_to)
		appendStringInfoString(f, " up to");
	requests_add_text(f, to);
	requests_add_int64(f, true, transfer->amount);
}

/*
 * Moves credits from one account to another, for the two SQL functions below.
 */
static Datum
transfer_call(FunctionCallInfo fcinfo, const char *function, bool up_to)
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
	transfer.up_to = up_to;
	transfer.amount = arg_amount(fcinfo, 2, "amount");
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->reason = arg_text(fcinfo, 4, "reason", MAX_REASON_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);

	transfer_fingerprint(request, &transfer, parties[1].name);
	return ledger_call_joint(fcinfo, function, parties, 2, request,
							 plan_transfer, &transfer);
}

/*
 * SQL function: moves credits from one account to another.
 */
Datum
credits_transfer(PG_FUNCTION_ARGS)
{
	return transfer_call(fcinfo, "credits_transfer()", false);
}

/*
 * SQL function: moves what there is, up to an amount.
 */
Datum
credits_transfer_up_to(PG_FUNCTION_ARGS)
{
	return transfer_call(fcinfo, "credits_transfer_up_to()", true);
}

/*
 * Reads an item of credits_transfer_many.
 */
static bool
read_transfer(BatchItem *item, const ItemRow *row)
{
	Transfer   *transfer = palloc0(sizeof(Transfer));
	Request    *request = &item->request;

	if (!items_name(item, row, TRANSFER_FROM, &item->account) ||
		!items_name(item, row, TRANSFER_TO, &item->other) ||
		!items_amount(item, row, TRANSFER_AMOUNT, &transfer->amount) ||
		!items_text(item, row, TRANSFER_KEY, MAX_NAME_BYTES,
					&request->key) ||
		!items_text(item, row, TRANSFER_REASON, MAX_REASON_BYTES,
					&request->reason) ||
		!items_metadata(item, row, TRANSFER_METADATA))
		return false;
	item->arg = transfer;
	if (request->key)
	{
		transfer_fingerprint(request, transfer, item->other);
		items_trim_fingerprint(request);
	}
	return true;
}

/*
 * Plans an item of credits_transfer_many.
 */
static bool
plan_transfer_item(Posting *postings, BatchItem *item)
{
	Transfer   *transfer = item->arg;

	return transfer_move(&postings[item->places[0]],
						 &postings[item->places[1]], transfer->amount,
						 KIND_TRANSFER, NULL, &item->request);
}

/*
 * Makes many transfers, for the two SQL functions below.
 */
static Datum
transfer_many(FunctionCallInfo fcinfo, bool json)
{
	bool		atomic = arg_bool(fcinfo, 1, "atomic");
	int			nitems;
	BatchItem  *items = items_read(fcinfo, read_transfer,
								   transfer_item_columns, json, MAX_TRANSFERS,
								   &nitems);

	(void) bulk_post_joint("credits_transfer_many()", items, nitems,
						   plan_transfer_item, atomic);
	return items_return(fcinfo, items, nitems, atomic);
}

/*
 * SQL function: makes many transfers.
 */
Datum
credits_transfer_many(PG_FUNCTION_ARGS)
{
	return transfer_many(fcinfo, false);
}

/*
 * SQL function: the same, with the items as JSON.
 */
Datum
credits_transfer_many_json(PG_FUNCTION_ARGS)
{
	return transfer_many(fcinfo, true);
}

/*
 * Returns how much the receiver still has of the grants that a transfer has
 * made.
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
 * Raises the error for a transfer whose transactions do not belong together.
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
 * Plans to move credits back: from the grants that the transfer has made to
 * those from which it has drawn, as far as the receiver still has them.
 */
static bool
transfer_plan_reversal(Posting *postings, void *arg)
{
	Reversal   *reversal = arg;
	Posting    *from = &postings[0];
	Posting    *to = &postings[1];
	Entry		given;
	Entry		received;
	Draw	   *taken;
	Draw	   *back;
	Draw	   *lost;
	TransactionKind *lost_as;
	int			n = 0;
	int			nlost = 0;
	int64		left;
	int64		amount;
	int64		rest;
	Entry	   *entry;
	int			i;

	if (!guards_not_closed(from))
		return false;
	if (!guards_not_closed(to))
		return false;
	if (!rows_find_entry(from->store, from->snapshot, reversal->id, &given) ||
		!rows_find_entry(to->store, to->snapshot, reversal->received_id,
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
							   -given.amount, rows_account_name(&to->account),
							   left),
					  "Reverse what is left; use credits_adjust for anything else.");

	taken = palloc(given.ndraws * sizeof(Draw));
	back = palloc(given.ndraws * sizeof(Draw));
	lost = palloc(given.ndraws * sizeof(Draw));
	lost_as = palloc(given.ndraws * sizeof(TransactionKind));
	rest = amount;
	/* the grant that was drawn from last first, as in a refund */
	for (i = given.ndraws - 1; i >= 0 && rest > 0; i--)
	{
		Grant	   *new = grants_get(to, received.draws[i].grant_id);
		Grant	   *old = grants_get(from, given.draws[i].grant_id);
		int64		part = Min(rest, new->remaining);
		TransactionKind kind;

		if (part == 0)
			continue;
		grants_take(new, part, &taken[n]);
		/* without a grace period: credits that have expired are lost */
		kind = grants_give_back(from, old, part, given.created_at, from->now,
								from->now, NULL);
		back[n++] = *grants_draw(old, part);
		if (kind != KIND_NONE)
		{
			lost[nlost] = *grants_draw(old, -part);
			lost_as[nlost++] = kind;
		}
		rest -= part;
	}

	from->main = log_add(from, KIND_REVERSAL, from->now, amount, back, n);
	from->main->has_target = true;
	from->main->target_id = reversal->id;
	limit_rules_give_back(from, &given, amount);
	for (i = 0; i < nlost; i++)
		log_add_loss(from, lost_as[i], from->now, &lost[i], from->main->id);
	entry = log_add(to, KIND_REVERSAL, to->now, -amount, taken, n);
	entry->has_target = true;
	entry->target_id = reversal->received_id;
	log_describe_part(entry, &reversal->request);
	return true;
}

/*
 * Finds the two transactions of a transfer.  They never change, so they can be
 * read without a lock.
 */
static void
find_transfer(int64 id, Reversal *reversal, Party *parties)
{
	Snapshot	snapshot;
	Entry		given;
	StoreScan	scan;
	Entry		other;

	ledger_lock_tables("credits_reverse_transfer()");
	snapshot = store_snapshot(true);
	anchors_check(id);
	if (!rows_find_entry(NULL, snapshot, id, &given))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("transaction " INT64_FORMAT " does not exist", id),
				 errhint("Pass the transaction_id of the transfer's receipt.")));
	if (given.kind != KIND_TRANSFER || given.has_target)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("transaction " INT64_FORMAT " is not a transfer to another account",
						id),
				 errdetail("It is of kind %s and amount " INT64_FORMAT ".",
						   kinds_name(given.kind), given.amount),
				 errhint("Pass the transaction_id of the transfer's receipt.")));
	guards_may_undo(&given);
	reversal->id = id;
	parties[0].id = given.account_id;
	parties[1].id = 0;

	scan_begin_ids(&scan, NULL, &log_by_target_id, snapshot, id,
				   PG_INT64_MAX, BY_INT64(id));
	while (scan_peek(&scan, ForwardScanDirection, &other))
		if (other.kind == KIND_TRANSFER)
		{
			reversal->received_id = other.id;
			parties[1].id = other.account_id;
		}
	scan_end(&scan);
	if (parties[1].id == 0)
		raise_damaged(id);
}

/*
 * SQL function: moves back the credits of a transfer that the receiver still
 * has.
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
	appendStringInfoString(&request->fingerprint, kinds_name(KIND_REVERSAL));
	requests_add_int64(&request->fingerprint, true, id);
	requests_add_int64(&request->fingerprint, reversal.has_amount,
					   reversal.amount);
	return ledger_call_joint(fcinfo, "credits_reverse_transfer()", parties, 2,
							 request, transfer_plan_reversal, &reversal);
}
