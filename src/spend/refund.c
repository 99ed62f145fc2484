/*
 * refund.c
 *	  Refunds: giving spent credits back to the grants they came from.
 *
 * Credits are given back first to the grant that was drawn from last.  A grant
 * that has expired in the meantime is prolonged by a grace period, or else
 * what it gets back expires immediately.  What a voided grant gets back is
 * voided immediately.
 *
 * A spend is a deduction or a capture.  If it was split over a member's
 * account and a pool, it has two transactions, and so has its refund; what the
 * pool has paid is given back first.
 */
#include "credits.h"

#include "ledger/roles.h"
#include "spend/refund.h"

#include "access/skey.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_refund);

/* those that a caller can name, from EXPIRED_GRACE on */
static const char *const expired_policy_names[] = {"grace", "expire"};

/*
 * Subtracts what earlier refunds have given back from the draws of a spend,
 * whose amounts are positive here.
 */
static void
subtract_earlier(Posting *posting, int64 target_id, Draw *draws, int ndraws)
{
	DrawPlaces *places = NULL;
	StoreScan	scan;
	Entry		earlier;

	scan_begin_ids(&scan, posting->store, &log_by_target_id,
				   posting->snapshot, target_id,
				   posting->account.stored.last_transaction_id,
				   BY_INT64(target_id));
	while (scan_peek(&scan, ForwardScanDirection, &earlier))
	{
		int			i;

		if (earlier.kind != KIND_REFUND)
			continue;
		if (places == NULL)
			places = draws_places(draws, ndraws);
		for (i = 0; i < earlier.ndraws; i++)
		{
			int			place = draws_find(places, earlier.draws[i].grant_id);

			CHECK_FOR_INTERRUPTS();
			if (place >= 0)
				draws[place].amount -= earlier.draws[i].amount;
		}
	}
	scan_end(&scan);
}

/*
 * Determines what can still be given back of a part.
 */
static void
find_left(Posting *posting, RefundPart *part)
{
	Entry	   *spend = &part->spend;
	int			i;

	part->left = palloc((spend->ndraws + 1) * sizeof(Draw));
	for (i = 0; i < spend->ndraws; i++)
		part->left[i] = DRAW(spend->draws[i].grant_id,
							 -spend->draws[i].amount);
	subtract_earlier(posting, spend->id, part->left, spend->ndraws);
	part->total = 0;
	for (i = 0; i < spend->ndraws; i++)
		part->total += part->left[i].amount;
}

/*
 * Refuses to refund more than is left.
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
		spent += rows_moved(&refund->parts[i].spend);
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
 * Returns the transaction that was counted for limits and caps: the spend
 * itself or, for a capture, the transaction of its hold.
 */
static const Entry *
counted_as(Posting *posting, const Entry *spend)
{
	Entry	   *hold;

	if (spend->kind != KIND_CAPTURE || !spend->has_target)
		return spend;
	hold = palloc(sizeof(Entry));
	return rows_find_entry(posting->store, posting->snapshot, spend->target_id,
						   hold) ? hold : spend;
}

/*
 * Adds the members to whom the refund may give back to those to be locked.
 */
List *
refund_add_members(List *keys, Posting *postings, void *arg)
{
	Refund	   *refund = arg;
	int			i;

	for (i = 0; i < refund->nparts; i++)
		keys = members_add_way_of(keys, counted_as(&postings[0],
												   &refund->parts[i].spend));
	return keys;
}

/*
 * Plans to give an amount of one part back.  It must not be more than is left
 * of it.
 */
static Entry *
give_back(Posting *posting, Refund *refund, RefundPart *part, int64 amount)
{
	Entry	   *spend = &part->spend;
	const Entry *counted = counted_as(posting, spend);
	int			max = spend->ndraws;
	Draw	   *draws = palloc((max + 1) * sizeof(Draw));
	Draw	   *lost = palloc((max + 1) * sizeof(Draw));
	TransactionKind *lost_as = palloc((max + 1) * sizeof(TransactionKind));
	int			ndraws = 0;
	int			nlost = 0;
	JsonObject	prolonged;
	Entry	   *entry;
	int64		rest = amount;
	TimestampTz until;			/* the new expiry of an expired grant */
	int			i;

	until = refund->expired == EXPIRED_EXPIRE ? posting->now :
		clock_refund_grace(posting->now);
	json_begin(&prolonged);
	/* the grant that was drawn from last first */
	for (i = max - 1; i >= 0 && rest > 0; i--)
	{
		Draw	   *left = &part->left[i];
		int64		some = Min(rest, left->amount);
		TransactionKind kind;

		if (some == 0)
			continue;
		kind = grants_give_back(posting, grants_get(posting, left->grant_id),
								some, counted->created_at, posting->now,
								until, &prolonged);
		draws[ndraws++] = DRAW(left->grant_id, some);
		if (kind != KIND_NONE)
		{
			lost[nlost] = DRAW(left->grant_id, -some);
			lost_as[nlost++] = kind;
		}
		rest -= some;
	}

	entry = log_add(posting, KIND_REFUND, posting->now, amount, draws, ndraws);
	entry->has_target = true;
	entry->target_id = spend->id;
	entry->member_id = spend->member_id;
	if (prolonged.nmembers > 0)
		entry->terms = json_document(&prolonged);
	for (i = 0; i < nlost; i++)
		log_add_loss(posting, lost_as[i], posting->now, &lost[i], entry->id);
	limit_rules_give_back(posting, counted, amount);
	/* an application that gives back what it could not deliver is no news */
	if (roles_is_administrator())
		audit_moved(posting, entry, AUDIT_REFUND);
	return entry;
}

