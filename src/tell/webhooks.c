/*
 * webhooks.c
 *	  Signatures of webhooks, as the Standard Webhooks specification has them, and the
 *	  secrets that they are made with.
 *
 * Each endpoint has a secret of its own, which is made here and shown once.  While
 * another one replaces it, both sign, so that the endpoint can change over any time
 * within that: the newer one is the one that does not expire.  There are never more
 * than two.  See
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
 *
 * Secrets are read and written through the store and not by SQL, because the
 * parameters of a statement may be written to the server log.  Statements that take
 * no secret are SQL.  The row of the contact is updated before its secrets are: that
 * is the lock.
 *
 * Tested in test/sql/webhooks.sql, in test/specs/webhooks.spec, and with the library
 * that receivers use in test/t/webhooks_package.pl.
 */
#include "credits.h"

#include "base/mac.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/webhooks.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_rotate_webhook_secret);
PG_FUNCTION_INFO_V1(credits_revoke_webhook_secret);

/* the specification has 24 to 64 */
#define SECRET_BYTES 32
#define SECRET_PREFIX "whsec_"

/* a secret that is kept for longer is rather forgotten */
#define MAX_KEEP_DAYS 30

/* A row of credits.webhook_secrets */
typedef struct WebhookSecret
{
	ItemPointerData tid;
	int64		id;
	int64		contact_id;
	uint8	   *secret;
	int			secret_len;
	TimestampTz created_at;
	TimestampTz expires_at;		/* DT_NOEND for the newest */
} WebhookSecret;

static const StoreColumn webhook_secret_columns[] = {
	COLUMN_INT64(WebhookSecret, id),
	COLUMN_INT64(WebhookSecret, contact_id),
	COLUMN_BYTES(WebhookSecret, secret, secret_len),
	COLUMN_TIME(WebhookSecret, created_at),
	COLUMN_TIME(WebhookSecret, expires_at, NULL_IS(DT_NOEND))
};

static StoreTable webhook_secrets_table = {
	.name = "webhook_secrets",
	ROWS_OF(WebhookSecret, webhook_secret_columns)
};

static StoreIndex webhook_secrets_by_contact = {
	&webhook_secrets_table, "webhook_secrets_pkey", {"contact_id", "id"},
	.unique = true
};

