/*
 * contacts.c
 *	  Contacts: where people are told of events.
 *
 * An account has one e-mail address, one telephone number and one inbox, so that
 * setting another one replaces the first; and several devices and webhook
 * endpoints, which are told apart by their address.
 *
 * An address is personal data.  It is in credits.contacts and nowhere else, and no
 * message repeats it.  We check the form of addresses, so that a message can be
 * sent; only a message that was answered shows that the address is right.
 *
 * A contact is disabled when the receiving side says that it is gone, and enabled
 * again by setting it.
 *
 * Tested in test/sql/contacts.sql and test/sql/webhooks.sql.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/webhooks.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_set_contact);
PG_FUNCTION_INFO_V1(credits_remove_contact);
PG_FUNCTION_INFO_V1(credits_is_reachable);

/* RFC 5321, 4.5.3.1: of a path, without its angle brackets, and its parts */
#define MAX_EMAIL_BYTES 254
#define MAX_LOCAL_PART_BYTES 64

/* E.164: country code and number; none is shorter than 7 digits */
#define MIN_PHONE_DIGITS 7
#define MAX_PHONE_DIGITS 15

/* addresses of several of a channel are in an index, whose entries are limited */
#define MAX_ADDRESS_BYTES 2048

/* of one channel, so that an event does not become any number of messages */
#define MAX_ADDRESSES 20

/* the arguments of credits_set_contact */
enum
{
	SET_CONTACT_ACCOUNT,
	SET_CONTACT_CHANNEL,
	SET_CONTACT_ADDRESS,
	SET_CONTACT_VERIFIED,
	SET_CONTACT_LOCALE
};

static const SetArg set_contact_args[] = {
	[SET_CONTACT_ACCOUNT] = {"account", SET_NAMES},
	[SET_CONTACT_CHANNEL] = {"channel", SET_NAMES},
	[SET_CONTACT_ADDRESS] = {"address", SET_NEEDED},
	[SET_CONTACT_VERIFIED] = {"verified", SET_KEEPS, "false"},
	[SET_CONTACT_LOCALE] = {"locale", SET_KEEPS}
};

/* the condition is the key of contacts_address_idx */
static SqlStatement find_contact = {
	"SELECT id, address, verified, locale, disabled_at IS NOT NULL"
	" FROM credits.contacts"
	" WHERE account_id = $1 AND channel = $2"
	" AND (CASE WHEN channel IN ('push', 'webhook') THEN address ELSE '' END) = $3"
	" FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, InvalidOid}
};

static SqlStatement count_contacts = {
	"SELECT count(*) FROM credits.contacts WHERE account_id = $1 AND channel = $2",
	(const Oid[]) {INT8OID, TEXTOID, InvalidOid}
};

