/*
 * preferences.c
 *	  Preferences: of which events people are told, by which channels, and when.
 *
 * A preference is about a kind of events or all of them, and about a channel or all
 * of them.  The most specific one counts, and one about a kind is more specific
 * than one about a channel; if there is none, the setting credits.default_channels.
 *
 * Kinds of events that are for those who run the application are told to nobody
 * who has not asked for that very kind.  Receipts, and what is about security,
 * cannot be switched off where the setting has them on.
 *
 * Tested in test/sql/preferences.sql.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/preferences.h"
#include "tell/quiet_hours.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_set_preference);
PG_FUNCTION_INFO_V1(credits_is_told);
PG_FUNCTION_INFO_V1(credits_not_before);

/* stands for all kinds, or all channels */
#define ALL "*"

/* A row of credits.preferences */
typedef struct Preference
{
	ItemPointerData tid;
	int64		account_id;
	char	   *kind;			/* or ALL */
	char	   *channel;		/* or ALL */
	bool		enabled;
} Preference;

static const StoreColumn preference_columns[] = {
	COLUMN_INT64(Preference, account_id),
	COLUMN_CSTRING(Preference, kind),
	COLUMN_CSTRING(Preference, channel),
	COLUMN_BOOL(Preference, enabled),
	COLUMN_UNUSED(TIMESTAMPTZOID, "changed_at"),
	COLUMN_UNUSED(TEXTOID, "role")
};

static StoreTable preferences_table = {
	.name = "preferences",
	ROWS_OF(Preference, preference_columns)
};

static StoreIndex preferences_by_account_id = {
	&preferences_table, "preferences_pkey", {"account_id", "kind", "channel"},
	.unique = true
};

