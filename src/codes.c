/*
 * codes.c
 *	  Codes that can be redeemed, and who has: what promotional codes, gifts and
 *	  referrals share.
 *
 * A code is looked up in capital letters and without the spaces around it.
 *
 * A code whose uses are limited counts them in its row, which is locked after
 * all accounts.  One whose uses are not is never locked: its redemptions are
 * rows of their own, so many can redeem it at once.  How often one account has
 * is counted under that account's lock.
 */
#include "credits.h"

#include "codes.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

/* columns of credits.codes */
enum
{
	Anum_codes_id = 1,
	Anum_codes_account_id,
	Anum_codes_transaction_id,
	Anum_codes_created_at,
	Anum_codes_credits,
	Anum_codes_starts_at,
	Anum_codes_expires_at,
	Anum_codes_per_account,
	Anum_codes_kind,
	Anum_codes_code,
	Anum_codes_credits_expire_in,
	Anum_codes_new_accounts_within,
	Anum_codes_message,
	Anum_codes_metadata,
	Anum_codes_max_uses,
	Anum_codes_uses,
	Anum_codes_active,
	Natts_codes = Anum_codes_active
};

/* columns of credits.redemptions */
enum
{
	Anum_redemptions_transaction_id = 1,
	Anum_redemptions_code_id,
	Anum_redemptions_account_id,
	Anum_redemptions_created_at,
	Anum_redemptions_kind,
	Natts_redemptions = Anum_redemptions_kind
};

StoreTable	codes_table = {
	.name = "codes",
	.sequence = "codes_id_seq",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTOID, INTERVALOID, INTERVALOID,
		TEXTOID, JSONBOID, INT8OID, INT8OID, BOOLOID, InvalidOid
	}
};

StoreIndex	codes_by_id = {&codes_table, "codes_pkey"};
StoreIndex	codes_by_code = {&codes_table, "codes_code_key"};
StoreIndex	codes_by_referrer = {&codes_table, "codes_referrer_idx"};
static StoreIndex codes_by_transaction = {&codes_table, "codes_transaction_id_idx"};

StoreTable	redemptions_table = {
	.name = "redemptions",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, InvalidOid
	}
};

StoreIndex	redemptions_by_id = {&redemptions_table, "redemptions_pkey"};
static StoreIndex redemptions_by_code = {&redemptions_table, "redemptions_code_id_idx"};
static StoreIndex redemptions_by_referee = {&redemptions_table, "redemptions_referee_idx"};

static const char *const kind_names[] = {"promotional", "gift", "referral"};

/* bytes of a code that is made at random: 5 bits each */
#define RANDOM_BYTES 16

/* digits and letters without I, L, O and U, after Crockford's base 32 */
static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/*
 * Tells whether a byte is a space or the like.
 */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Returns a code as it is stored and looked up: without the spaces around it,
 * and in capital letters.
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
 * Returns a code that someone wants to redeem.
 */
text *
arg_code(FunctionCallInfo fcinfo, int n)
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
 * Checks a code, or the beginning of one, that is to be made: what can be typed
 * on every keyboard, so that letters of either case are told apart nowhere.
 */
void
check_code(text *code, const char *name, int max_bytes)
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
					 errmsg("%s must be of letters, digits and signs of ASCII",
							name),
					 errdetail("Byte %d of %d is none of them.", i + 1, len),
					 errhint("Leave out spaces inside it, and letters beyond A to Z.")));
}

/*
 * Makes a code that nobody can guess, after a prefix if there is one.
 */
text *
codes_random(text *prefix)
{
	int			len = prefix ? VARSIZE_ANY_EXHDR(prefix) : 0;
	char		code[MAX_CODE_BYTES];
	uint8		random[RANDOM_BYTES];
	int			i;

	if (!pg_strong_random(random, RANDOM_BYTES))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes")));
	if (prefix)
		memcpy(code, VARDATA_ANY(prefix), len);
	for (i = 0; i < RANDOM_BYTES; i++)
		code[len + i] = alphabet[random[i] % 32];
	return cstring_to_text_with_len(code, len + RANDOM_BYTES);
}

