/*
 * rewards.c
 *	  Rewards: giving the credits of a reward program.
 *
 * What an account has done the application knows, and names: there are no rules here.
 * A row of credits.rewards says that it was rewarded for that.  The account is locked
 * before these rows are read, so that it is rewarded once; and a program's row of
 * credits.reward_totals after that, if it has a budget, so that no more is given than
 * that.
 *
 * Tested in test/sql/rewards.sql and test/specs/rewards.spec.
 */
#include "credits.h"

#include "rewards/programs.h"
#include "store/statements.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_reward);
PG_FUNCTION_INFO_V1(credits_try_reward);

/* A reward that is to be given */
typedef struct Reward
{
	text	   *account;
	text	   *program_name;
	text	   *given;			/* the award as the caller names it, NULL for
								 * a day */
	Request		request;
	/* the plan */
	Program		program;
	text	   *award;
	int64		number;			/* of the amount, or of days in sequence */
	int64		amount;
} Reward;

static SqlStatement find_reward = {
	"SELECT transaction_id, created_at FROM credits.rewards"
	" WHERE account_id = $1 AND program = $2 AND award = $3",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, InvalidOid}
};

static SqlStatement count_rewards = {
	"SELECT count(*) FROM (SELECT FROM credits.rewards"
	" WHERE account_id = $1 AND program = $2 LIMIT $3) AS r",
	(const Oid[]) {INT8OID, TEXTOID, INT8OID, InvalidOid}
};

