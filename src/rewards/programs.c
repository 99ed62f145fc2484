/*
 * programs.c
 *	  Reward programs: their terms.
 *
 * The terms of a program are a row of credits.reward_programs and are never changed;
 * see versions.c.  What it has given is in credits.rewards; rewards.c gives it.
 *
 * A program has a budget from the beginning or never: what it has given is counted in
 * its row of credits.reward_totals, which only programs with a budget have.
 *
 * Tested in test/sql/rewards.sql.
 */
#include "credits.h"

#include "ledger/versions.h"
#include "rewards/programs.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_reward_program);
PG_FUNCTION_INFO_V1(credits_retire_reward_program);

/* how many amounts a program may have */
#define MAX_AMOUNTS 366

#define MAX_GRACE_DAYS 366

static const char *const program_kind_names[] = {"award", "daily"};

/* the arguments of credits_set_reward_program */
enum
{
	SET_PROGRAM_NAME,
	SET_PROGRAM_AMOUNTS,
	SET_PROGRAM_KIND,
	SET_PROGRAM_EXPIRES_IN,
	SET_PROGRAM_GRACE_DAYS,
	SET_PROGRAM_TIMEZONE,
	SET_PROGRAM_PER_ACCOUNT,
	SET_PROGRAM_BUDGET,
	SET_PROGRAM_METADATA,
	SET_PROGRAM_FROM,
	SET_PROGRAM_UNTIL
};

static const SetArg set_program_args[] = {
	[SET_PROGRAM_NAME] = {"name", SET_NAMES},
	[SET_PROGRAM_AMOUNTS] = {"amounts", SET_NEEDED},
	[SET_PROGRAM_KIND] = {"kind", SET_KEEPS, "award"},
	[SET_PROGRAM_EXPIRES_IN] = {"expires_in", SET_KEEPS},
	[SET_PROGRAM_GRACE_DAYS] = {"grace_days", SET_KEEPS},
	[SET_PROGRAM_TIMEZONE] = {"timezone", SET_KEEPS, "UTC"},
	[SET_PROGRAM_PER_ACCOUNT] = {"per_account", SET_KEEPS},
	[SET_PROGRAM_BUDGET] = {"budget", SET_KEEPS},
	[SET_PROGRAM_METADATA] = {"metadata", SET_KEEPS},
	[SET_PROGRAM_FROM] = {"active_from", SET_ONCE},
	[SET_PROGRAM_UNTIL] = {"active_until", SET_KEEPS}
};

static SqlStatement insert_program = {
	"INSERT INTO credits.reward_programs (id, name, amounts, kind, expires_in,"
	" grace_days, timezone, per_account, budget, metadata, active_from,"
	" active_until, created_at, role)"
	" VALUES (nextval('credits.reward_programs_id_seq'), $1, $2, $3, $4, $5, $6,"
	" $7, $8, $9, $10, NULLIF($11, 'infinity'), $12, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, INT8ARRAYOID, TEXTOID, INTERVALOID, INT4OID, TEXTOID, INT8OID,
		INT8OID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		InvalidOid
	}
};