/*
 * Locks the tables that a code is read from and redeemed in for writing.
 */
void
codes_lock_tables(const char *function)
{
	store_lock_tables(function);
	store_lock_table(&codes_table);
	store_lock_table(&redemptions_table);
}

/*
 * Returns which kind of code a text names.
 */
static CodeKind
read_kind(Datum value)
{
	char	   *name = TextDatumGetCString(value);
	CodeKind	kind;

	for (kind = CODE_REFERRAL; kind > CODE_UNKNOWN; kind--)
		if (strcmp(kind_names[kind], name) == 0)
			break;
	return kind;
}

/*
 * Copies a span of time.
 */
static Interval *
copy_interval(Datum value)
{
	Interval   *copy = palloc(sizeof(Interval));

	*copy = *DatumGetIntervalP(value);
	return copy;
}

/*
 * Reads a code from a slot, whatever someone may have made of its kind.
 */
void
codes_read(TupleTableSlot *slot, Code *code)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;

	code->tid = slot->tts_tid;
#define NUMBER(a, none) (isnull[a] ? (none) : DatumGetInt64(values[a]))
	code->id = DatumGetInt64(values[Anum_codes_id]);
	code->account_id = NUMBER(Anum_codes_account_id, 0);
	code->transaction_id = NUMBER(Anum_codes_transaction_id, 0);
	code->created_at = DatumGetTimestampTz(values[Anum_codes_created_at]);
	code->credits = NUMBER(Anum_codes_credits, 0);
	code->starts_at = DatumGetTimestampTz(values[Anum_codes_starts_at]);
	code->expires_at = DatumGetTimestampTz(values[Anum_codes_expires_at]);
	code->per_account = DatumGetInt32(values[Anum_codes_per_account]);
	code->kind = read_kind(values[Anum_codes_kind]);
	code->code = DatumGetTextPCopy(values[Anum_codes_code]);
	code->credits_expire_in = isnull[Anum_codes_credits_expire_in] ? NULL :
		copy_interval(values[Anum_codes_credits_expire_in]);
	code->new_accounts_within = isnull[Anum_codes_new_accounts_within] ? NULL :
		copy_interval(values[Anum_codes_new_accounts_within]);
	code->message = isnull[Anum_codes_message] ? NULL :
		DatumGetTextPCopy(values[Anum_codes_message]);
	code->metadata = isnull[Anum_codes_metadata] ? NULL :
		DatumGetJsonbPCopy(values[Anum_codes_metadata]);
	code->max_uses = NUMBER(Anum_codes_max_uses, NO_LIMIT);
	code->uses = DatumGetInt64(values[Anum_codes_uses]);
	code->active = DatumGetBool(values[Anum_codes_active]);
#undef NUMBER
}

/*
 * Reads a code from a slot.
 */
static void
read_code(TupleTableSlot *slot, Code *code)
{
	codes_read(slot, code);
	if (code->kind == CODE_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("code " INT64_FORMAT " is of an unknown kind",
						code->id),
				 errhint("Restore table credits.codes.")));
}

/*
 * Makes the columns of a code's row.
 */
