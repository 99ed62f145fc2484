/*
 * codes.c
 *	  Codes and their redemptions: what promotional codes, gifts and
 *	  referral codes have in common.
 *
 * A code is stored and looked up in upper case and without surrounding spaces.
 *
 * If the number of uses is limited, they are counted in the code's row, which
 * is locked after all accounts.  Otherwise the row is never locked, and many
 * sessions can redeem the code at the same time: each redemption is a row of
 * its own.  How often one account has redeemed a code is counted while that
 * account is locked.
 */
#include "credits.h"

#include "codes/codes.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const kind_names[] = {"promotional", "gift", "referral"};

static const StoreColumn code_columns[] = {
	COLUMN_INT64(Code, id),
	COLUMN_INT64(Code, account_id, NULL_IF_ZERO),
	COLUMN_INT64(Code, transaction_id, NULL_IF_ZERO),
	COLUMN_TIME(Code, created_at),
	COLUMN_INT64(Code, credits, NULL_IF_ZERO),
	COLUMN_TIME(Code, active_from),
	COLUMN_TIME(Code, active_until),
	COLUMN_INT32(Code, per_account),
	COLUMN_ENUM(Code, kind, kind_names),
	COLUMN_TEXT(Code, code),
	COLUMN_INTERVAL(Code, expires_in, NULL_IF_ZERO),
	COLUMN_INTERVAL(Code, new_accounts_within, NULL_IF_ZERO),
	COLUMN_TEXT(Code, message, NULL_IF_ZERO),
	COLUMN_JSONB(Code, metadata, NULL_IF_ZERO),
	COLUMN_INT64(Code, max_uses, NULL_IS(NO_LIMIT)),
	COLUMN_INT64(Code, uses),
	COLUMN_BOOL(Code, active)
};

StoreTable	codes_table = {
	.name = "codes",
	.sequence = "codes_id_seq",
	ROWS_OF(Code, code_columns)
};

StoreIndex	codes_by_id = {
	&codes_table, "codes_pkey", {"id"},.unique = true
};
StoreIndex	codes_by_code = {
	&codes_table, "codes_code_key", {"code"},.unique = true
};
StoreIndex	codes_by_referrer = {
	&codes_table, "codes_referrer_idx", {"account_id"},.unique = true,
	.predicate = "(kind = 'referral'::text)"
};
static StoreIndex codes_by_transaction = {
	&codes_table, "codes_transaction_id_idx", {"transaction_id"},
	.unique = true,.predicate = "(transaction_id IS NOT NULL)"
};

static const StoreColumn redemption_columns[] = {
	COLUMN_INT64(Redeemed, transaction_id),
	COLUMN_INT64(Redeemed, code_id),
	COLUMN_INT64(Redeemed, account_id),
	COLUMN_TIME(Redeemed, created_at),
	COLUMN_ENUM(Redeemed, kind, kind_names)
};

StoreTable	redemptions_table = {
	.name = "redemptions",
	ROWS_OF(Redeemed, redemption_columns)
};

StoreIndex	redemptions_by_id = {
	&redemptions_table, "redemptions_pkey", {"transaction_id"},.unique = true
};
static StoreIndex redemptions_by_code = {
	&redemptions_table, "redemptions_code_id_idx", {"code_id", "account_id"}
};
static StoreIndex redemptions_by_referee = {
	&redemptions_table, "redemptions_referee_idx", {"account_id"},
	.unique = true,.predicate = "(kind = 'referral'::text)"
};

/* length of a random code, with 5 bits in each character */
#define RANDOM_BYTES 16

/* Crockford's base 32: digits and letters, without I, L, O and U */
static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/*
 * Returns whether a byte is ASCII white space.
 */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Returns a code in the form in which it is stored and looked up: in upper
 * case and without surrounding white space.
 */