/* the day that it is somewhere, and the last one that was rewarded, if there is one */
static SqlStatement find_day = {
	"SELECT to_char(d.today, 'YYYY-MM-DD'), d.today - r.award::date, r.number, r.award"
	" FROM (SELECT ($3 AT TIME ZONE $4)::date AS today) AS d"
	" LEFT JOIN LATERAL (SELECT l.award, l.number FROM credits.rewards AS l"
	" WHERE l.account_id = $1 AND l.program = $2 AND l.award ~ '^[0-9]+-[0-9]{2}-[0-9]{2}$'"
	" ORDER BY l.award DESC LIMIT 1) AS r ON true",
	(const Oid[]) {INT8OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static SqlStatement lock_reward_total = {
	"SELECT given FROM credits.reward_totals WHERE program = $1 FOR UPDATE",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement count_given = {
	"UPDATE credits.reward_totals SET given = given + $2 WHERE program = $1",
	(const Oid[]) {TEXTOID, INT8OID, InvalidOid}
};

static SqlStatement insert_reward = {
	"INSERT INTO credits.rewards (transaction_id, account_id, program_id, amount,"
	" number, created_at, program, award) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	(const Oid[]) {
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID,
		TEXTOID, InvalidOid
	}
};

/*
 * Refuses a reward that the account has.
 */
static bool
refuse_again(Posting *posting, const Reward *reward, int64 transaction_id)
{
	return refuse(&posting->refusal, ERRCODE_CONFLICT,
				  psprintf("account \"%s\" has already been rewarded for \"%s\"",
						   rows_account_name(&posting->account),
						   text_to_cstring(reward->award)),
				  psprintf("Program \"%s\" did so with transaction " INT64_FORMAT ".",
						   text_to_cstring(reward->program_name), transaction_id),
				  "To repeat a call safely, pass the idempotency key of the first one.");
}

/*
 * Returns how many rewards of a program an account has, or "most" if there are more.
 */
static int64
count_of(const Posting *posting, const Program *program, int64 most)
{
	Datum		values[3];
	bool		isnull;

	values[0] = Int64GetDatum(posting->account.id);
	values[1] = PointerGetDatum(program->name);
	values[2] = Int64GetDatum(most);
	return DatumGetInt64(statements_value(statements_run(&count_rewards, values, NULL),
										  0, 1, &isnull));
}

/*
 * Determines what an award is worth: how many the account has, and whether it may have
 * another one.
 */
static bool
look_at_award(Posting *posting, Reward *reward)
{
	const Program *program = &reward->program;
	Datum		values[3];
	SqlResult  *row;
	bool		isnull;

	if (reward->given == NULL)
		return refuse(&posting->refusal, ERRCODE_NULL_VALUE_NOT_ALLOWED,
					  "award must not be null",
					  psprintf("Program \"%s\" gives credits once for each award.",
							   text_to_cstring(program->name)),
					  "Pass what the account is rewarded for.");
	reward->award = reward->given;
	values[0] = Int64GetDatum(posting->account.id);
	values[1] = PointerGetDatum(program->name);
	values[2] = PointerGetDatum(reward->award);
	row = statements_run(&find_reward, values, NULL);
	if (row->nrows > 0)
		return refuse_again(posting, reward,
							DatumGetInt64(statements_value(row, 0, 1, &isnull)));
	/* the last amount holds for all that follow */
	reward->number = Min(count_of(posting, program, program->namounts) + 1,
						 program->namounts);
	return true;
}

/*
 * Determines what a day is worth: the how many-th in sequence it is.
 */
static bool
look_at_day(Posting *posting, Reward *reward)
{
	const Program *program = &reward->program;
	Datum		values[4];
	SqlResult  *row;
	bool		isnull;
	bool		first;
	int			days;

	if (reward->given)
		return refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "award must be left out",
					  psprintf("Program \"%s\" gives credits once a day.",
							   text_to_cstring(program->name)),
					  "Which day it is depends on the clock.");
	values[0] = Int64GetDatum(posting->account.id);
	values[1] = PointerGetDatum(program->name);
	values[2] = TimestampTzGetDatum(posting->now);
	values[3] = PointerGetDatum(posting->account.limited ?
								limit_rules_of(posting)->timezone : program->timezone);
	row = statements_run(&find_day, values, NULL);
	reward->award = DatumGetTextPP(statements_value(row, 0, 1, &isnull));
	days = DatumGetInt32(statements_value(row, 0, 2, &first));
	if (first)
	{
		reward->number = 1;
		return true;
	}
	if (days <= 0)
	{
		/* of the last day, as the time zone may have changed since */
		reward->award = DatumGetTextPP(statements_value(row, 0, 4, &isnull));
		values[2] = PointerGetDatum(reward->award);
		row = statements_run(&find_reward, values, NULL);
		return refuse_again(posting, reward,
							DatumGetInt64(statements_value(row, 0, 1, &isnull)));
	}
	reward->number = days - 1 > program->grace_days ? 1 :
		DatumGetInt64(statements_value(row, 0, 3, &isnull)) + 1;
	return true;
}

/*
 * Refuses accounts that a program is not for.
 */
static bool
is_meant(Posting *posting, const Program *program)
{
	Datum		metadata = posting->account.metadata;

	if (program->metadata == NULL ||
		(metadata != (Datum) 0 &&
		 DatumGetBool(DirectFunctionCall2(jsonb_contains, metadata,
										  JsonbPGetDatum(program->metadata)))))
		return true;
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("reward program \"%s\" is not for account \"%s\"",
						   text_to_cstring(program->name),
						   rows_account_name(&posting->account)),
				  psprintf("It is for accounts whose metadata contains %s.",
						   show_value(json_to_cstring(program->metadata))),
				  "Use another program, or change the metadata of the account.");
}

/*
 * Refuses what exceeds the limits of a program.  If it has a budget, that is locked.
 */
static bool
is_within_limits(Posting *posting, Reward *reward)
{
	const Program *program = &reward->program;
	Datum		value = PointerGetDatum(program->name);
	SqlResult  *row;
	bool		isnull;
	int64		given;

	if (program->per_account != NO_LIMIT &&
		count_of(posting, program, program->per_account) >= program->per_account)
		return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
					  psprintf("account \"%s\" has all rewards of program \"%s\"",
							   rows_account_name(&posting->account),
							   text_to_cstring(program->name)),
					  psprintf("It gives an account " INT64_FORMAT ".",
							   program->per_account),
					  "Use another program.");
	if (program->budget == NO_LIMIT)
		return true;
	row = statements_run(&lock_reward_total, &value, NULL);
	given = row->nrows == 0 ? program->budget :
		DatumGetInt64(statements_value(row, 0, 1, &isnull));
	if (reward->amount > program->budget - given)
		return refuse(&posting->refusal, ERRCODE_GONE,
					  psprintf("the budget of reward program \"%s\" is used up",
							   text_to_cstring(program->name)),
					  psprintf("It has given " INT64_FORMAT " of " INT64_FORMAT " credits; " INT64_FORMAT " more are needed.",
							   given, program->budget, reward->amount),
					  "Raise its budget with credits_set_reward_program.");
	return true;
}