/*
 * Returns how much a refund gives back, 0 if it is refused.
 */
int64
refund_amount(Posting *postings, Refund *refund)
{
	int64		total = 0;
	int			i;

	for (i = 0; i < refund->nparties; i++)
		if (!guards_not_closed(&postings[i]))
			return 0;
	for (i = 0; i < refund->nparts; i++)
	{
		RefundPart *part = &refund->parts[i];

		find_left(&postings[part->party], part);
		total += part->total;
	}
	if (!enough_left(postings, refund, total))
		return 0;
	return refund->has_amount ? refund->amount : total;
}

/*
 * Plans a refund.
 */
bool
refund_plan(Posting *postings, void *arg)
{
	Refund	   *refund = arg;
	Posting    *main = NULL;
	int64		amount = refund_amount(postings, refund);
	int64		rest = amount;
	int			i;

	if (amount == 0)
		return false;
	/* the pool's part, which is the last one, first */
	for (i = refund->nparts - 1; i >= 0 && rest > 0; i--)
	{
		RefundPart *part = &refund->parts[i];
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
 * Adds a transaction to those to be refunded, and its account to the parties.
 */
static void
add_part(Refund *refund, const Entry *spend)
{
	RefundPart *part = &refund->parts[refund->nparts++];

	part->spend = *spend;

	/*
	 * Idempotency keys belong to the first party, and this one's to the
	 * member. If the spend is split, its first part has already added the
	 * member.
	 */
	if (spend->member_id != 0 && refund->nparties == 0)
		refund->parties[refund->nparties++].id = spend->member_id;
	part->party = refund->nparties;
	refund->parties[refund->nparties++].id = spend->account_id;
}

/*
 * Finds the transactions to be refunded, and checks that they are a spend, and
 * belong to the account given, if any.  Transactions never change, so they can
 * be read without a lock.
 */
void
refund_find(int64 id, text *account, const char *function, Refund *refund)
{
	Account		owner;
	Snapshot	snapshot;
	Entry		target;
	Entry		part;
	ListCell   *lc;

	ledger_lock_tables(function);
	snapshot = store_snapshot(true);
	if (account)
		guards_find_account(snapshot, account, &owner);
	anchors_check(id);
	if (!rows_find_entry(NULL, snapshot, id, &target) ||
		(account && owner.id != target.account_id &&
		 owner.id != target.member_id))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 account ? errmsg("account \"%s\" has no transaction " INT64_FORMAT,
								  text_to_cstring(account), id)
				 : errmsg("transaction " INT64_FORMAT " does not exist", id),
				 errhint("Pass the transaction_id of the deduction's or the capture's receipt.")));
	if (kinds_info(target.kind)->undone_by != KIND_REFUND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only a spend can be refunded"),
				 errdetail("Transaction " INT64_FORMAT " is of kind %s.",
						   id, kinds_name(target.kind)),
				 errhint("Pass the transaction_id of a deduction's or a capture's receipt.")));
	guards_may_undo(&target);
	add_part(refund, &target);
	foreach(lc, terms_ids(&target, "parts"))
	{
		int64		part_id = *(int64 *) lfirst(lc);

		if (!rows_find_entry(NULL, snapshot, part_id, &part))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a part of transaction " INT64_FORMAT " is missing",
							id),
					 errdetail("Its terms name transaction " INT64_FORMAT ".",
							   part_id),
					 errhint("Run credits_verify.")));

		/*
		 * The terms are not trusted, since "parties" has space for two.  The
		 * first part of a split spend is the member's own, the other the
		 * pool's.
		 */
		if (refund->nparts == MAX_REFUND_PARTS || target.member_id != 0 ||
			part.kind != target.kind ||
			part.member_id != target.account_id)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("transaction " INT64_FORMAT " is not part of transaction " INT64_FORMAT,
							part_id, id),
					 errdetail("The terms of the latter name it."),
					 errhint("Run credits_verify.")));
		add_part(refund, &part);
	}
}

/*
 * SQL function: gives back credits that a transaction has spent.
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
	refund.expired = PG_ARGISNULL(5) ? EXPIRED_BY_SETTING :
		(ExpiredPolicy) (EXPIRED_GRACE +
						 ARG_CHOICE(5, "expired", expired_policy_names));
	refund.request = &request;
	if (!PG_ARGISNULL(6))
		account = arg_account(fcinfo, 6);
	refund_find(id, account, "credits_refund()", &refund);

	initStringInfo(&request.fingerprint);
	appendStringInfoString(&request.fingerprint, kinds_name(KIND_REFUND));
	requests_add_int64(&request.fingerprint, true, id);
	requests_add_int64(&request.fingerprint, refund.has_amount, refund.amount);
	requests_add_int64(&request.fingerprint, true, refund.expired);

	request.add_members = refund_add_members;
	if (refund.nparties > 1)
		return ledger_call_joint(fcinfo, "credits_refund()", refund.parties,
								 refund.nparties, &request, refund_plan,
								 &refund);
	return ledger_call(fcinfo, "credits_refund()", NULL, refund.parties[0].id,
					   &request, refund_plan, &refund);
}