static void
code_columns(const Code *code, Datum *columns, bool *nulls)
{
	Datum	   *values = columns - 1;	/* by column number */
	bool	   *isnull = nulls - 1;

	memset(nulls, false, Natts_codes * sizeof(bool));
	values[Anum_codes_id] = Int64GetDatum(code->id);
	values[Anum_codes_account_id] = Int64GetDatum(code->account_id);
	isnull[Anum_codes_account_id] = code->account_id == 0;
	values[Anum_codes_transaction_id] = Int64GetDatum(code->transaction_id);
	isnull[Anum_codes_transaction_id] = code->transaction_id == 0;
	values[Anum_codes_created_at] = TimestampTzGetDatum(code->created_at);
	values[Anum_codes_credits] = Int64GetDatum(code->credits);
	isnull[Anum_codes_credits] = code->credits == 0;
	values[Anum_codes_starts_at] = TimestampTzGetDatum(code->starts_at);
	values[Anum_codes_expires_at] = TimestampTzGetDatum(code->expires_at);
	values[Anum_codes_per_account] = Int32GetDatum(code->per_account);
	values[Anum_codes_kind] = CStringGetTextDatum(kind_names[code->kind]);
	values[Anum_codes_code] = PointerGetDatum(code->code);
	values[Anum_codes_credits_expire_in] =
		IntervalPGetDatum(code->credits_expire_in);
	isnull[Anum_codes_credits_expire_in] = code->credits_expire_in == NULL;
	values[Anum_codes_new_accounts_within] =
		IntervalPGetDatum(code->new_accounts_within);
	isnull[Anum_codes_new_accounts_within] = code->new_accounts_within == NULL;
	values[Anum_codes_message] = PointerGetDatum(code->message);
	isnull[Anum_codes_message] = code->message == NULL;
	values[Anum_codes_metadata] = PointerGetDatum(code->metadata);
	isnull[Anum_codes_metadata] = code->metadata == NULL;
	values[Anum_codes_max_uses] = Int64GetDatum(code->max_uses);
	isnull[Anum_codes_max_uses] = code->max_uses == NO_LIMIT;
	values[Anum_codes_uses] = Int64GetDatum(code->uses);
	values[Anum_codes_active] = BoolGetDatum(code->active);
}

/*
 * Reads the one code that an index has under a key.
 */
static bool
find_one(Store *store, StoreIndex *index, Snapshot snapshot, ScanKey key,
		 Code *code)
{
	StoreScan	scan;
	TupleTableSlot *slot;

	store_scan(&scan, store, index, snapshot, key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		read_code(slot, code);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Finds a code by what it reads.
 */
bool
codes_find(Store *store, Snapshot snapshot, text *given, Code *code)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(given));
	return find_one(store, &codes_by_code, snapshot, &key, code);
}

/*
 * Finds the code of a gift by the transaction that made it.
 */
bool
codes_find_gift(Store *store, Snapshot snapshot, int64 transaction_id,
				Code *code)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(transaction_id));
	return find_one(store, &codes_by_transaction, snapshot, &key, code);
}

/*
 * Finds the referral code of an account.
 */
bool
codes_find_referral(Store *store, Snapshot snapshot, int64 account_id,
					Code *code)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	return find_one(store, &codes_by_referrer, snapshot, &key, code);
}

/*
 * Locks a code's row and reads its newest version.
 */
void
codes_lock(Store *store, Snapshot snapshot, Code *code)
{
	TupleTableSlot *slot;

	/* nothing deletes codes */
	if (store_lock(store, &codes_table, snapshot, &code->tid, false,
				   &slot) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Code " INT64_FORMAT " has changed since the transaction's snapshot.",
						   code->id),
				 errhint("Retry the transaction.")));
	read_code(slot, code);
}

/*
 * Inserts a code.
 */
void
codes_insert(Store *store, const Code *code)
{
	Datum		columns[Natts_codes];
	bool		nulls[Natts_codes];

	code_columns(code, columns, nulls);
	store_insert(store, &codes_table, columns, nulls);
}

/*
 * Inserts a code unless a unique index has its key already.
 */
bool
codes_insert_unless(Store *store, StoreIndex *unique, const Code *code)
{
	Datum		columns[Natts_codes];
	bool		nulls[Natts_codes];

	code_columns(code, columns, nulls);
	return store_insert_unless(store, unique, columns, nulls);
}

/*
 * Writes a code that is locked.
 */
TM_Result
codes_update(Store *store, Snapshot snapshot, Code *code)
{
	Datum		columns[Natts_codes];
	bool		nulls[Natts_codes];

	code_columns(code, columns, nulls);
	return store_update(store, &codes_table, snapshot, &code->tid, true,
						columns, nulls);
}