static SqlStatement write_preference = {
	"INSERT INTO credits.preferences AS p (account_id, kind, channel, enabled,"
	" changed_at, role) VALUES ($1, $2, $3, $4, $5, session_user)"
	" ON CONFLICT (account_id, kind, channel) DO UPDATE"
	" SET enabled = EXCLUDED.enabled, changed_at = EXCLUDED.changed_at,"
	" role = EXCLUDED.role WHERE p.enabled <> EXCLUDED.enabled",
	(const Oid[]) {
		INT8OID, TEXTOID, TEXTOID, BOOLOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement delete_preference = {
	"DELETE FROM credits.preferences WHERE account_id = $1"
	" AND kind = $2 AND channel = $3",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, InvalidOid}
};

static const SetArg set_preference_args[] = {
	{"account", SET_NAMES},
	{"kind", SET_NAMES},
	{"channel", SET_NAMES},
	{"enabled", SET_KEEPS}
};

/*
 * Finds what an account prefers about a kind of events and a channel.  Returns
 * false if it has no preference.
 */
static bool
find_preference(int64 account_id, const EventKind *kind, Channel channel,
				bool *enabled)
{
	StoreScan	scan;
	Preference	row;
	int			best = -1;

	scan_begin(&scan, NULL, &preferences_by_account_id, GetActiveSnapshot(),
			   BY_INT64(account_id));
	while (scan_peek(&scan, ForwardScanDirection, &row))
	{
		bool		any_kind = strcmp(row.kind, ALL) == 0;
		bool		any_channel = strcmp(row.channel, ALL) == 0;
		int			rank = (any_kind ? 0 : 2) + (any_channel ? 0 : 1);

		if (rank <= best ||
			(any_kind ? !kind->told : strcmp(row.kind, kind->name) != 0) ||
			(!any_channel && strcmp(row.channel, channel_names[channel]) != 0))
			continue;
		best = rank;
		*enabled = row.enabled;
	}
	scan_end(&scan);
	return best >= 0;
}

/*
 * Returns whether an account is told of a kind of events by a channel, if it has a
 * contact there.  Nobody is told of a kind that does not exist.
 */
bool
preferences_allow(int64 account_id, const char *kind_name, Channel channel)
{
	const EventKind *kind = event_kinds_find(kind_name);
	bool		by_default;
	bool		enabled;

	if (kind == NULL)
		return false;
	by_default = channels_default(kind->name, kind->told, channel);
	if (!find_preference(account_id, kind, channel, &enabled))
		return by_default;
	return enabled || (kind->required && by_default);
}

/*
 * Returns the first instant, from a given one on, at which an account may be told of
 * a kind of events.
 */
TimestampTz
preferences_not_before(int64 account_id, const char *kind_name, TimestampTz at)
{
	const EventKind *kind = event_kinds_find(kind_name);

	if (kind && kind->critical)
		return at;
	return quiet_hours_end(account_id, at);
}

/*
 * Refuses to switch off a kind of events that has to be told.
 */
static void
check_switch(const EventKind *kind, bool enabled)
{
	if (kind && kind->required && !enabled)
		ereport(ERROR,
				(errcode(ERRCODE_FORBIDDEN),
				 errmsg("events of kind %s cannot be switched off", kind->name),
				 errdetail("They are receipts, or about security."),
				 errhint("To end messages at an address, remove the contact with credits_remove_contact.")));
}

/*
 * Sets the parameters of a statement that say what a preference is about.
 */
static void
fill_key(int64 account_id, const EventKind *kind, Channel channel, Datum *values)
{
	values[0] = Int64GetDatum(account_id);
	values[1] = CStringGetTextDatum(kind ? kind->name : ALL);
	values[2] = CStringGetTextDatum(channel == CHANNEL_UNKNOWN ? ALL :
									channel_names[channel]);
}

/*
 * Switches a kind of events, or all if it is NULL, on or off for a channel, or for
 * all if it is CHANNEL_UNKNOWN.  Returns whether that was a change.
 */
bool
preferences_switch(int64 account_id, const EventKind *kind, Channel channel,
				   bool enabled)
{
	Datum		values[5];

	check_switch(kind, enabled);
	fill_key(account_id, kind, channel, values);
	values[3] = BoolGetDatum(enabled);
	values[4] = TimestampTzGetDatum(clock_now());
	return statements_run(&write_preference, values, NULL)->nrows > 0;
}

/*
 * SQL function: sets or clears a preference of an account.  Returns whether that was
 * a change.
 */
Datum
credits_set_preference(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	const EventKind *kind = PG_ARGISNULL(1) ? NULL : event_kinds_arg(fcinfo, 1);
	Channel		channel = PG_ARGISNULL(2) ? CHANNEL_UNKNOWN :
		(Channel) ARG_CHOICE(2, "channel", channel_names);
	Account		account;
	Datum		values[3];
	Set			set;

	SETS_READ(&set, fcinfo, set_preference_args);
	if (PG_ARGISNULL(3) && !set.clear[3])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("enabled must not be null"),
				 errhint("Pass true or false, or clear => '{enabled}' to go by what is more general.")));
	if (!set.clear[3])
		check_switch(kind, PG_GETARG_BOOL(3));
	store_check_writable("credits_set_preference()");
	guards_find_account(store_snapshot(true), name, &account);
	if (!set.clear[3])
		PG_RETURN_BOOL(preferences_switch(account.id, kind, channel,
										  PG_GETARG_BOOL(3)));
	fill_key(account.id, kind, channel, values);
	PG_RETURN_BOOL(statements_run(&delete_preference, values, NULL)->nrows > 0);
}

/*
 * SQL function: is an account told of a kind of events by a channel?
 */
Datum
credits_is_told(PG_FUNCTION_ARGS)
{
	int64		account_id = arg_id(fcinfo, 0, "account_id");
	const EventKind *kind = event_kinds_arg(fcinfo, 1);

	PG_RETURN_BOOL(preferences_allow(account_id, kind->name,
									 (Channel) ARG_CHOICE(2, "channel",
														  channel_names)));
}

/*
 * SQL function: from when on may an account be told of a kind of events?
 */
Datum
credits_not_before(PG_FUNCTION_ARGS)
{
	int64		account_id = arg_id(fcinfo, 0, "account_id");
	const EventKind *kind = event_kinds_arg(fcinfo, 1);

	if (PG_ARGISNULL(2))
		raise_null("at");
	PG_RETURN_TIMESTAMPTZ(preferences_not_before(account_id, kind->name,
												 PG_GETARG_TIMESTAMPTZ(2)));
}
