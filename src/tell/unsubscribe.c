/*
 * unsubscribe.c
 *	  Tokens with which whoever has one can end mail about a kind of events, with one
 *	  click and without signing in: see RFC 8058.
 *
 * A token is the base64url form (RFC 4648, 5) of
 *
 *		a byte with the version, 1
 *		the id of the account, 8 bytes, the highest first
 *		the name of the kind
 *		HMAC-SHA256, with one of the secrets, of "credits unsubscribe" and all of
 *		these
 *
 * It says nothing about the account but its id, never expires, and can be used again
 * and again: what it does is done once.
 *
 * Secrets are read and written through the store and not by SQL, because the
 * parameters of a statement may be written to the server log.
 *
 * Tested in test/sql/preferences.sql.
 */
#include "credits.h"

#include "base/mac.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/preferences.h"
#include "tell/unsubscribe.h"

#include "catalog/pg_type.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_unsubscribe_token);
PG_FUNCTION_INFO_V1(credits_unsubscribe);
PG_FUNCTION_INFO_V1(credits_rotate_unsubscribe_secret);

#define TOKEN_VERSION 1
#define TOKEN_HEADER_BYTES (1 + sizeof(uint64))
#define MAX_TOKEN_BYTES (TOKEN_HEADER_BYTES + NAMEDATALEN + MAC_BYTES)

/* what else is signed with one of these secrets must not begin like this */
static const char purpose[] = "credits unsubscribe";

static const char base64url[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* A row of credits.unsubscribe_secrets */
typedef struct UnsubscribeSecret
{
	ItemPointerData tid;
	int64		id;
	uint8	   *secret;
	int			secret_len;
	TimestampTz created_at;
} UnsubscribeSecret;

static const StoreColumn unsubscribe_secret_columns[] = {
	COLUMN_INT64(UnsubscribeSecret, id),
	COLUMN_BYTES(UnsubscribeSecret, secret, secret_len),
	COLUMN_TIME(UnsubscribeSecret, created_at)
};

static StoreTable unsubscribe_secrets_table = {
	.name = "unsubscribe_secrets",
	ROWS_OF(UnsubscribeSecret, unsubscribe_secret_columns)
};

static StoreIndex unsubscribe_secrets_by_id = {
	&unsubscribe_secrets_table, "unsubscribe_secrets_pkey", {"id"},.unique = true
};

static SqlStatement account_exists = {
	"SELECT 1 FROM credits.accounts AS a WHERE a.id = $1"
	" AND NOT EXISTS (SELECT FROM credits.erasures AS e WHERE e.account_id = a.id)",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement delete_secrets = {
	"DELETE FROM credits.unsubscribe_secrets",
	(const Oid[]) {InvalidOid}
};

static SqlStatement count_secrets = {
	"SELECT count(*) FROM credits.unsubscribe_secrets",
	(const Oid[]) {InvalidOid}
};

/*
 * Makes the code of what a token says.
 */
static void
make_mac(const UnsubscribeSecret *secret, const uint8 *content, size_t len,
		 uint8 *mac)
{
	const MacPart parts[] = {
		{purpose, sizeof(purpose) - 1}, {content, len}
	};

	mac_make(secret->secret, secret->secret_len, parts, lengthof(parts), mac);
}

/*
 * Makes a secret, the newest from now on.
 */
static void
add_secret(uint8 *bytes)
{
	UnsubscribeSecret row = {.secret = bytes,.secret_len = MAC_BYTES};
	uint64		id;

	random_fill(bytes, MAC_BYTES);
	random_fill(&id, sizeof(id));
	row.id = (int64) (id >> 1);
	/* not of the test clock: which is the newest does not depend on a setting */
	row.created_at = GetCurrentTimestamp();
	store_insert_alone(&unsubscribe_secrets_table, &row);
	CommandCounterIncrement();
}

/*
 * Signs what a token says, with the newest of the secrets.  The first one is made
 * when it is needed; of two sessions that do so at once each has its own, and both
 * stay.
 */
static void
sign_token(const uint8 *content, size_t len, uint8 *mac)
{
	StoreScan	scan;
	UnsubscribeSecret row;
	TimestampTz newest = DT_NOBEGIN;
	uint8		bytes[MAC_BYTES];

	scan_begin_all(&scan, NULL, &unsubscribe_secrets_by_id, store_snapshot(true));
	while (scan_peek(&scan, ForwardScanDirection, &row))
	{
		if (row.created_at < newest)
			continue;
		newest = row.created_at;
		make_mac(&row, content, len, mac);
	}
	scan_end(&scan);
	if (newest != DT_NOBEGIN)
		return;
	store_check_writable("the first credits_unsubscribe_token()");
	add_secret(bytes);
	row.secret = bytes;
	row.secret_len = sizeof(bytes);
	make_mac(&row, content, len, mac);
	explicit_bzero(bytes, sizeof(bytes));
}

/*
 * Returns whether a code was made with one of the secrets.
 */
static bool
is_made_here(const uint8 *content, size_t len, const uint8 *mac)
{
	StoreScan	scan;
	UnsubscribeSecret row;
	bool		found = false;

	scan_begin_all(&scan, NULL, &unsubscribe_secrets_by_id, store_snapshot(true));
	while (scan_peek(&scan, ForwardScanDirection, &row))
	{
		uint8		expected[MAC_BYTES];

		make_mac(&row, content, len, expected);
		if (mac_is_same(expected, mac))
			found = true;
		explicit_bzero(expected, sizeof(expected));
	}
	scan_end(&scan);
	return found;
}

/*
 * Writes bytes in base64url, without padding.
 */
static char *
encode_token(const uint8 *bytes, size_t len)
{
	char	   *token = palloc(len * 4 / 3 + 3);
	char	   *to = token;
	uint32		bits = 0;
	int			nbits = 0;
	size_t		i;

	for (i = 0; i < len; i++)
	{
		bits = bits << 8 | bytes[i];
		for (nbits += 8; nbits >= 6; nbits -= 6)
			*to++ = base64url[bits >> (nbits - 6) & 63];
	}
	if (nbits > 0)
		*to++ = base64url[bits << (6 - nbits) & 63];
	*to = '\0';
	return token;
}

/*
 * Reads base64url without padding into a buffer of MAX_TOKEN_BYTES bytes.  Returns
 * the number of bytes, 0 if it is not that, too long, or has bits that are not used.
 */
static size_t
decode_token(const char *s, size_t len, uint8 *bytes)
{
	uint32		bits = 0;
	int			nbits = 0;
	size_t		n = 0;
	size_t		i;

	if (len > (MAX_TOKEN_BYTES * 4 + 2) / 3)
		return 0;
	for (i = 0; i < len; i++)
	{
		const char *digit = s[i] == '\0' ? NULL : strchr(base64url, s[i]);

		if (digit == NULL)
			return 0;
		bits = bits << 6 | (uint32) (digit - base64url);
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			if (n == MAX_TOKEN_BYTES)
				return 0;
			bytes[n++] = bits >> nbits & 255;
		}
	}
	return nbits < 6 && (bits & ((1U << nbits) - 1)) == 0 ? n : 0;
}

/*
 * Returns a token with which an account's mail about a kind of events can be ended;
 * NULL for a kind that cannot be switched off.
 */
char *
unsubscribe_token(int64 account_id, const char *kind_name)
{
	const EventKind *kind = event_kinds_find(kind_name);
	uint8		bytes[MAX_TOKEN_BYTES];
	uint64		id = pg_hton64((uint64) account_id);
	size_t		len = TOKEN_HEADER_BYTES;

	if (kind == NULL || kind->required)
		return NULL;
	bytes[0] = TOKEN_VERSION;
	memcpy(bytes + 1, &id, sizeof(id));
	memcpy(bytes + len, kind->name, strlen(kind->name));
	len += strlen(kind->name);
	sign_token(bytes, len, bytes + len);
	return encode_token(bytes, len + MAC_BYTES);
}

/*
 * Reads a token.  Returns false if it was not made here, or is about a kind that
 * does not exist any more, or must be told.
 */
static bool
read_token(text *token, int64 *account_id, const EventKind **kind)
{
	uint8		bytes[MAX_TOKEN_BYTES];
	char		name[MAX_TOKEN_BYTES + 1];
	uint64		id;
	size_t		len = decode_token(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token),
								   bytes);

	if (len <= TOKEN_HEADER_BYTES + MAC_BYTES || bytes[0] != TOKEN_VERSION)
		return false;
	len -= MAC_BYTES;
	if (!is_made_here(bytes, len, bytes + len))
		return false;
	memcpy(&id, bytes + 1, sizeof(id));
	*account_id = (int64) pg_ntoh64(id);
	memcpy(name, bytes + TOKEN_HEADER_BYTES, len - TOKEN_HEADER_BYTES);
	name[len - TOKEN_HEADER_BYTES] = '\0';
	*kind = event_kinds_find(name);
	return *kind && !(*kind)->required;
}

