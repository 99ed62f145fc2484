/*
 * refund.c
 *	  Giving spent credits back to the grants they came from.
 *
 * The grant drawn from last is given back to first.  A grant that has expired
 * meanwhile lives on for a grace, or what it gets back expires at once; what a
 * voided grant gets back is voided at once.
 *
 * A spend is a deduction or a capture.  One that was split over a member's
 * account and a pool has two transactions, and so has its refund; what the pool
 * paid goes back first.
 */
#include "credits.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

PG_FUNCTION_INFO_V1(credits_refund);

typedef enum ExpiredPolicy
{
	EXPIRED_BY_SETTING,
	EXPIRED_GRACE,
	EXPIRED_EXPIRE
} ExpiredPolicy;

/* a spend, and its other part if it is split */
#define MAX_PARTS 2

/* A transaction that spent credits */
typedef struct Part
{
	Entry		spend;
	int			party;			/* whose postings it is in */
	Draw	   *left;			/* what can still be given back, by grant */
	int64		total;			/* of that */
} Part;

typedef struct Refund
{
	Part		parts[MAX_PARTS];
	int			nparts;
	Party		parties[2];
	int			nparties;
	bool		has_amount;		/* or else all that is left */
	int64		amount;
	ExpiredPolicy expired;
	const Request *request;
} Refund;

/*
 * Subtracts what earlier refunds gave back from a spend's draws, which come as
 * positive numbers.
 */
static void
subtract_earlier(Posting *posting, int64 target_id, Draw *draws, int ndraws)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(target_id));
	store_scan(&scan, posting->store, &transactions_by_target_id,
			   posting->snapshot, &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		earlier;
		int			i;
		int			j;

		row_read_entry(slot, &earlier);
		if (strcmp(earlier.kind, KIND_REFUND) != 0)
			continue;
		for (i = 0; i < earlier.ndraws; i++)
			for (j = 0; j < ndraws; j++)
				if (draws[j].grant_id == earlier.draws[i].grant_id)
					draws[j].amount -= earlier.draws[i].amount;
	}
	store_scan_end(&scan);
}

/*
 * Returns what a transaction spent.
 */
static int64
spent_by(const Entry *spend)
{
	return strcmp(spend->kind, KIND_CAPTURE) == 0 ? -spend->held :
		-spend->amount;
}

/*
 * Finds what is left of a part to give back.
 */
static void
find_left(Posting *posting, Part *part)
{
	Entry	   *spend = &part->spend;
	int			i;

	part->left = palloc((spend->ndraws + 1) * sizeof(Draw));
	for (i = 0; i < spend->ndraws; i++)
		part->left[i] = (Draw) {spend->draws[i].grant_id,
		-spend->draws[i].amount};
	subtract_earlier(posting, spend->id, part->left, spend->ndraws);
	part->total = 0;
	for (i = 0; i < spend->ndraws; i++)
		part->total += part->left[i].amount;
}

/*
 * Refuses to give back more than is left.
 */
static bool
enough_left(Posting *postings, Refund *refund, int64 left)
{
	int64		id = refund->parts[0].spend.id;
	int64		spent = 0;
	char	   *detail;
	int			i;

	if (left > 0 && (!refund->has_amount || refund->amount <= left))
		return true;
	for (i = 0; i < refund->nparts; i++)
		spent += spent_by(&refund->parts[i].spend);
	detail = psprintf("It spent " INT64_FORMAT ", of which " INT64_FORMAT " can still be given back.",
					  spent, left);
	if (left <= 0 && spent == 0)
		return refuse(&postings[0].refusal, ERRCODE_CONFLICT,
					  psprintf("transaction " INT64_FORMAT " spent nothing",
							   id),
					  NULL, "Nothing needs to be done.");
	if (left <= 0)
		return refuse(&postings[0].refusal, ERRCODE_CONFLICT,
					  psprintf("transaction " INT64_FORMAT " is already refunded",
							   id),
					  detail,
					  "To repeat a refund safely, pass the idempotency key of the first call.");
	return refuse(&postings[0].refusal, ERRCODE_CONFLICT,
				  psprintf("cannot refund " INT64_FORMAT " of transaction " INT64_FORMAT,
						   refund->amount, id),
				  detail,
				  "Refund what is left, or leave out the amount.");
}