static SqlStatement insert_contact = {
	"INSERT INTO credits.contacts (id, account_id, channel, address, verified,"
	" locale, created_at, changed_at, role)"
	" VALUES (nextval('credits.contacts_id_seq'), $1, $2, $3, $4, $5, $6, $6,"
	" session_user) ON CONFLICT DO NOTHING RETURNING id",
	(const Oid[]) {
		INT8OID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement update_contact = {
	"UPDATE credits.contacts SET address = $2, verified = $3, locale = $4,"
	" changed_at = $5, disabled_at = NULL, role = session_user WHERE id = $1",
	(const Oid[]) {
		INT8OID, TEXTOID, BOOLOID, TEXTOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement delete_contacts = {
	"DELETE FROM credits.contacts"
	" WHERE account_id = $1 AND channel = $2 AND ($3 IS NULL OR address = $3)"
	" RETURNING id",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * addresses
 */

/*
 * Raises the error for an address that does not have the form of one.
 */
NORETURN_COMPAT static void refuse_address(Channel channel, char *detail);
static void
refuse_address(Channel channel, char *detail)
{
	static const char *const hints[] = {
		[CHANNEL_EMAIL] = "Pass an address such as name@example.com.",
		[CHANNEL_SMS] = "Pass a number with its country code, such as +4930123456.",
		[CHANNEL_PUSH] = "Pass the token of the device, or the subscription, as the push service gave it.",
		[CHANNEL_WEBHOOK] = "Pass a URL such as https://example.com/credits.",
		[CHANNEL_INBOX] = "Leave address out: the inbox is in the application."
	};

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("address is not one of channel %s", channel_names[channel]),
			 errdetail_internal("%s", detail),
			 errhint("%s", hints[channel])));
}

/*
 * Returns whether one of some characters, a space or a control character is in an
 * address.
 */
static bool
has_any_of(const char *s, int len, const char *characters)
{
	int			i;

	for (i = 0; i < len; i++)
		if (s[i] == ' ' || strchr(characters, s[i]) != NULL)
			return true;
	return has_control_character(s, len);
}

/*
 * Returns whether a part of an e-mail address consists of words between dots.
 */
static bool
is_dotted(const char *s, int len)
{
	int			i;

	if (len == 0 || s[0] == '.' || s[len - 1] == '.')
		return false;
	for (i = 1; i < len; i++)
		if (s[i] == '.' && s[i - 1] == '.')
			return false;
	return true;
}

/*
 * Checks an e-mail address.  Quoted local parts and literal domains, which RFC 5321
 * has, are refused: nobody has them, and they need care wherever they are used.
 */
static void
check_email(const char *s, int len)
{
	const char *at = memchr(s, '@', len);
	int			local = at ? at - s : 0;

	if (len > MAX_EMAIL_BYTES || local > MAX_LOCAL_PART_BYTES)
		refuse_address(CHANNEL_EMAIL,
					   psprintf("It has %d bytes, %d of them before the @; at most %d and %d are allowed.",
								len, local, MAX_EMAIL_BYTES, MAX_LOCAL_PART_BYTES));
	if (at == NULL || memchr(at + 1, '@', s + len - at - 1) != NULL)
		refuse_address(CHANNEL_EMAIL, "It must have exactly one @.");
	if (has_any_of(s, len, "()<>[]:;,\\\""))
		refuse_address(CHANNEL_EMAIL,
					   "It must not have spaces, control characters, quotation marks, brackets, commas, colons, semicolons or backslashes.");
	if (!is_dotted(s, local) || !is_dotted(at + 1, s + len - at - 1))
		refuse_address(CHANNEL_EMAIL,
					   "Before and after the @, it must have words between single dots.");
}

/*
 * Checks a telephone number.
 */
static void
check_phone(const char *s, int len)
{
	int			i;

	if (len < 1 + MIN_PHONE_DIGITS || len > 1 + MAX_PHONE_DIGITS || s[0] != '+' ||
		s[1] == '0')
		refuse_address(CHANNEL_SMS,
					   psprintf("As E.164 has it, it must be + and %d to %d digits, the first of them not 0.",
								MIN_PHONE_DIGITS, MAX_PHONE_DIGITS));
	for (i = 1; i < len; i++)
		if (s[i] < '0' || s[i] > '9')
			refuse_address(CHANNEL_SMS, "After the +, it must have digits only.");
}

/*
 * Checks the URL of a webhook endpoint.
 */
static void
check_url(const char *s, int len)
{
	static const char scheme[] = "https://";
	int			host = sizeof(scheme) - 1;
	int			i;

	if (len < host || pg_strncasecmp(s, scheme, host) != 0)
		refuse_address(CHANNEL_WEBHOOK, "It must begin with https://.");
	for (i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~' || strchr("\"<>\\^`{|}#", s[i]) != NULL)
			refuse_address(CHANNEL_WEBHOOK,
						   psprintf("Byte %d of %d may not be in a URL, or begins a fragment.",
									i + 1, len));
	for (i = host; i < len && strchr("/?", s[i]) == NULL; i++)
		if (s[i] == '@')
			refuse_address(CHANNEL_WEBHOOK, "It must not have a user or password.");
	if (i == host || s[host] == ':')
		refuse_address(CHANNEL_WEBHOOK, "It has no host.");
}

/*
 * Checks that an address has the form of one of its channel.
 */
static void
check_address(Channel channel, text *address)
{
	const char *s;
	int			len;

	if (address == NULL)
	{
		if (channel == CHANNEL_INBOX)
			return;
		raise_null("address");
	}
	s = VARDATA_ANY(address);
	len = VARSIZE_ANY_EXHDR(address);
	if (len < 1 || len > MAX_ADDRESS_BYTES)
		refuse_address(channel,
					   psprintf("It has %d bytes; 1 to %d are allowed.", len,
								MAX_ADDRESS_BYTES));
	switch (channel)
	{
		case CHANNEL_EMAIL:
			check_email(s, len);
			break;
		case CHANNEL_SMS:
			check_phone(s, len);
			break;
		case CHANNEL_PUSH:
			if (has_control_character(s, len))
				refuse_address(channel, "It must not have control characters.");
			break;
		case CHANNEL_WEBHOOK:
			check_url(s, len);
			break;
		case CHANNEL_INBOX:
		case CHANNEL_UNKNOWN:
			refuse_address(CHANNEL_INBOX, "An inbox has no address.");
	}
}

/* ------------------------------------------------------------------------
 * setting and removing
 */

/*
 * Returns whether an account can have several addresses of a channel.
 */
static bool
has_several(Channel channel)
{
	return channel == CHANNEL_PUSH || channel == CHANNEL_WEBHOOK;
}

/*
 * Completes the arguments with what a contact has.  Another address begins as one
 * that is not verified.
 */
static void
merge_contact(Set *set, const SqlResult *result)
{
	Datum	   *values;
	bool	   *isnull;
	const NullableDatum *address = &set->given->args[SET_CONTACT_ADDRESS];
	int			i;

	if (result->nrows == 0)
	{
		sets_merge(set, NULL, NULL);
		return;
	}
	values = palloc0(lengthof(set_contact_args) * sizeof(Datum));
	isnull = palloc0(lengthof(set_contact_args) * sizeof(bool));
	for (i = SET_CONTACT_ADDRESS; i <= SET_CONTACT_LOCALE; i++)
		values[i] = statements_value(result, 0, 2 + i - SET_CONTACT_ADDRESS,
									 &isnull[i]);
	if (!address->isnull && !isnull[SET_CONTACT_ADDRESS] &&
		!same_text(DatumGetTextPP(address->value),
				   DatumGetTextPP(values[SET_CONTACT_ADDRESS])))
		values[SET_CONTACT_VERIFIED] = BoolGetDatum(false);
	sets_merge(set, values, isnull);
}

/*
 * Refuses to add one address too many.  Two sessions that add one each at the same
 * time do not see the other's: this keeps an account from having any number, and
 * need not be exact.
 */
static void
check_number(text *account, Channel channel, const Datum *key)
{
	bool		isnull;
	int64		n = DatumGetInt64(statements_value(statements_run(&count_contacts,
																  key, NULL),
												   0, 1, &isnull));

	if (n >= MAX_ADDRESSES)
		ereport(ERROR,
				(errcode(ERRCODE_FORBIDDEN),
				 errmsg("account \"%s\" has too many contacts of channel %s",
						text_to_cstring(account), channel_names[channel]),
				 errdetail("It has " INT64_FORMAT "; at most %d are allowed.", n,
						   MAX_ADDRESSES),
				 errhint("Remove those that are no longer used with credits_remove_contact.")));
}

/*
 * Reads the complete arguments into the parameters of a statement: address,
 * verified, locale and the current time.
 */
static void
read_contact(FunctionCallInfo fcinfo, Channel channel, Datum *values,
			 bool *isnull)
{
	text	   *address = PG_ARGISNULL(SET_CONTACT_ADDRESS) ? NULL :
		PG_GETARG_TEXT_PP(SET_CONTACT_ADDRESS);
	text	   *locale = arg_locale(fcinfo, SET_CONTACT_LOCALE);

	check_address(channel, address);
	values[0] = PointerGetDatum(address);
	isnull[0] = address == NULL;
	values[1] = BoolGetDatum(arg_bool(fcinfo, SET_CONTACT_VERIFIED, "verified"));
	values[2] = PointerGetDatum(locale);
	isnull[2] = locale == NULL;
	values[3] = TimestampTzGetDatum(clock_now());
}

/*
 * Writes what was set: a new contact, or one that there is.  Returns its id, 0 if
 * another transaction has made one in the meantime.
 */
static int64
write_contact(Set *set, text *account, Channel channel, const Datum *key,
			  const SqlResult *found)
{
	Datum		values[6];
	bool		isnull[6] = {false};
	SqlResult  *result;
	int64		id;
	bool		none;

	if (found->nrows == 0)
	{
		if (has_several(channel))
			check_number(account, channel, key);
		values[0] = key[0];
		values[1] = key[1];
		read_contact(set->merged, channel, values + 2, isnull + 2);
		result = statements_run(&insert_contact, values, isnull);
		return result->nrows == 0 ? 0 :
			DatumGetInt64(statements_value(result, 0, 1, &none));
	}
	values[0] = statements_value(found, 0, 1, &none);
	id = DatumGetInt64(values[0]);
	read_contact(set->merged, channel, values + 1, isnull + 1);
	/* setting it again, even as it is, has messages sent there again */
	if (!sets_unchanged(set) || DatumGetBool(statements_value(found, 0, 5, &none)))
		(void) statements_run(&update_contact, values, isnull);
	return id;
}

/*
 * SQL function: sets a contact of an account.
 */
Datum
credits_set_contact(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, SET_CONTACT_ACCOUNT);
	Channel		channel;
	text	   *address = PG_ARGISNULL(SET_CONTACT_ADDRESS) ? NULL :
		PG_GETARG_TEXT_PP(SET_CONTACT_ADDRESS);
	Account		account;
	Datum		key[3];
	Set			set;

	SETS_READ(&set, fcinfo, set_contact_args);
	channel = (Channel) ARG_CHOICE(SET_CONTACT_CHANNEL, "channel", channel_names);
	if (has_several(channel) || address)
		check_address(channel, address);
	store_check_writable("credits_set_contact()");
	guards_find_account(store_snapshot(true), name, &account);
	if (account.status == ACCOUNT_CLOSED)
		ereport(ERROR,
				(errcode(ERRCODE_LOCKED_ACCOUNT),
				 errmsg("account \"%s\" is closed", text_to_cstring(name)),
				 errhint("Contacts of a closed account can be removed, but not set.")));
	key[0] = Int64GetDatum(account.id);
	key[1] = CStringGetTextDatum(channel_names[channel]);
	key[2] = has_several(channel) ? PointerGetDatum(address) :
		CStringGetTextDatum("");
	for (;;)
	{
		SqlResult  *found = statements_run(&find_contact, key, NULL);
		int64		id;

		merge_contact(&set, found);
		id = write_contact(&set, name, channel, key, found);
		if (id != 0)
			PG_RETURN_INT64(id);
		/* another transaction has made it just now: find that one */
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * SQL function: removes contacts of an account.  Returns how many there were.
 */
Datum
credits_remove_contact(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	Channel		channel = (Channel) ARG_CHOICE(1, "channel", channel_names);
	bool		isnull[3] = {false, false, PG_ARGISNULL(2)};
	Account		account;
	Datum		values[3];
	SqlResult  *removed;
	bool		none;
	uint64		i;

	store_check_writable("credits_remove_contact()");
	guards_find_account(store_snapshot(true), name, &account);
	values[0] = Int64GetDatum(account.id);
	values[1] = CStringGetTextDatum(channel_names[channel]);
	values[2] = (Datum) 0;
	if (!isnull[2])
	{
		text	   *address = PG_GETARG_TEXT_PP(2);

		/* no address is longer */
		if (VARSIZE_ANY_EXHDR(address) > MAX_ADDRESS_BYTES)
			refuse_address(channel,
						   psprintf("It has %zu bytes; 1 to %d are allowed.",
									(Size) VARSIZE_ANY_EXHDR(address),
									MAX_ADDRESS_BYTES));
		values[2] = PointerGetDatum(address);
	}
	removed = statements_run(&delete_contacts, values, isnull);
	for (i = 0; channel == CHANNEL_WEBHOOK && i < removed->nrows; i++)
		webhooks_forget(DatumGetInt64(statements_value(removed, i, 1, &none)));
	PG_RETURN_INT32((int32) removed->nrows);
}

/*
 * SQL function: do messages go to a contact?
 */
Datum
credits_is_reachable(PG_FUNCTION_ARGS)
{
	Channel		channel = (Channel) ARG_CHOICE(0, "channel", channel_names);

	PG_RETURN_BOOL(arg_bool(fcinfo, 1, "verified") ||
				   channels_reach_unverified(channel));
}
