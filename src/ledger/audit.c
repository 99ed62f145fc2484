/*
 * audit.c
 *	  The audit: rows that say who changed what is set, from what to what, and
 *	  who moved credits by hand.
 *
 * What is set in a table of its own, by statements, is noted by the trigger
 * credits.note_change, see audit_trigger.c.  Tables that every spend updates,
 * too, have no such trigger: what sets limits, members, levels and the state of
 * an account notes it here, and so does whatever writes rows of codes.
 *
 * A change of one account is a transaction of its log as well.  Reason and actor
 * stay there, where a person can be erased, and the audit refers to it.
 */
#include "credits.h"

#include "ledger/audit.h"
#include "ledger/ledger.h"
#include "ledger/roles.h"

#include "miscadmin.h"
#include "utils/builtins.h"

const char *const audit_topic_names[] = {
	"adjustment", "allocation", "refund", "void",
	"account", "activity_rule", "alerts", "consumer", "limits", "membership",
	"offer", "operation", "package", "plan", "promo_code", "promotion",
	"reward_program",
	"schedule", "service_pause", "stripe_price", "stripe_secret", "template",
	"unit_price", "unsubscribe_secret", "volume_discount"
};

static const StoreColumn audit_columns[] = {
	COLUMN_INT64(AuditRow, id),
	COLUMN_TIME(AuditRow, at),
	COLUMN_INT64(AuditRow, account_id, NULL_IS(0)),
	COLUMN_INT64(AuditRow, transaction_id, NULL_IS(0)),
	COLUMN_INT64(AuditRow, amount, NULL_UNLESS(AuditRow, moved)),
	COLUMN_ENUM(AuditRow, topic, audit_topic_names),
	COLUMN_TEXT(AuditRow, name, NULL_IF_ZERO),
	COLUMN_TEXT(AuditRow, role),
	COLUMN_TEXT(AuditRow, actor, NULL_IF_ZERO),
	COLUMN_JSONB(AuditRow, old_values, NULL_IF_ZERO),
	COLUMN_JSONB(AuditRow, new_values, NULL_IF_ZERO)
};

StoreTable	audit_table = {
	.name = "audit_log",
	.sequence = "audit_log_id_seq",
	ROWS_OF(AuditRow, audit_columns)
};

/* ------------------------------------------------------------------------
 * what has changed
 */

/* what a row says about itself, and the audit in columns of its own */
static const char *const unaudited_keys[] = {
	"actor", "created_at", "paused_at", "role", "scheduled_at", "set_at",
	"withdrawn_by"
};

/*
 * Returns whether a key has a value that must not be copied.
 */
static bool
is_secret(const JsonbValue *key)
{
	static const char secret[] = "secret";

	return key->val.string.len == sizeof(secret) - 1 &&
		memcmp(key->val.string.val, secret, sizeof(secret) - 1) == 0;
}

/*
 * Returns whether the audit leaves a key out.
 */
static bool
is_unaudited(const JsonbValue *key)
{
	int			i;

	for (i = 0; i < (int) lengthof(unaudited_keys); i++)
		if (key->val.string.len == (int) strlen(unaudited_keys[i]) &&
			memcmp(key->val.string.val, unaudited_keys[i], key->val.string.len) == 0)
			return true;
	return false;
}

/*
 * Returns whether two values are equal, of which either may be NULL for none.
 */
static bool
is_same_value(JsonbValue *a, JsonbValue *b)
{
	if (a == NULL || b == NULL)
		return (a == NULL || a->type == jbvNull) && (b == NULL || b->type == jbvNull);
	return compareJsonbContainers(&JsonbValueToJsonb(a)->root,
								  &JsonbValueToJsonb(b)->root) == 0;
}

/*
 * Returns those members of a document that are others in another one, NULL if
 * there is no document.  Beside no other, those that are null are left out.
 */
static Jsonb *
members_that_differ(Jsonb *document, Jsonb *other)
{
	JsonObject	changed;
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (document == NULL)
		return NULL;
	json_begin(&changed);
	it = JsonbIteratorInit(&document->root);
	(void) JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (is_unaudited(&key) ||
			is_same_value(&value, other == NULL ? NULL :
						  getKeyJsonValueFromContainer(&other->root, key.val.string.val,
													   key.val.string.len, NULL)))
			continue;
		if (is_secret(&key))
			json_cstring(&changed, "secret", "***");
		else
			json_value(&changed,
					   pnstrdup(key.val.string.val, key.val.string.len), &value);
	}
	return json_document(&changed);
}

/*
 * Sets what a row says has changed.  Returns false if nothing has.
 */
static bool
set_values(AuditRow *row, Jsonb *old, Jsonb *new)
{
	row->old_values = members_that_differ(old, new);
	row->new_values = members_that_differ(new, old);
	return old == NULL || new == NULL ||
		JB_ROOT_COUNT(row->old_values) + JB_ROOT_COUNT(row->new_values) > 0;
}

/* ------------------------------------------------------------------------
 * writing
 */

/*
 * Notes a change of what is set: old is NULL if it is new, new is NULL if it is
 * gone.  Nothing is noted if they do not differ.
 */
void
audit_add(AuditTopic topic, text *name, int64 account_id, Jsonb *old, Jsonb *new)
{
	AuditRow	row = {
		.at = clock_now(),
		.account_id = account_id,
		.topic = topic,
		.name = name,
		.role = cstring_to_text(GetUserNameFromId(GetSessionUserId(), false)),
		.actor = roles_actor()
	};

	if (!set_values(&row, old, new))
		return;
	row.id = store_next_id(&audit_table);
	store_insert_alone(&audit_table, &row);
}

/* A row that is written with a posting, and its transaction */
typedef struct PostedRow
{
	AuditRow	row;
	const Entry *entry;
} PostedRow;

/*
 * Inserts a row when its posting is written.
 */
static void
write_audit(Posting *posting, void *arg)
{
	PostedRow  *posted = arg;
	AuditRow   *row = &posted->row;

	row->id = store_next_id(&audit_table);
	row->at = posted->entry->created_at;
	row->transaction_id = posted->entry->id;
	row->role = cstring_to_text(posted->entry->role);
	store_insert(posting->store, &audit_table, row);
}

/*
 * Registers a row that is about a transaction of a posting.
 */
static PostedRow *
add_posted(Posting *posting, const Entry *entry, AuditTopic topic, int64 account_id)
{
	PostedRow  *posted = palloc0(sizeof(PostedRow));

	posted->row.topic = topic;
	posted->row.account_id = account_id;
	posted->entry = entry;
	posting_defer(posting, write_audit, posted);
	return posted;
}

/*
 * Notes a change of what is set for an account, which the main transaction of a
 * posting records.
 */
void
audit_setting(Posting *posting, AuditTopic topic, text *name, int64 account_id,
			  Jsonb *old, Jsonb *new)
{
	AuditRow	changed;

	if (set_values(&changed, old, new))
	{
		PostedRow  *posted = add_posted(posting, posting->main, topic, account_id);

		posted->row.name = name;
		posted->row.old_values = changed.old_values;
		posted->row.new_values = changed.new_values;
	}
}

/*
 * Notes that a transaction of a posting moves credits by hand.
 */
void
audit_moved(Posting *posting, const Entry *entry, AuditTopic topic)
{
	PostedRow  *posted = add_posted(posting, entry, topic, posting->account.id);

	posted->row.moved = true;
	posted->row.amount = entry->amount;
}