/*
 * SQL function: returns a token for an account and a kind of events.
 */
Datum
credits_unsubscribe_token(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);

	/* a copy, since looking for the account may have the kinds read again */
	char	   *kind = pstrdup(event_kinds_arg(fcinfo, 1)->name);
	Account		account;
	char	   *token;

	guards_find_account(GetActiveSnapshot(), name, &account);
	token = unsubscribe_token(account.id, kind);
	if (token == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(token));
}

/*
 * SQL function: ends mail about the kind of events that a token is for.
 */
Datum
credits_unsubscribe(PG_FUNCTION_ARGS)
{
	const EventKind *kind;
	int64		account_id;
	char	   *name;
	Datum		value;

	if (PG_ARGISNULL(0))
		raise_null("token");
	store_check_writable("credits_unsubscribe()");
	if (!read_token(PG_GETARG_TEXT_PP(0), &account_id, &kind))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("the unsubscribe token is not valid"),
				 errhint("Pass the token as it was in the link; a secret that it was signed with may have been revoked.")));
	value = Int64GetDatum(account_id);
	/* it may be of a database from which this one was copied before */
	if (statements_run(&account_exists, &value, NULL)->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("the unsubscribe token is not valid"),
				 errhint("It is for an account that does not exist in this database.")));
	name = pstrdup(kind->name);
	(void) preferences_switch(account_id, kind, CHANNEL_EMAIL, false);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/*
 * SQL function: makes a new secret to sign tokens with, and revokes those that there
 * are if that is wanted.
 */
Datum
credits_rotate_unsubscribe_secret(PG_FUNCTION_ARGS)
{
	bool		revoke = arg_bool(fcinfo, 0, "revoke");
	uint8		bytes[MAC_BYTES];
	bool		isnull;

	store_check_writable("credits_rotate_unsubscribe_secret()");
	if (revoke)
		(void) statements_run(&delete_secrets, NULL, NULL);
	add_secret(bytes);
	explicit_bzero(bytes, sizeof(bytes));
	PG_RETURN_INT32((int32) DatumGetInt64(statements_value(statements_run(&count_secrets,
																		  NULL, NULL),
														   0, 1, &isnull)));
}
