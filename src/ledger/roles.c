/*
 * roles.c
 *	  The names of those who made changes.
 *
 * The log has the id of a row of credits.roles in place of the name of the session's
 * user.  A name that is not there is added by whoever needs it first.
 *
 * Nobody waits for another session to add the same name: waiting while one holds the
 * lock of an account could be a deadlock.  Instead, each adds a row of its own, and a
 * name can have several ids.  In REPEATABLE READ, too, a session uses only an id
 * that its snapshot sees.
 *
 * The id of the session's user is remembered.  A row that was added by a transaction
 * which is rolled back, or may be after it was prepared, is forgotten.
 *
 * Tested in test/t/roles.pl.
 */
#include "credits.h"

#include "base/settings.h"
#include "ledger/roles.h"
#include "store/store.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(credits_role_name);

/* A row of credits.roles */
typedef struct Role
{
	ItemPointerData tid;
	int32		id;
	text	   *name;
} Role;

static const StoreColumn role_columns[] = {
	COLUMN_INT32(Role, id),
	COLUMN_TEXT(Role, name)
};

static StoreTable roles_table = {
	.name = "roles",
	.sequence = "roles_id_seq",
	ROWS_OF(Role, role_columns)
};

static StoreIndex roles_by_id = {
	&roles_table, "roles_pkey", {"id"},.unique = true
};
static StoreIndex roles_by_name = {
	&roles_table, "roles_name_idx", {"name"}
};

/* the session's user, its name and the id of that, 0 if it is not known */
static Oid	own_role = InvalidOid;
static char own_name[NAMEDATALEN];
static int32 own_id = 0;
static uint64 own_generation;
static uint64 own_renames;

/* how often a role may have been renamed */
static uint64 renames = 0;

/* A name that was read from the log's rows.  They do not change. */
typedef struct KnownRole
{
	int32		id;				/* hash key */
	char		name[NAMEDATALEN];
} KnownRole;

static HTAB *known = NULL;
static uint64 known_generation;

/* more than that many are forgotten, and read again */
#define MAX_KNOWN_ROLES 1000

/*
 * Callback: forgets an id whose row may not stay.
 */
static void
forget_after_transaction(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PRE_COMMIT)
		own_id = 0;
}

/*
 * Callback: forgets an id whose row may be rolled back with a subtransaction.
 */
static void
forget_after_subtransaction(SubXactEvent event, SubTransactionId id,
							SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		own_id = 0;
}

/*
 * Callback: a role may have been renamed.
 */
static void
note_rename(Datum arg, int cache, uint32 hash)
{
	renames++;
}

/*
 * Registers the callbacks.  Called once, when the library is loaded.
 */
void
roles_init(void)
{
	RegisterXactCallback(forget_after_transaction, NULL);
	RegisterSubXactCallback(forget_after_subtransaction, NULL);
	CacheRegisterSyscacheCallback(AUTHOID, note_rename, (Datum) 0);
}

/*
 * Returns the id of a name that has one, or gives it one.
 */
static int32
find_or_add(const char *name)
{
	Role		role = {0};
	bool		found;

	PushActiveSnapshot(store_snapshot(true));
	found = scan_find(NULL, &roles_by_name, GetActiveSnapshot(), &role,
					  BY_TEXT(cstring_to_text(name)));
	PopActiveSnapshot();
	if (!found)
	{
		role.id = (int32) store_next_id(&roles_table);
		role.name = cstring_to_text(name);
		store_insert_alone(&roles_table, &role);
		/* the transaction may look for it once more */
		CommandCounterIncrement();
	}
	return role.id;
}

/*
 * Returns the id of the name of the session's user, and gives it one if it has none.
 * The name is valid until the next call.
 */
int32
roles_own(const char **name)
{
	if (own_id == 0 || own_generation != tables_generation() ||
		own_renames != renames || own_role != GetSessionUserId())
	{
		char	   *found;

		own_id = 0;
		/* what changes while they are looked up is noticed by the next call */
		own_generation = tables_generation();
		own_renames = renames;
		own_role = GetSessionUserId();
		found = GetUserNameFromId(own_role, false);
		/* unlike function arguments, it has not been checked for encoding */
		(void) pg_verifymbstr(found, strlen(found), false);
		strlcpy(own_name, found, NAMEDATALEN);
		own_id = find_or_add(own_name);
	}
	*name = own_name;
	return own_id;
}

/*
 * Returns the table of the names that were read, empty if the tables may have
 * changed.
 */
static HTAB *
known_roles(void)
{
	if (known && (known_generation != tables_generation() ||
				  hash_get_num_entries(known) > MAX_KNOWN_ROLES))
	{
		hash_destroy(known);
		known = NULL;
	}
	if (known == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(int32);
		ctl.entrysize = sizeof(KnownRole);
		ctl.hcxt = TopMemoryContext;
		known = hash_create("credits roles", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		known_generation = tables_generation();
	}
	return known;
}

/*
 * Returns the name that has an id, or an empty one if none has, since somebody has
 * changed the table.
 */
const char *
roles_name(int32 id)
{
	KnownRole  *entry = hash_search(known_roles(), &id, HASH_FIND, NULL);
	Role		role;

	if (entry)
		return entry->name;
	if (!scan_find(NULL, &roles_by_id, store_snapshot(true), &role, BY_INT32(id)))
		return "";
	entry = hash_search(known_roles(), &id, HASH_ENTER, NULL);
	text_to_cstring_buffer(role.name, entry->name, NAMEDATALEN);
	return entry->name;
}

/*
 * SQL function: returns the name of the role that has an id in the log.
 */
Datum
credits_role_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(roles_name(PG_GETARG_INT32(0))));
}

/*
 * Returns the setting credits.actor, NULL if it is empty.
 */
text *
roles_actor(void)
{
	if (*setting_actor == '\0')
		return NULL;
	/* unlike a function argument, it has not been checked for encoding */
	(void) pg_verifymbstr(setting_actor, strlen(setting_actor), false);
	return cstring_to_text(setting_actor);
}

/*
 * Returns whether the session user has the rights of credits_admin.
 */
bool
roles_is_administrator(void)
{
	Oid			admin = get_role_oid("credits_admin", true);

	return OidIsValid(admin) && has_privs_of_role(GetSessionUserId(), admin);
}