text *
codes_normalise(text *given)
{
	const char *s = VARDATA_ANY(given);
	int			len = VARSIZE_ANY_EXHDR(given);
	text	   *code;
	char	   *c;
	int			i;

	while (len > 0 && is_space(s[0]))
		s++, len--;
	while (len > 0 && is_space(s[len - 1]))
		len--;
	code = cstring_to_text_with_len(s, len);
	c = VARDATA(code);
	for (i = 0; i < len; i++)
		c[i] = pg_ascii_toupper((unsigned char) c[i]);
	return code;
}

/*
 * Returns an argument that is a code to be redeemed, in the form in which it
 * is looked up.
 */
text *
codes_arg(FunctionCallInfo fcinfo, int n)
{
	text	   *code;
	int			len;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("code must not be null"),
				 errhint("Pass a value for code.")));
	code = codes_normalise(PG_GETARG_TEXT_PP(n));
	len = VARSIZE_ANY_EXHDR(code);
	if (len < 1 || len > MAX_CODE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 len < 1 ? errmsg("code must not be empty")
				 : errmsg("code is too long"),
				 errdetail("It has %d bytes; 1 to %d are allowed.", len,
						   MAX_CODE_BYTES),
				 errhint("Pass a value of 1 to %d bytes for code.",
						 MAX_CODE_BYTES)));
	return code;
}

/*
 * Checks a new code, or the prefix of one.  Only printable ASCII characters
 * are allowed: they can be typed on any keyboard, and converting them to upper
 * case does not depend on the locale.
 */
void
codes_check(text *code, const char *name, int max_bytes)
{
	const char *s = VARDATA_ANY(code);
	int			len = VARSIZE_ANY_EXHDR(code);
	int			i;

	if (len < 1 || len > max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 len < 1 ? errmsg("%s must not be empty", name)
				 : errmsg("%s is too long", name),
				 errdetail("It has %d bytes; 1 to %d are allowed.", len,
						   max_bytes),
				 errhint("Pass a value of 1 to %d bytes for %s.", max_bytes,
						 name)));
	for (i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must consist of ASCII letters, digits and punctuation marks",
							name),
					 errdetail("Byte %d of %d is not one of these.", i + 1, len),
					 errhint("Leave out spaces inside it, and letters beyond A to Z.")));
}

/*
 * Returns a new random code that cannot be guessed, after a prefix if it is
 * not NULL.
 */
text *
codes_random(text *prefix)
{
	int			len = prefix ? VARSIZE_ANY_EXHDR(prefix) : 0;
	char		code[MAX_CODE_BYTES];
	uint8		random[RANDOM_BYTES];
	int			i;

	random_fill(random, RANDOM_BYTES);
	if (prefix)
		memcpy(code, VARDATA_ANY(prefix), len);
	for (i = 0; i < RANDOM_BYTES; i++)
		code[len + i] = alphabet[random[i] % 32];
	return cstring_to_text_with_len(code, len + RANDOM_BYTES);
}

/*
 * Locks the tables that are used when a code is redeemed, in the mode for
 * writing.
 */
void
codes_lock_tables(const char *function)
{
	ledger_lock_tables(function);
	store_lock_table(&codes_table);
	store_lock_table(&redemptions_table);
}

/*
 * Raises an error if a code's kind is unknown, because somebody has modified
 * the table.
 */
static void
check_kind(const Code *code)
{
	if (code->kind == CODE_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("code " INT64_FORMAT " is of an unknown kind",
						code->id),
				 errhint("Restore table credits.codes.")));
}

/*
 * Finds a code by the key of a unique index.
 */
static bool
find_one(Store *store, StoreIndex *index, Snapshot snapshot, ScanBy by,
		 Code *code)
{
	if (!scan_find(store, index, snapshot, code, by))
		return false;
	check_kind(code);
	return true;
}

/*
 * Finds a code by its text, which must be in the form returned by
 * codes_normalise.
 */
bool
codes_find(Store *store, Snapshot snapshot, text *given, Code *code)
{
	return find_one(store, &codes_by_code, snapshot, BY_TEXT(given), code);
}