/*
 * Returns until when a grant that has expired lives on if it is given credits
 * back.
 */
static TimestampTz
grace(Posting *posting, Refund *refund)
{
	return refund->expired == EXPIRED_EXPIRE ? posting->now :
		clock_refund_grace(posting->now);
}

/*
 * Returns the transaction that counted for limits and caps: of a capture that
 * of its hold.
 */
static const Entry *
counted_as(Posting *posting, const Entry *spend)
{
	Entry	   *hold;

	if (strcmp(spend->kind, KIND_CAPTURE) != 0 || !spend->has_target)
		return spend;
	hold = palloc(sizeof(Entry));
	return row_find_entry(posting->store, posting->snapshot, spend->target_id,
						  hold) ? hold : spend;
}

/*
 * Adds the members that a refund may give back to.
 */
static List *
add_members(List *keys, Posting *postings, void *arg)
{
	Refund	   *refund = arg;
	int			i;

	for (i = 0; i < refund->nparts; i++)
		keys = caps_add_way_of(keys, counted_as(&postings[0],
												&refund->parts[i].spend));
	return keys;
}

/*
 * Plans to give back an amount of one part.
 */
static Entry *
give_back(Posting *posting, Refund *refund, Part *part, int64 amount)
{
	Entry	   *spend = &part->spend;
	const Entry *counted = counted_as(posting, spend);
	int			max = spend->ndraws;
	Draw	   *draws = palloc((max + 1) * sizeof(Draw));
	Draw	   *lost = palloc((max + 1) * sizeof(Draw));
	const char **lost_as = palloc((max + 1) * sizeof(char *));
	int			ndraws = 0;
	int			nlost = 0;
	StringInfoData prolonged;
	Entry	   *entry;
	int64		rest = amount;
	int			i;

	initStringInfo(&prolonged);
	for (i = max - 1; i >= 0 && rest > 0; i--)
	{
		Draw	   *left = &part->left[i];
		int64		some = Min(rest, left->amount);
		const char *kind;

		if (some == 0)
			continue;
		kind = grants_give_back(posting, grants_get(posting, left->grant_id),
								some, counted->created_at, posting->now,
								grace(posting, refund), &prolonged);
		draws[ndraws++] = (Draw) {left->grant_id, some};
		if (kind)
		{
			lost[nlost] = (Draw) {left->grant_id, -some};
			lost_as[nlost++] = kind;
		}
		rest -= some;
	}

	entry = log_add(posting, KIND_REFUND, posting->now, amount, draws, ndraws);
	entry->has_target = true;
	entry->target_id = spend->id;
	entry->member_id = spend->member_id;
	if (prolonged.len > 0)
		entry->terms = json_document(&prolonged);
	for (i = 0; i < nlost; i++)
		log_add_loss(posting, lost_as[i], posting->now, &lost[i], entry->id);
	caps_give_back(posting, counted, amount);
	return entry;
}

/*
 * Plans a refund.
 */
static bool
plan_refund(Posting *postings, void *arg)
{
	Refund	   *refund = arg;
	Posting    *main = NULL;
	int64		total = 0;
	int64		amount;
	int64		rest;
	int			i;

	for (i = 0; i < refund->nparties; i++)
		if (!ledger_not_closed(&postings[i]))
		{
			postings[0].refusal = postings[i].refusal;
			return false;
		}
	for (i = 0; i < refund->nparts; i++)
	{
		Part	   *part = &refund->parts[i];

		find_left(&postings[part->party], part);
		total += part->total;
	}
	if (!enough_left(postings, refund, total))
		return false;

	rest = amount = refund->has_amount ? refund->amount : total;
	for (i = refund->nparts - 1; i >= 0 && rest > 0; i--)
	{
		Part	   *part = &refund->parts[i];
		Posting    *posting = &postings[part->party];
		int64		some = Min(rest, part->total);
		Entry	   *entry;

		if (some == 0)
			continue;
		entry = give_back(posting, refund, part, some);
		rest -= some;
		if (main == NULL)
		{
			main = posting;
			main->main = entry;
			if (some < amount)
				terms_add_total(entry, amount);
		}
		else
			log_describe_part(entry, refund->request);
	}
	return true;
}

/*
 * Reads what to do with credits of expired grants.
 */