/*
 * Records a reward, and what it takes of a budget.
 */
static void
write_reward(Posting *posting, void *arg)
{
	const Reward *reward = arg;
	const Program *program = &reward->program;
	Datum		values[8];

	values[0] = PointerGetDatum(program->name);
	values[1] = Int64GetDatum(reward->amount);
	if (program->budget != NO_LIMIT)
		(void) statements_run(&count_given, values, NULL);
	values[0] = Int64GetDatum(posting->main->id);
	values[1] = Int64GetDatum(posting->account.id);
	values[2] = Int64GetDatum(program->id);
	values[3] = Int64GetDatum(reward->amount);
	values[4] = Int64GetDatum(reward->number);
	values[5] = TimestampTzGetDatum(posting->now);
	values[6] = PointerGetDatum(program->name);
	values[7] = PointerGetDatum(reward->award);
	(void) statements_run(&insert_reward, values, NULL);
}

/*
 * Plans to give a reward.
 */
static bool
plan_reward(Posting *posting, void *arg)
{
	Reward	   *reward = arg;
	Program    *program = &reward->program;
	Grant	   *grant;

	if (!guards_not_closed(posting) ||
		!programs_find(reward->program_name, posting->now, program,
					   &posting->refusal) ||
		!is_meant(posting, program) ||
		!(program->kind == PROGRAM_DAILY ? look_at_day(posting, reward) :
		  look_at_award(posting, reward)))
		return false;
	reward->amount = programs_amount(program, reward->number);
	if (!limit_rules_receive(posting, &reward->amount, true) ||
		!is_within_limits(posting, reward) ||
		!log_may_grant(posting, reward->amount))
		return false;
	grant = grants_new(posting, reward->amount, cstring_to_text("promotional"),
					   posting->now,
					   program->expires_in ?
					   clock_after(posting->now, program->expires_in) : DT_NOEND);
	posting->main = log_add(posting, KIND_ALLOCATION, posting->now, reward->amount,
							grants_draw(grant, reward->amount), 1);
	grant->transaction_id = posting->main->id;
	posting->main->terms = grants_terms(grant);
	posting_defer_statements(posting, write_reward, reward);
	return true;
}

/*
 * Reads the arguments, which are the same for both functions, and posts the reward.
 */
static bool
post_reward(FunctionCallInfo fcinfo, const char *function, Receipt *receipt,
			Refusal *refusal)
{
	Reward		reward = {0};
	Request    *request = &reward.request;

	reward.account = arg_account(fcinfo, 0);
	reward.program_name = arg_name(fcinfo, 1, "program");
	reward.given = arg_text(fcinfo, 2, "award", MAX_NAME_BYTES);
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 4);
	request->operation = reward.program_name;
	request->reference = reward.given;
	/* what it has been given is read under the lock */
	request->lock_first = true;
	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, "reward");
	requests_add_text(&request->fingerprint, reward.program_name);
	requests_add_text(&request->fingerprint, reward.given);
	store_check_writable(function);
	return ledger_post(function, reward.account, 0, request, plan_reward, &reward,
					   receipt, refusal);
}

/*
 * SQL function: rewards an account, or raises an error.
 */
Datum
credits_reward(PG_FUNCTION_ARGS)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!post_reward(fcinfo, "credits_reward()", &receipt, &refusal))
		raise_refusal(&refusal);
	return receipts_result(fcinfo, &receipt);
}

/*
 * SQL function: rewards an account, or returns why that is refused.
 */
Datum
credits_try_reward(PG_FUNCTION_ARGS)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!post_reward(fcinfo, "credits_try_reward()", &receipt, &refusal))
		return receipts_attempt(fcinfo, NULL, &refusal);
	return receipts_attempt(fcinfo, &receipt, NULL);
}
