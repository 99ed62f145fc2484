/*
 * refund.c
 *	  Giving spent credits back to the grants they came from.
 *
 * The grant drawn from last is given back to first.  A grant that has expired
 * meanwhile lives on for a grace, or what it gets back expires at once; what a
 * voided grant gets back is voided at once.
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

typedef struct Refund
{
	Entry		target;			/* the spend */
	bool		has_amount;		/* or else all that is left */
	int64		amount;
	ExpiredPolicy expired;
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
 * Refuses to give back more than is left.
 */
static bool
enough_left(Posting *posting, Refund *refund, int64 left)
{
	char	   *detail;

	if (left > 0 && (!refund->has_amount || refund->amount <= left))
		return true;
	detail = psprintf("It spent " INT64_FORMAT ", of which " INT64_FORMAT " can still be given back.",
					  -refund->target.amount, left);
	if (left <= 0)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("transaction " INT64_FORMAT " is already refunded",
							   refund->target.id),
					  detail,
					  "To repeat a refund safely, pass the idempotency key of the first call.");
	return refuse(&posting->refusal, ERRCODE_CONFLICT,
				  psprintf("cannot refund " INT64_FORMAT " of transaction " INT64_FORMAT,
						   refund->amount, refund->target.id),
				  detail,
				  "Refund what is left, or leave out the amount.");
}

/*
 * Gives an amount back to a grant.  Returns the kind of transaction that must
 * take it away again at once, or NULL.  Notes a grant that it prolongs.
 */
static const char *
give_back(Posting *posting, Refund *refund, Grant *grant, int64 amount,
		  StringInfo prolonged)
{
	TimestampTz until;

	switch (grant->status)
	{
		case GRANT_PENDING:
		case GRANT_OPEN:
			grant->remaining += amount;
			grant->changed = true;
			return NULL;
		case GRANT_VOIDED:
			return KIND_VOID;
		case GRANT_USED:
		case GRANT_EXPIRED:
		case GRANT_UNKNOWN:		/* grants_get has refused it */
			break;
	}
	if (grant->expires_at > posting->now)
		until = grant->expires_at;
	else
	{
		until = refund->expired == EXPIRED_EXPIRE ? posting->now :
			clock_refund_grace(posting->now);
		if (until <= posting->now)
		{
			grant->status = GRANT_EXPIRED;
			grant->changed = true;
			return KIND_EXPIRATION;
		}
		if (grant->granted_until == DT_NOBEGIN)
			grant->granted_until = grant->expires_at;
		grant->expires_at = until;
		grants_prolonged(prolonged, grant);
	}
	grant->remaining += amount;
	grant->status = GRANT_OPEN;
	grant->changed = true;
	posting->account.due_at = Min(posting->account.due_at, until);
	return NULL;
}

/*
 * Plans a refund.
 */
static bool
plan_refund(Posting *posting, void *arg)
{
	Refund	   *refund = arg;
	Entry	   *target = &refund->target;
	int			nleft = target->ndraws;
	Draw	   *left = palloc((nleft + 1) * sizeof(Draw));
	Draw	   *draws = palloc((nleft + 1) * sizeof(Draw));
	Draw	   *lost = palloc((nleft + 1) * sizeof(Draw));
	const char **lost_as = palloc((nleft + 1) * sizeof(char *));
	int			ndraws = 0;
	int			nlost = 0;
	StringInfoData prolonged;
	int64		total = 0;
	int64		amount;
	int64		rest;
	int			i;

	if (!ledger_not_closed(posting))
		return false;
	for (i = 0; i < nleft; i++)
		left[i] = (Draw) {target->draws[i].grant_id, -target->draws[i].amount};
	subtract_earlier(posting, target->id, left, nleft);
	for (i = 0; i < nleft; i++)
		total += left[i].amount;
	if (!enough_left(posting, refund, total))
		return false;

	initStringInfo(&prolonged);
	amount = refund->has_amount ? refund->amount : total;
	rest = amount;
	for (i = nleft - 1; i >= 0 && rest > 0; i--)
	{
		int64		part = Min(rest, left[i].amount);
		const char *kind;

		if (part == 0)
			continue;
		kind = give_back(posting, refund,
						 grants_get(posting, left[i].grant_id), part,
						 &prolonged);
		draws[ndraws++] = (Draw) {left[i].grant_id, part};
		if (kind)
		{
			lost[nlost] = (Draw) {left[i].grant_id, -part};
			lost_as[nlost++] = kind;
		}
		rest -= part;
	}

	posting->main = log_add(posting, KIND_REFUND, posting->now, amount, draws,
							ndraws);
	posting->main->has_target = true;
	posting->main->target_id = target->id;
	if (prolonged.len > 0)
		posting->main->terms = json_document(&prolonged);
	for (i = 0; i < nlost; i++)
	{
		Entry	   *entry = log_add(posting, lost_as[i], posting->now,
									lost[i].amount, &lost[i], 1);

		entry->has_target = true;
		entry->target_id = posting->main->id;
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
 * Finds the transaction to refund, which never changes, and checks that it is
 * a spend, and of the account that the caller says.
 */
static void
find_target(int64 id, text *account, Entry *target)
{
	Account		owner;
	Refusal		refusal;
	Snapshot	snapshot;

	store_lock_tables("credits_refund()");
	snapshot = store_snapshot(true);
	if (account && !row_find_account(NULL, snapshot, account, 0, &owner))
	{
		refuse_unknown_account(&refusal, account);
		raise_refusal(&refusal);
	}
	if (!row_find_entry(NULL, snapshot, id, target) ||
		(account && owner.id != target->account_id))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 account ? errmsg("account \"%s\" has no transaction " INT64_FORMAT,
								  text_to_cstring(account), id)
				 : errmsg("transaction " INT64_FORMAT " does not exist", id),
				 errhint("Pass the transaction_id of the deduction's receipt.")));
	if (strcmp(target->kind, KIND_DEDUCTION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only a spend can be refunded"),
				 errdetail("Transaction " INT64_FORMAT " is of kind %s.",
						   id, target->kind),
				 errhint("Pass the transaction_id of a deduction's receipt.")));
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
	if (!PG_ARGISNULL(6))
		account = arg_account(fcinfo, 6);
	find_target(id, account, &refund.target);

	initStringInfo(&request.fingerprint);
	appendStringInfoString(&request.fingerprint, KIND_REFUND);
	fingerprint_int64(&request.fingerprint, true, id);
	fingerprint_int64(&request.fingerprint, refund.has_amount, refund.amount);
	fingerprint_int64(&request.fingerprint, true, refund.expired);

	return ledger_call(fcinfo, "credits_refund()", NULL,
					   refund.target.account_id, &request, plan_refund,
					   &refund);
}