static ExpiredPolicy
read_policy(FunctionCallInfo fcinfo, int n)
{
	char	   *policy;

	if (PG_ARGISNULL(n))
		return EXPIRED_BY_SETTING;
	policy = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strcmp(policy, "grace") == 0)
		return EXPIRED_GRACE;
	if (strcmp(policy, "expire") == 0)
		return EXPIRED_EXPIRE;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("expired must be \"grace\" or \"expire\""),
			 errdetail("It is \"%.64s\".", policy),
			 errhint("Leave it out to go by the setting credits.refund_grace.")));
	return EXPIRED_BY_SETTING;
}

/*
 * Adds a transaction to what is to be refunded, and its account to the parties.
 */
static void
add_part(Refund *refund, const Entry *spend)
{
	Part	   *part = &refund->parts[refund->nparts++];

	part->spend = *spend;
	if (spend->member_id != 0 && refund->nparties == 0)
		/* the key is the member's, so its account comes first */
		refund->parties[refund->nparties++].id = spend->member_id;
	part->party = refund->nparties;
	refund->parties[refund->nparties++].id = spend->account_id;
}

/*
 * Finds the transactions to refund, which never change, and checks that they
 * are a spend, and of the account that the caller says.
 */
static void
find_parts(int64 id, text *account, Refund *refund)
{
	Account		owner;
	Snapshot	snapshot;
	Entry		target;
	ListCell   *lc;

	store_lock_tables("credits_refund()");
	snapshot = store_snapshot(true);
	if (account)
		ledger_find_account(snapshot, account, &owner);
	if (!row_find_entry(NULL, snapshot, id, &target) ||
		(account && owner.id != target.account_id &&
		 owner.id != target.member_id))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 account ? errmsg("account \"%s\" has no transaction " INT64_FORMAT,
								  text_to_cstring(account), id)
				 : errmsg("transaction " INT64_FORMAT " does not exist", id),
				 errhint("Pass the transaction_id of the deduction's or the capture's receipt.")));
	if (strcmp(target.kind, KIND_DEDUCTION) != 0 &&
		strcmp(target.kind, KIND_CAPTURE) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only a spend can be refunded"),
				 errdetail("Transaction " INT64_FORMAT " is of kind %s.",
						   id, target.kind),
				 errhint("Pass the transaction_id of a deduction's or a capture's receipt.")));
	add_part(refund, &target);
	foreach(lc, terms_ids(&target, "parts"))
	{
		if (refund->nparts == MAX_PARTS ||
			!row_find_entry(NULL, snapshot, *(int64 *) lfirst(lc), &target))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a part of transaction " INT64_FORMAT " is missing",
							id),
					 errhint("Run credits_verify.")));
		add_part(refund, &target);
	}
}

/*
 * Gives back credits that a transaction spent.
 */
Datum
credits_refund(PG_FUNCTION_ARGS)
{
	Refund		refund = {0};
	Request		request = {0};
	text	   *account = NULL;
	int64		id = arg_id(fcinfo, 0, "transaction_id");

	if (!PG_ARGISNULL(1))
	{
		refund.has_amount = true;
		refund.amount = arg_amount(fcinfo, 1, "amount");
	}
	request.key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request.reason = arg_text(fcinfo, 3, "reason", MAX_REASON_BYTES);
	request.metadata = arg_metadata(fcinfo, 4);
	refund.expired = read_policy(fcinfo, 5);
	refund.request = &request;
	if (!PG_ARGISNULL(6))
		account = arg_account(fcinfo, 6);
	find_parts(id, account, &refund);

	initStringInfo(&request.fingerprint);
	appendStringInfoString(&request.fingerprint, KIND_REFUND);
	fingerprint_int64(&request.fingerprint, true, id);
	fingerprint_int64(&request.fingerprint, refund.has_amount, refund.amount);
	fingerprint_int64(&request.fingerprint, true, refund.expired);

	request.add_members = add_members;
	if (refund.nparties > 1)
		return ledger_call_joint(fcinfo, "credits_refund()", refund.parties,
								 refund.nparties, &request, plan_refund,
								 &refund);
	return ledger_call(fcinfo, "credits_refund()", NULL, refund.parties[0].id,
					   &request, plan_refund, &refund);
}