/*
 * Counts redemptions in an index, up to as many as are of interest.
 */
static int64
count_redemptions(Posting *posting, StoreIndex *index, ScanKey keys, int nkeys,
				  int64 max)
{
	StoreScan	scan;
	int64		n = 0;

	store_scan(&scan, posting->store, index, posting->snapshot, keys, nkeys);
	while (n < max && store_scan_next(&scan, ForwardScanDirection) != NULL)
		n++;
	store_scan_end(&scan);
	return n;
}

/*
 * Counts how often an account has redeemed a code.
 */
int64
codes_redeemed_by(Posting *posting, int64 code_id, int64 account_id,
				  int64 max)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(code_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	return count_redemptions(posting, &redemptions_by_code, keys, 2, max);
}

/*
 * Counts how often a code has been redeemed.
 */
int64
codes_uses(Posting *posting, int64 code_id, int64 max)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(code_id));
	return count_redemptions(posting, &redemptions_by_code, &key, 1, max);
}

/*
 * Tells whether the posting's account has redeemed a referral code.
 */
bool
codes_was_referred(Posting *posting)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(posting->account.id));
	return count_redemptions(posting, &redemptions_by_referee, &key, 1,
							 1) > 0;
}

/*
 * Counts how often a code has been redeemed, for credits_verify.
 */
int64
codes_count_uses(Snapshot snapshot, int64 code_id)
{
	Posting		posting = {.snapshot = snapshot};

	return codes_uses(&posting, code_id, PG_INT64_MAX);
}

/*
 * Reads from a slot who has redeemed a code.
 */
void
codes_read_redeemed(TupleTableSlot *slot, Redeemed *redeemed)
{
	Datum	   *values;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	redeemed->transaction_id =
		DatumGetInt64(values[Anum_redemptions_transaction_id]);
	redeemed->code_id = DatumGetInt64(values[Anum_redemptions_code_id]);
	redeemed->account_id = DatumGetInt64(values[Anum_redemptions_account_id]);
	redeemed->created_at =
		DatumGetTimestampTz(values[Anum_redemptions_created_at]);
	redeemed->kind = read_kind(values[Anum_redemptions_kind]);
}

/* A row of credits.redemptions that is to be written */
typedef struct Use
{
	const Code *code;
	const Entry *entry;
} Use;

/*
 * Writes who has redeemed a code.
 */
static void
write_redemption(Posting *posting, void *row)
{
	Use		   *use = row;
	Datum		columns[Natts_redemptions];
	bool		nulls[Natts_redemptions] = {false};
	Datum	   *values = columns - 1;	/* by column number */

	values[Anum_redemptions_transaction_id] = Int64GetDatum(use->entry->id);
	values[Anum_redemptions_code_id] = Int64GetDatum(use->code->id);
	values[Anum_redemptions_account_id] =
		Int64GetDatum(use->entry->account_id);
	values[Anum_redemptions_created_at] =
		TimestampTzGetDatum(use->entry->created_at);
	values[Anum_redemptions_kind] =
		CStringGetTextDatum(kind_names[use->code->kind]);
	store_insert(posting->store, &redemptions_table, columns, nulls);
}

/*
 * Writes how often a code has been redeemed.
 */
static void
write_uses(Posting *posting, void *row)
{
	Code	   *code = row;

	if (codes_update(posting->store, posting->snapshot, code) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Code " INT64_FORMAT " has changed although it was locked.",
						   code->id),
				 errhint("Retry the transaction.")));
}

/*
 * Notes that a transaction of the posting's account redeems a code.  One whose
 * uses are limited is locked.
 */
void
codes_use(Posting *posting, Code *code, Entry *entry)
{
	Use		   *use = palloc(sizeof(Use));

	terms_add_int64(entry, "code_id", code->id);
	*use = (Use) {code, entry};
	log_defer(posting, write_redemption, use);
	if (code->max_uses != NO_LIMIT)
	{
		code->uses++;
		log_defer(posting, write_uses, code);
	}
}