static SqlStatement lock_endpoint = {
	"UPDATE credits.contacts SET changed_at = $3, role = session_user"
	" WHERE account_id = $1 AND channel = 'webhook'"
	" AND (CASE WHEN channel IN ('push', 'webhook') THEN address ELSE '' END) = $2"
	" RETURNING id",
	(const Oid[]) {INT8OID, TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* those that are replaced already, or all */
static SqlStatement delete_secrets = {
	"DELETE FROM credits.webhook_secrets"
	" WHERE contact_id = $1 AND (expires_at IS NOT NULL OR $2)",
	(const Oid[]) {INT8OID, BOOLOID, InvalidOid}
};

static SqlStatement revoke_secrets = {
	"WITH gone AS (DELETE FROM credits.webhook_secrets"
	" WHERE contact_id = $1 AND expires_at IS NOT NULL RETURNING expires_at)"
	" SELECT count(*) FROM gone AS g WHERE g.expires_at > $2",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement expire_secrets = {
	"UPDATE credits.webhook_secrets SET expires_at = $2 WHERE contact_id = $1",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * signing
 */

/*
 * Returns whether a contact has a secret to sign with.
 */
bool
webhooks_has_secret(int64 contact_id, TimestampTz now)
{
	StoreScan	scan;
	WebhookSecret row;
	bool		found = false;

	scan_begin(&scan, NULL, &webhook_secrets_by_contact, GetActiveSnapshot(),
			   BY_INT64(contact_id));
	while (!found && scan_peek(&scan, ForwardScanDirection, &row))
		found = row.expires_at > now;
	scan_end(&scan);
	return found;
}

/*
 * Appends bytes in base64.
 */
static void
append_base64(StringInfo to, const uint8 *bytes, int len)
{
	int			max = pg_b64_enc_len(len) + 1;
	int			n;

	enlargeStringInfo(to, max);
	n = pg_b64_encode_compat(bytes, len, to->data + to->len, max);
	if (n < 0)
		elog(ERROR, "could not encode in base64");
	to->len += n;
	to->data[to->len] = '\0';
}

/*
 * Returns the signatures of a content, one for each secret of a contact.
 */
static char *
make_signatures(int64 contact_id, TimestampTz now, const MacPart *parts,
				int nparts)
{
	StoreScan	scan;
	WebhookSecret row;
	StringInfoData signatures;

	initStringInfo(&signatures);
	scan_begin(&scan, NULL, &webhook_secrets_by_contact, GetActiveSnapshot(),
			   BY_INT64(contact_id));
	while (scan_peek(&scan, ForwardScanDirection, &row))
	{
		uint8		mac[MAC_BYTES];

		if (row.expires_at <= now)
			continue;
		mac_make(row.secret, row.secret_len, parts, nparts, mac);
		appendStringInfoString(&signatures, signatures.len > 0 ? " v1," : "v1,");
		append_base64(&signatures, mac, sizeof(mac));
	}
	scan_end(&scan);
	return signatures.data;
}

/*
 * Returns the headers of a webhook.  What is signed is the body in UTF-8, as it is
 * sent.
 */
Jsonb *
webhooks_headers(int64 contact_id, TimestampTz now, const char *message_id,
				 char *body)
{
	char	   *sent = pg_server_to_any(body, strlen(body), PG_UTF8);
	char	   *seconds = psprintf(INT64_FORMAT,
								   (int64) timestamptz_to_time_t(now));
	const MacPart parts[] = {
		{message_id, strlen(message_id)}, {".", 1}, {seconds, strlen(seconds)},
		{".", 1}, {sent, strlen(sent)}
	};
	JsonObject	headers;

	json_begin(&headers);
	json_cstring(&headers, "content-type", "application/json");
	json_cstring(&headers, "webhook-id", message_id);
	json_cstring(&headers, "webhook-timestamp", seconds);
	json_cstring(&headers, "webhook-signature",
				 make_signatures(contact_id, now, parts, lengthof(parts)));
	return json_document(&headers);
}

/* ------------------------------------------------------------------------
 * secrets
 */

/*
 * Finds and locks the endpoint of an account that the arguments name.  Returns the id
 * of the contact.
 */
static int64
lock_contact(FunctionCallInfo fcinfo, const char *function)
{
	text	   *name = arg_account(fcinfo, 0);
	Account		account;
	Datum		values[3];
	SqlResult  *result;
	bool		isnull;

	if (PG_ARGISNULL(1))
		raise_null("address");
	store_check_writable(function);
	guards_find_account(store_snapshot(true), name, &account);
	values[0] = Int64GetDatum(account.id);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = TimestampTzGetDatum(clock_now());
	result = statements_run(&lock_endpoint, values, NULL);
	if (result->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("account \"%s\" has no webhook with that address",
						text_to_cstring(name)),
				 errhint("Set one with credits_set_contact first, and pass its address as it was set.")));
	return DatumGetInt64(statements_value(result, 0, 1, &isnull));
}

/*
 * Makes a secret for a contact.  Returns it as its owner is to keep it.
 */
static text *
make_secret(int64 contact_id)
{
	uint8		bytes[SECRET_BYTES];
	uint64		id;
	WebhookSecret row = {
		.contact_id = contact_id,
		.secret = bytes,
		.secret_len = sizeof(bytes),
		.created_at = clock_now(),
		.expires_at = DT_NOEND
	};
	StringInfoData shown;
	text	   *result;

	random_fill(bytes, sizeof(bytes));
	random_fill(&id, sizeof(id));
	row.id = (int64) (id >> 1);
	store_insert_alone(&webhook_secrets_table, &row);
	CommandCounterIncrement();
	initStringInfo(&shown);
	appendStringInfoString(&shown, SECRET_PREFIX);
	append_base64(&shown, bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
	result = cstring_to_text(shown.data);
	explicit_bzero(shown.data, shown.len);
	return result;
}

/*
 * Returns until when a secret that is replaced now is to be kept, by an argument.
 */
static TimestampTz
arg_keep(FunctionCallInfo fcinfo, int n)
{
	TimestampTz now = clock_now();
	TimestampTz until;
	const Interval *keep;

	if (PG_ARGISNULL(n))
		raise_null("keep");
	keep = PG_GETARG_INTERVAL_P(n);
	if (keep->month == 0 && keep->day == 0 && keep->time == 0)
		return now;
	until = clock_after(now, arg_interval(fcinfo, n, "keep"));
	if (until > now + MAX_KEEP_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keep must be 0 to %d days", MAX_KEEP_DAYS),
				 errdetail("The secret would be kept until %s.", clock_show(until)),
				 errhint("Pass the time within which the endpoint changes to the new secret, such as '1 day'; 0 if the old one is known to others.")));
	return until;
}

/*
 * Removes the secrets of a contact that is removed.
 */
void
webhooks_forget(int64 contact_id)
{
	Datum		values[2];

	values[0] = Int64GetDatum(contact_id);
	values[1] = BoolGetDatum(true);
	(void) statements_run(&delete_secrets, values, NULL);
}

/*
 * SQL function: makes a new secret for an endpoint, and returns it.
 */
Datum
credits_rotate_webhook_secret(PG_FUNCTION_ARGS)
{
	TimestampTz until = arg_keep(fcinfo, 2);
	int64		contact_id = lock_contact(fcinfo, "credits_rotate_webhook_secret()");
	Datum		values[2];

	values[0] = Int64GetDatum(contact_id);
	values[1] = BoolGetDatum(until <= clock_now());
	(void) statements_run(&delete_secrets, values, NULL);
	values[1] = TimestampTzGetDatum(until);
	(void) statements_run(&expire_secrets, values, NULL);
	PG_RETURN_TEXT_P(make_secret(contact_id));
}

/*
 * SQL function: removes the secret of an endpoint that was replaced.  Returns whether
 * one was still valid.
 */
Datum
credits_revoke_webhook_secret(PG_FUNCTION_ARGS)
{
	int64		contact_id = lock_contact(fcinfo, "credits_revoke_webhook_secret()");
	Datum		values[2];
	bool		isnull;

	values[0] = Int64GetDatum(contact_id);
	values[1] = TimestampTzGetDatum(clock_now());
	PG_RETURN_BOOL(DatumGetInt64(statements_value(statements_run(&revoke_secrets,
																 values, NULL),
												  0, 1, &isnull)) > 0);
}
