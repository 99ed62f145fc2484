/*
 * signature.c
 *	  Verifying who sent a webhook: the Stripe-Signature header, and the secrets
 *	  that it is checked with.
 *
 * The header is "t=SECONDS,v1=HEX,...".  SECONDS is when the webhook was signed,
 * and each HEX an HMAC-SHA256 of "SECONDS.PAYLOAD".  There are several while one
 * secret of the endpoint replaces another.  Other schemes than v1 are ignored.
 * See https://docs.stripe.com/webhooks#verify-manually.
 *
 * Secrets are read and written through the store and not by SQL, because the
 * parameters of a statement may be written to the server log.  No message
 * contains a secret, and their table has no constraint whose error would show
 * the row.
 *
 * A webhook that is refused is rolled back with its transaction.  To count it
 * all the same we use a sequence, which is not.
 *
 * Tested in test/sql/stripe.sql.
 */
#include "credits.h"

#include "base/mac.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/stripe.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_stripe_add_secret);
PG_FUNCTION_INFO_V1(credits_stripe_remove_secret);

/* limits the work that an unknown sender can cause */
#define MAX_HEADER_BYTES	4096
#define MAX_SIGNATURES		32

#define MIN_SECRET_BYTES	16
#define MAX_SECRET_BYTES	255

/* A secret that webhooks may be signed with */
typedef struct Secret
{
	ItemPointerData tid;
	text	   *name;
	text	   *secret;			/* NULL in a database that was restored */
	TimestampTz created_at;
	char	   *role;
} Secret;

static const StoreColumn secret_columns[] = {
	COLUMN_TEXT(Secret, name),
	COLUMN_TEXT(Secret, secret, NULL_IF_ZERO),
	COLUMN_TIME(Secret, created_at),
	COLUMN_CSTRING(Secret, role)
};

static StoreTable stripe_secrets_table = {
	.name = "stripe_secrets",
	.sequence = "stripe_refused_seq",
	ROWS_OF(Secret, secret_columns)
};

static StoreIndex stripe_secrets_by_name = {
	&stripe_secrets_table, "stripe_secrets_pkey", {"name"},.unique = true
};

/* A Stripe-Signature header */
typedef struct Header
{
	const char *time;			/* its digits, as they were signed */
	int			time_len;
	int64		seconds;
	int			nsignatures;
	uint8		signatures[MAX_SIGNATURES][MAC_BYTES];
} Header;

/*
 * Counts a webhook as refused, and raises the error for that.
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
 * Returns the value of a hexadecimal digit in lower case, -1 if it is not one.
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
 * Decodes a signature.  Returns false if it does not have the right form.
 */
static bool
read_signature(const char *hex, int len, uint8 *signature)
{
	int			i;

	if (len != 2 * MAC_BYTES)
		return false;
	for (i = 0; i < MAC_BYTES; i++)
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
 * Reads when a webhook was signed.  Returns false if that is not a number of
 * seconds, or if the header has two of them.
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
 * Parses a header, whose parts are separated by commas.  Returns false if it is
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
			/* a malformed signature is left out: it could not match anyway */
			if (read_signature(equals + 1, part_end - equals - 1,
							   header->signatures[header->nsignatures]))
				header->nsignatures++;
		}
		s = next ? next + 1 : end;
	}
	return header->time != NULL;
}

/*
 * Computes the signature of a payload with a secret.
 */
static void
sign(const char *secret, int secret_len, const Header *header,
	 const char *payload, int len, uint8 *signature)
{
	const MacPart parts[] = {
		{header->time, header->time_len}, {".", 1}, {payload, len}
	};

	mac_make(secret, secret_len, parts, lengthof(parts), signature);
}

/*
 * Returns whether any of the signatures was made with any of the secrets, and
 * counts the secrets.
 */
static bool
is_signed(const Header *header, const char *payload, int len, int *nsecrets)
{
	StoreScan	scan;
	Secret		row;
	bool		found = false;

	*nsecrets = 0;
	scan_begin_all(&scan, NULL, &stripe_secrets_by_name,
				   store_snapshot(true));
	while (scan_peek(&scan, ForwardScanDirection, &row))
	{
		uint8		expected[MAC_BYTES];
		int			i;

		if (row.secret == NULL)
			continue;
		(*nsecrets)++;
		sign(VARDATA_ANY(row.secret), VARSIZE_ANY_EXHDR(row.secret), header,
			 payload, len, expected);
		for (i = 0; i < header->nsignatures; i++)
			if (mac_is_same(expected, header->signatures[i]))
				found = true;
		explicit_bzero(expected, sizeof(expected));
	}
	scan_end(&scan);
	return found;
}

/*
 * Raises an error unless a payload was signed with one of the secrets, a short
 * while ago.
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
						 "Correct the server's clock, or increase credits.stripe_tolerance; Stripe signs each retry again.");
}

static SqlStatement find_event_without_secret = {
	.text = "SELECT FROM credits.stripe_events WHERE NOT EXISTS ("
	"SELECT FROM credits.stripe_secrets AS s WHERE s.secret IS NOT NULL) LIMIT 1",
	.types = (const Oid[]) {InvalidOid}
};

/*
 * Warns if webhooks have come, but none will be accepted any more: dumps have no
 * secrets.
 */
void
stripe_warn_of_secrets(void)
{
	if (statements_run(&find_event_without_secret, NULL, NULL)->nrows > 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("every webhook of Stripe is refused"),
				 errdetail("There are events of Stripe in this database, but no signing secret to check the next one with. A dump does not contain the secrets."),
				 errhint("Add the endpoint's signing secret with credits_stripe_add_secret.")));
}

/*
 * Adds a secret with which webhooks may be signed.
 */
Datum
credits_stripe_add_secret(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	Secret		row = {.name = name};
	text	   *secret;
	Store	   *store;
	JsonObject	json;
	bool		added;
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
				 errhint("Pass the whole signing secret of the endpoint, including whsec_.")));
	for (i = 0; i < len; i++)
		if (VARDATA_ANY(secret)[i] <= ' ' || VARDATA_ANY(secret)[i] > '~')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("secret must consist of ASCII letters, digits and punctuation marks"),
					 errdetail("Byte %d of %d is not one of these.", i + 1, len),
					 errhint("Remove spaces and line ends.")));

	row.secret = secret;
	row.created_at = clock_now();
	row.role = GetUserNameFromId(GetSessionUserId(), false);
	store = store_open();
	store_begin_changes(store);
	added = store_insert_unless(store, &stripe_secrets_by_name, &row);
	store_end_changes(store);
	store_close(store);
	if (!added)
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("a secret with that name already exists"),
				 errdetail("It is \"%s\".", text_to_cstring(name)),
				 errhint("Add the new secret under another name, and remove the old one when Stripe no longer signs with it.")));
	/* that it was added, but not what it is */
	json_begin(&json);
	json_cstring(&json, "secret", "");
	audit_add(AUDIT_STRIPE_SECRET, name, 0, NULL, json_document(&json));
	PG_RETURN_VOID();
}

static SqlStatement delete_secret = {
	.text = "DELETE FROM credits.stripe_secrets WHERE name = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Removes a secret.  Webhooks that are signed with it are refused from now on.
 */
Datum
credits_stripe_remove_secret(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	Datum		value = PointerGetDatum(name);

	store_check_writable("credits_stripe_remove_secret()");
	if (statements_run(&delete_secret, &value, NULL)->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("secret \"%s\" does not exist", text_to_cstring(name)),
				 errhint("Pass the name that it was added under.")));
	PG_RETURN_VOID();
}
