/*
 * stripe_signature.c
 *	  Who sent a webhook: the Stripe-Signature header, and the secrets that it
 *	  is checked with.
 *
 * The header is "t=SECONDS,v1=HEX,...": when it was signed, and signatures of
 * "SECONDS.PAYLOAD" by HMAC-SHA256, one for each secret that the endpoint has
 * while one replaces another.  Other schemes are ignored.  See
 * https://docs.stripe.com/webhooks#verify-manually.
 *
 * Secrets are read and written past SQL: what a statement is given as a
 * parameter can end in a log.  Nothing here puts one into a message, and the
 * table has no constraint that would quote a row.
 *
 * What is refused rolls back with the transaction.  That it was refused is
 * counted by a sequence, which does not.
 */
#include "credits.h"

#include "sql.h"
#include "stripe.h"

#include "catalog/pg_type.h"
#include "common/hmac.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_stripe_add_secret);
PG_FUNCTION_INFO_V1(credits_stripe_remove_secret);

/* bounds what an unknown sender makes us work on */
#define MAX_HEADER_BYTES	4096
#define MAX_SIGNATURES		32

#define MIN_SECRET_BYTES	16
#define MAX_SECRET_BYTES	255

/* columns of credits.stripe_secrets */
enum
{
	Anum_stripe_secrets_name = 1,
	Anum_stripe_secrets_secret,
	Anum_stripe_secrets_created_at,
	Anum_stripe_secrets_role,
	Natts_stripe_secrets = Anum_stripe_secrets_role
};

static StoreTable stripe_secrets_table = {
	.name = "stripe_secrets",
	.sequence = "stripe_refused_seq",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, InvalidOid
	}
};

static StoreIndex stripe_secrets_by_name = {&stripe_secrets_table, "stripe_secrets_pkey"};

/* A Stripe-Signature header */
typedef struct Header
{
	const char *time;			/* its digits, as they were signed */
	int			time_len;
	int64		seconds;
	int			nsignatures;
	uint8		signatures[MAX_SIGNATURES][PG_SHA256_DIGEST_LENGTH];
} Header;

/*
 * Counts and refuses a webhook.
 */
NORETURN_COMPAT static void refuse_signature(char *detail, char *hint);
static void
refuse_signature(char *detail, char *hint)
{
	(void) store_next_id(&stripe_secrets_table);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("the signature of the webhook is not valid"),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

/*
 * Returns the value of a hexadecimal digit, -1 if it is none.
 */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * Reads a signature.  Returns false if it cannot be one.
 */
static bool
read_signature(const char *hex, int len, uint8 *signature)
{
	int			i;

	if (len != 2 * PG_SHA256_DIGEST_LENGTH)
		return false;
	for (i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
	{
		int			high = hex_value(hex[2 * i]);
		int			low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		signature[i] = high << 4 | low;
	}
	return true;
}

/*
 * Reads when a webhook was signed.  Returns false if it is no number of seconds,
 * or there was one before.
 */
static bool
read_time(const char *digits, int len, Header *header)
{
	int			i;

	if (header->time || len < 1 || len > 12)
		return false;
	header->seconds = 0;
	for (i = 0; i < len; i++)
	{
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		header->seconds = 10 * header->seconds + digits[i] - '0';
	}
	header->time = digits;
	header->time_len = len;
	return true;
}

/*
 * Reads a header: its parts are divided by commas.  Returns false if it is
 * malformed.
 */
static bool
read_header(const char *s, int len, Header *header)
{
	const char *end = s + len;

	memset(header, 0, sizeof(Header));
	while (s < end)
	{
		const char *next = memchr(s, ',', end - s);
		const char *part_end = next ? next : end;
		const char *equals;

		while (s < part_end && *s == ' ')
			s++;
		equals = memchr(s, '=', part_end - s);
		if (equals == NULL)
			return false;
		if (equals - s == 1 && s[0] == 't')
		{
			if (!read_time(equals + 1, part_end - equals - 1, header))
				return false;
		}
		else if (equals - s == 2 && memcmp(s, "v1", 2) == 0)
		{
			if (header->nsignatures == MAX_SIGNATURES)
				return false;
			/* one that is not of this form matches nothing */
			if (read_signature(equals + 1, part_end - equals - 1,
							   header->signatures[header->nsignatures]))
				header->nsignatures++;
		}
		s = next ? next + 1 : end;
	}
	return header->time != NULL;
}

/*
 * Computes the signature of a payload at a time.
 */
static void
sign(const char *secret, int secret_len, const Header *header,
	 const char *payload, int len, uint8 *signature)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);

	if (hmac == NULL ||
		pg_hmac_init(hmac, (const uint8 *) secret, secret_len) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) header->time,
					   header->time_len) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) ".", 1) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) payload, len) < 0 ||
		pg_hmac_final(hmac, signature, PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a signature"),
				 errhint("Free some memory, and retry.")));
	pg_hmac_free(hmac);
}

/*
 * Tells whether two signatures are the same, in a time that does not tell where
 * they differ.
 */