/*
 * Finds the code of a gift by the transaction that created the gift.
 */
bool
codes_find_gift(Store *store, Snapshot snapshot, int64 transaction_id,
				Code *code)
{
	return find_one(store, &codes_by_transaction, snapshot,
					BY_INT64(transaction_id), code);
}

/*
 * Finds the referral code of an account.
 */
bool
codes_find_referral(Store *store, Snapshot snapshot, int64 account_id,
					Code *code)
{
	return find_one(store, &codes_by_referrer, snapshot, BY_INT64(account_id),
					code);
}

/*
 * Locks a code's row and reads its newest version.
 */
void
codes_lock(Store *store, Snapshot snapshot, Code *code)
{
	/* codes are never deleted, so a failure means a change since the snapshot */
	if (store_lock(store, &codes_table, snapshot, code, false) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Code " INT64_FORMAT " has changed since the transaction's snapshot.",
						   code->id),
				 errhint("Retry the transaction.")));
	check_kind(code);
}

/*
 * Counts the redemptions found by an index, and stops at "max".
 */
static int64
count_redemptions(Store *store, Snapshot snapshot, StoreIndex *index,
				  const ScanBy *by, int n, int64 max)
{
	StoreScan	scan;
	int64		count = 0;

	scan_begin_by(&scan, store, index, snapshot, by, n);
	while (count < max && scan_next(&scan, ForwardScanDirection) != NULL)
		count++;
	scan_end(&scan);
	return count;
}

/*
 * Returns how often an account has redeemed a code, "max" at most.
 */
int64
codes_redeemed_by(Posting *posting, int64 code_id, int64 account_id,
				  int64 max)
{
	const ScanBy by[] = {BY_INT64(code_id), BY_INT64(account_id)};

	return count_redemptions(posting->store, posting->snapshot,
							 &redemptions_by_code, by, 2, max);
}

/*
 * Returns how often a code has been redeemed, "max" at most.
 */
int64
codes_uses(Posting *posting, int64 code_id, int64 max)
{
	return count_redemptions(posting->store, posting->snapshot,
							 &redemptions_by_code, &BY_INT64(code_id), 1,
							 max);
}

/*
 * Returns whether the posting's account has redeemed a referral code.
 */
bool
codes_was_referred(Posting *posting)
{
	return count_redemptions(posting->store, posting->snapshot,
							 &redemptions_by_referee,
							 &BY_INT64(posting->account.id), 1, 1) > 0;
}

/*
 * Returns how often a code has been redeemed, for credits_verify.
 */
int64
codes_count_uses(Snapshot snapshot, int64 code_id)
{
	return count_redemptions(NULL, snapshot, &redemptions_by_code,
							 &BY_INT64(code_id), 1, PG_INT64_MAX);
}

/*
 * Inserts a redemption, when the posting is written.
 */
static void
write_redemption(Posting *posting, void *row)
{
	store_insert(posting->store, &redemptions_table, row);
}

/*
 * Updates the number of uses of a code, when the posting is written.
 */
static void
write_uses(Posting *posting, void *row)
{
	store_write(posting->store, &codes_table, posting->snapshot, row);
}

/*
 * Records that an entry of the posting's account redeems a code.  If its uses
 * are limited, the caller must have locked it.
 */
void
codes_use(Posting *posting, Code *code, Entry *entry)
{
	Redeemed   *redeemed = palloc(sizeof(Redeemed));

	terms_add_int64(entry, "code_id", code->id);
	*redeemed = (Redeemed)
	{
		.transaction_id = entry->id,
			.code_id = code->id,
			.account_id = entry->account_id,
			.created_at = entry->created_at,
			.kind = code->kind
	};
	posting_defer(posting, write_redemption, redeemed);
	if (code->max_uses != NO_LIMIT)
	{
		code->uses++;
		posting_defer(posting, write_uses, code);
	}
}