static SqlStatement keep_program = {
	"SELECT name, amounts, kind, expires_in, grace_days, timezone, per_account,"
	" budget, metadata, active_from, active_until FROM credits.reward_programs"
	" WHERE id = $1 FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement retire_program = {
	"INSERT INTO credits.reward_programs (id, name, amounts, kind, expires_in,"
	" grace_days, timezone, per_account, budget, metadata, active_from,"
	" active_until, created_at, role)"
	" SELECT nextval('credits.reward_programs_id_seq'), name, amounts, kind,"
	" expires_in, grace_days, timezone, per_account, budget, metadata, $2, $2, $3,"
	" session_user FROM credits.reward_programs WHERE id = $1 RETURNING id",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement select_program = {
	"SELECT id, active_from, active_until, kind, amounts, expires_in, grace_days,"
	" timezone, per_account, budget, metadata FROM credits.reward_programs"
	" WHERE name = $1" VERSION_IN_FORCE,
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* columns of select_program */
enum
{
	TERMS_KIND = VERSION_TERMS,
	TERMS_AMOUNTS,
	TERMS_EXPIRES_IN,
	TERMS_GRACE_DAYS,
	TERMS_TIMEZONE,
	TERMS_PER_ACCOUNT,
	TERMS_BUDGET,
	TERMS_METADATA
};

static const VersionKind program_versions = {
	"reward program", "credits_set_reward_program", ERRCODE_GONE,
	SET_PROGRAM_FROM, SET_PROGRAM_UNTIL,
	&select_program, &keep_program, &insert_program, &retire_program
};

static SqlStatement insert_program_total = {
	"INSERT INTO credits.reward_totals VALUES ($1, 0) ON CONFLICT DO NOTHING",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * terms
 */

/*
 * Reads the elements of an array of amounts.
 */
static void
read_amounts(ArrayType *array, Datum **amounts, bool **nulls, int *n)
{
	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, amounts, nulls, n);
}

/*
 * Finds the terms of a program that are in force at an instant.  Refuses if there are
 * none.
 */
bool
programs_find(text *name, TimestampTz at, Program *program, Refusal *refusal)
{
	SqlResult  *row;
	Datum		value;
	bool		isnull;
	bool	   *nulls;
	int			kind;

	if (!versions_find(&program_versions, name, NULL, at, &row, refusal))
		return false;
#define VALUE(n) (value = statements_value(row, 0, n, &isnull))
	program->name = name;
	program->id = DatumGetInt64(VALUE(VERSION_ID));
	kind = NAME_FIND(program_kind_names, TextDatumGetCString(VALUE(TERMS_KIND)));
	if (kind < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("reward program " INT64_FORMAT " is of an unknown kind",
						program->id),
				 errhint("Run credits_verify.")));
	program->kind = (ProgramKind) kind;
	read_amounts(DatumGetArrayTypeP(VALUE(TERMS_AMOUNTS)), &program->amounts,
				 &nulls, &program->namounts);
	VALUE(TERMS_EXPIRES_IN);
	program->expires_in = isnull ? NULL : DatumGetIntervalP(value);
	VALUE(TERMS_GRACE_DAYS);
	program->grace_days = isnull ? 0 : DatumGetInt32(value);
	program->timezone = DatumGetTextPP(VALUE(TERMS_TIMEZONE));
	VALUE(TERMS_PER_ACCOUNT);
	program->per_account = isnull ? NO_LIMIT : DatumGetInt64(value);
	VALUE(TERMS_BUDGET);
	program->budget = isnull ? NO_LIMIT : DatumGetInt64(value);
	VALUE(TERMS_METADATA);
	program->metadata = isnull ? NULL : DatumGetJsonbP(value);
#undef VALUE
	return true;
}

/*
 * Returns how many credits a program gives for the award, or the day in sequence, of a
 * number.
 */
int64
programs_amount(const Program *program, int64 number)
{
	return DatumGetInt64(program->amounts[Min(number, program->namounts) - 1]);
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Checks what a program gives.
 */
static void
check_amounts(ArrayType *array)
{
	Datum	   *amounts;
	bool	   *nulls;
	int			n;
	int			i;

	read_amounts(array, &amounts, &nulls, &n);
	if (n < 1 || n > MAX_AMOUNTS || ARR_NDIM(array) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amounts must be a list of numbers"),
				 errdetail("It has %d elements; 1 to %d are allowed.", n, MAX_AMOUNTS),
				 errhint("Pass what is given the first time, the second time, and so on; the last one holds for all that follow.")));
	for (i = 0; i < n; i++)
	{
		Refusal		refusal;

		if (nulls[i])
			raise_null("an amount");
		if (!valid_amount(&refusal, DatumGetInt64(amounts[i]), "an amount"))
			raise_refusal(&refusal);
	}
}

/*
 * Checks a program, in the arguments of credits_set_reward_program with what is kept.
 */
static void
check_program(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;
	ProgramKind kind = ARG_CHOICE(SET_PROGRAM_KIND, "kind", program_kind_names);

	if (set->kept &&
		!same_text(DatumGetTextPP(set->kept[SET_PROGRAM_KIND]),
				   PG_GETARG_TEXT_PP(SET_PROGRAM_KIND)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kind cannot change"),
				 errdetail("The program is of kind \"%s\".",
						   TextDatumGetCString(set->kept[SET_PROGRAM_KIND])),
				 errhint("Set a program with another name.")));
	if (set->kept &&
		set->kept_null[SET_PROGRAM_BUDGET] != PG_ARGISNULL(SET_PROGRAM_BUDGET))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a program has a budget from the beginning, or never"),
				 errdetail("What it has given is counted only if it has."),
				 errhint("Change the budget that there is, or set a program with another name.")));
	if (PG_ARGISNULL(SET_PROGRAM_AMOUNTS))
		raise_null("amounts");
	check_amounts(PG_GETARG_ARRAYTYPE_P(SET_PROGRAM_AMOUNTS));
	if (!PG_ARGISNULL(SET_PROGRAM_EXPIRES_IN))
		(void) arg_interval(fcinfo, SET_PROGRAM_EXPIRES_IN, "expires_in");
	if (kind == PROGRAM_DAILY && PG_ARGISNULL(SET_PROGRAM_GRACE_DAYS))
		sets_replace(set, SET_PROGRAM_GRACE_DAYS, Int32GetDatum(0));
	if (kind != PROGRAM_DAILY && !PG_ARGISNULL(SET_PROGRAM_GRACE_DAYS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("grace_days is allowed only with kind \"daily\""),
				 errhint("Awards have no sequence of days.")));
	if (!PG_ARGISNULL(SET_PROGRAM_GRACE_DAYS) &&
		(PG_GETARG_INT32(SET_PROGRAM_GRACE_DAYS) < 0 ||
		 PG_GETARG_INT32(SET_PROGRAM_GRACE_DAYS) > MAX_GRACE_DAYS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("grace_days must be from 0 to %d", MAX_GRACE_DAYS),
				 errdetail("It is %d.", PG_GETARG_INT32(SET_PROGRAM_GRACE_DAYS)),
				 errhint("Pass how many days may be missed without beginning again.")));
	(void) arg_timezone(fcinfo, SET_PROGRAM_TIMEZONE);
	if (!PG_ARGISNULL(SET_PROGRAM_PER_ACCOUNT))
		(void) arg_amount(fcinfo, SET_PROGRAM_PER_ACCOUNT, "per_account");
	if (!PG_ARGISNULL(SET_PROGRAM_BUDGET))
		(void) arg_amount(fcinfo, SET_PROGRAM_BUDGET, "budget");
	(void) arg_metadata(fcinfo, SET_PROGRAM_METADATA);
	(void) arg_active_until(fcinfo, SET_PROGRAM_UNTIL,
							PG_GETARG_TIMESTAMPTZ(SET_PROGRAM_FROM));
}

/*
 * SQL function: sets the terms of a reward program, or changes them.
 */
Datum
credits_set_reward_program(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, SET_PROGRAM_NAME, "name");
	Datum		total = PointerGetDatum(name);
	Set			set;
	int64		current;

	SETS_READ(&set, fcinfo, set_program_args);
	store_check_writable("credits_set_reward_program()");
	current = versions_merge(&program_versions, &set, name, NULL);
	check_program(&set);
	/* once, since it would wait for those who are giving some of the budget */
	if (set.kept == NULL && !set.merged->args[SET_PROGRAM_BUDGET].isnull)
		statements_run(&insert_program_total, &total, NULL);
	PG_RETURN_INT64(versions_set(&program_versions, &set, current));
}

/*
 * SQL function: ends a reward program.
 */
Datum
credits_retire_reward_program(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");

	store_check_writable("credits_retire_reward_program()");
	PG_RETURN_INT64(versions_retire(&program_versions, name, NULL, fcinfo, 1));
}