static bool
same_signature(const uint8 *a, const uint8 *b)
{
	volatile uint8 difference = 0;
	int			i;

	for (i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/*
 * Tells whether any of the secrets made any of the signatures; counts the
 * secrets.
 */
static bool
is_signed(const Header *header, const char *payload, int len, int *nsecrets)
{
	StoreScan	scan;
	TupleTableSlot *slot;
	bool		found = false;

	*nsecrets = 0;
	store_scan(&scan, NULL, &stripe_secrets_by_name, store_snapshot(true),
			   NULL, 0);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		uint8		expected[PG_SHA256_DIGEST_LENGTH];
		text	   *secret;
		Datum		value;
		bool		isnull;
		int			i;

		value = slot_getattr(slot, Anum_stripe_secrets_secret, &isnull);
		if (isnull)
			continue;
		secret = DatumGetTextPP(value);
		(*nsecrets)++;
		sign(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), header, payload,
			 len, expected);
		for (i = 0; i < header->nsignatures; i++)
			if (same_signature(expected, header->signatures[i]))
				found = true;
		explicit_bzero(expected, sizeof(expected));
	}
	store_scan_end(&scan);
	return found;
}

/*
 * Verifies that one of the secrets signed a payload a short while ago, or
 * raises an error.
 */
void
stripe_verify(const char *payload, int len, text *signature)
{
	Header		header;
	TimestampTz at;
	int64		off;
	int			nsecrets;

	if (signature == NULL || VARSIZE_ANY_EXHDR(signature) == 0)
		refuse_signature("There is none.",
						 "Pass the header Stripe-Signature of the request as signature.");
	if (VARSIZE_ANY_EXHDR(signature) > MAX_HEADER_BYTES ||
		!read_header(VARDATA_ANY(signature), VARSIZE_ANY_EXHDR(signature),
					 &header))
		refuse_signature("The header is malformed.",
						 "Pass the header Stripe-Signature as it came, such as \"t=1764086400,v1=5257...\".");
	if (!is_signed(&header, payload, len, &nsecrets))
		refuse_signature(nsecrets == 0 ? "There is no secret to check it with." :
						 "None of the secrets made any of the signatures.",
						 nsecrets == 0 ? "Add the endpoint's signing secret with credits_stripe_add_secret." :
						 "Pass the body of the request byte for byte, and add the endpoint's signing secret with credits_stripe_add_secret.");

	at = time_t_to_timestamptz((pg_time_t) header.seconds);
	off = (clock_now() - at) / USECS_PER_SEC;
	if (off > setting_stripe_tolerance || off < -setting_stripe_tolerance)
		refuse_signature(psprintf("It was made " INT64_FORMAT " seconds %s now, and %d are allowed.",
								  off < 0 ? -off : off,
								  off < 0 ? "after" : "before",
								  setting_stripe_tolerance),
						 "Set the clock of the server, or credits.stripe_tolerance; a retry of Stripe's is signed anew.");
}

static SqlStatement find_secret = {
	.text = "SELECT FROM credits.stripe_secrets WHERE name = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Tells whether there is a secret of a name.
 */
static bool
secret_exists(text *name)
{
	Datum		value = PointerGetDatum(name);

	return sql_run(&find_secret, &value, NULL)->nrows > 0;
}

/*
 * Adds a secret that webhooks may be signed with.
 */
Datum
credits_stripe_add_secret(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	Datum		row[Natts_stripe_secrets];
	bool		nulls[Natts_stripe_secrets] = {false};
	Datum	   *values = row - 1;	/* by column number */
	text	   *secret;
	int			len;
	int			i;

	store_check_writable("credits_stripe_add_secret()");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("secret must not be null"),
				 errhint("Pass the signing secret of the endpoint.")));
	secret = PG_GETARG_TEXT_PP(1);
	len = VARSIZE_ANY_EXHDR(secret);
	if (len < MIN_SECRET_BYTES || len > MAX_SECRET_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("secret has the wrong length"),
				 errdetail("It has %d bytes; %d to %d are allowed.", len,
						   MIN_SECRET_BYTES, MAX_SECRET_BYTES),
				 errhint("Pass the signing secret of the endpoint whole, with whsec_ in front.")));
	for (i = 0; i < len; i++)
		if (VARDATA_ANY(secret)[i] <= ' ' || VARDATA_ANY(secret)[i] > '~')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("secret must be of letters, digits and signs of ASCII"),
					 errdetail("Byte %d of %d is none of them.", i + 1, len),
					 errhint("Remove spaces and line ends.")));
	if (secret_exists(name))
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("there is a secret of that name already"),
				 errdetail("It is \"%s\".", text_to_cstring(name)),
				 errhint("Add the new secret under another name, and remove the old one when Stripe has ceased to sign with it.")));

	values[Anum_stripe_secrets_name] = PointerGetDatum(name);
	values[Anum_stripe_secrets_secret] = PointerGetDatum(secret);
	values[Anum_stripe_secrets_created_at] = TimestampTzGetDatum(clock_now());
	values[Anum_stripe_secrets_role] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	store_insert_alone(&stripe_secrets_table, row, nulls);
	PG_RETURN_VOID();
}

static SqlStatement delete_secret = {
	.text = "DELETE FROM credits.stripe_secrets WHERE name = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Removes a secret: what it signed is refused from now on.
 */
Datum
credits_stripe_remove_secret(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	Datum		value = PointerGetDatum(name);

	store_check_writable("credits_stripe_remove_secret()");
	if (sql_run(&delete_secret, &value, NULL)->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("secret \"%s\" does not exist", text_to_cstring(name)),
				 errhint("Pass the name that it was added under.")));
	PG_RETURN_VOID();
}
