/*
 * caps.c
 *	  credits_verify: limits of accounts, and caps of pool members.
 *
 * Checks that limits and caps are the ones recorded in the log, and that the
 * amounts used are what was spent.  Members are counted while verify.c reads
 * the log.  What a member has used includes what pools above it have paid, so
 * it is known only when the log of all accounts has been read.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "verify/verify.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A member according to its row, and according to the log */
typedef struct MemberCheck
{
	MemberKey	key;			/* hash key */
	Member	   *member;			/* NULL if there is no row */
	Jsonb	   *terms;			/* as last logged; NULL if it was never a
								 * member, or was removed */
	int64		used;			/* according to the log */
	int64		added_by;		/* transaction by which it was last added */
	int64		since_id;		/* the latest that counting can have begun */
	TimestampTz window_start;	/* the earliest that its window can have */
} MemberCheck;

/* What a pool's rows that are being archived have counted for a member */
typedef struct MemberUse
{
	MemberKey	key;			/* hash key */
	bool		exists;
	int64		since_id;		/* of the member now: it counts from there */
	TimestampTz window_start;
	int64		used;
} MemberUse;

typedef struct CapsCheck
{
	MemoryContext context;
	bool		all;			/* is the whole log read? */
	HTAB	   *members;
	HASH_SEQ_STATUS status;		/* position of verify_caps_members */
	bool		reporting;		/* has verify_caps_members begun? */
	HTAB	   *uses;			/* of MemberUse, if they are to be kept */
	int64		account_id;		/* the account whose log is being read */
	Jsonb	   *limits;			/* its limits as last logged, or NULL */
	TimestampTz anchored_at;	/* its rows up to then are archived */
} CapsCheck;

/*
 * Returns the entry of a member in the hash table, and adds it if it is not
 * there.
 */
static MemberCheck *
member_check(CapsCheck *check, const MemberKey *key)
{
	bool		found;
	MemberCheck *member = hash_search(check->members, key, HASH_ENTER, &found);

	if (!found)
	{
		member->member = NULL;
		member->terms = NULL;
		member->used = 0;
		member->added_by = member->since_id = 0;
		member->window_start = DT_NOBEGIN;
	}
	return member;
}

/*
 * Returns a copy of a document that lasts as long as the check.
 */
static Jsonb *
keep_document(CapsCheck *check, const Jsonb *document)
{
	Jsonb	   *copy = MemoryContextAlloc(check->context, VARSIZE(document));

	memcpy(copy, document, VARSIZE(document));
	return copy;
}

/*
 * Begins to check the caps of the members of a pool, or of all pools if
 * pool_id is 0.
 */
CapsCheck *
verify_caps_begin(int64 pool_id)
{
	CapsCheck  *check = palloc0(sizeof(CapsCheck));
	HASHCTL		ctl = {0};
	ListCell   *lc;

	check->context = CurrentMemoryContext;
	check->all = pool_id == 0;
	ctl.keysize = sizeof(MemberKey);
	ctl.entrysize = sizeof(MemberCheck);
	ctl.hcxt = check->context;
	check->members = hash_create("credits members", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	foreach(lc, members_of_pool(GetActiveSnapshot(), pool_id))
	{
		Member	   *member = lfirst(lc);
		MemberKey	key = {member->pool_id, member->account_id};

		member_check(check, &key)->member = member;
	}
	return check;
}

/*
 * Returns a text of logged terms, or NULL if they have none of that name.
 */
static text *
logged_text(const Jsonb *terms, const char *key)
{
	Entry		entry = {.terms = unconstify(Jsonb *, terms)};
	JsonbValue *value = terms_get(&entry, key);

	return value && value->type == jbvString ?
		cstring_to_text_with_len(value->val.string.val,
								 value->val.string.len) : NULL;
}

/*
 * Returns when the window that an instant is in began, according to logged terms;
 * DT_NOBEGIN if they are none that can have been logged.
 */
static TimestampTz
window_of(const Jsonb *terms, TimestampTz at)
{
	text	   *per = logged_text(terms, "per");
	text	   *timezone = logged_text(terms, "timezone");
	Window		window = per ? NAME_FIND(window_names, text_to_cstring(per)) :
		WINDOW_UNKNOWN;

	if (window == WINDOW_UNKNOWN || timezone == NULL ||
		VARSIZE_ANY_EXHDR(timezone) > TZ_STRLEN_MAX ||
		pg_tzset(text_to_cstring(timezone)) == NULL)
		return DT_NOBEGIN;
	return members_window_start(window, timezone, at);
}

/*
 * Records since when a member is counted that was added or changed: counting
 * begins anew if a window of the new kind has begun since the one that it was
 * counted in.
 */
static void
note_counting(MemberCheck *member, const Entry *entry)
{
	TimestampTz start = window_of(entry->terms, entry->created_at);

	if (member->terms == NULL)
	{
		member->added_by = member->since_id = entry->id;
		member->window_start = start;
		return;
	}
	member->window_start = Max(member->window_start,
							   window_of(member->terms, entry->created_at));
	if (member->window_start < start)
	{
		member->window_start = start;
		member->since_id = entry->id;
	}
}

/*
 * Records the terms of a member according to the log.
 */
static void
note_membership(CapsCheck *check, const Entry *entry)
{
	MemberKey	key = {entry->account_id, 0};
	MemberCheck *member;
	Member		removed = {.removed = true};

	if (!terms_int64(entry, "account_id", &key.account_id))
		return;
	removed.account_id = key.account_id;
	member = member_check(check, &key);
	note_counting(member, entry);
	if (member->terms)
		pfree(member->terms);
	member->terms = NULL;
	if (!verify_same(entry->terms, members_terms(&removed)))
		member->terms = keep_document(check, entry->terms);
}

/*
 * Returns what is counted for a member, of which it reads the row when it first
 * occurs.
 */
static MemberUse *
use_of(CapsCheck *check, const MemberKey *key)
{
	bool		found;
	MemberUse  *use = hash_search(check->uses, key, HASH_ENTER, &found);
	Member		member;

	if (found)
		return use;
	use->exists = scan_find(NULL, &members_by_pool, GetActiveSnapshot(), &member,
							BY_INT64(key->pool_id), BY_INT64(key->account_id));
	use->since_id = use->exists ? member.since_id : 0;
	use->window_start = use->exists ? member.window_start : DT_NOBEGIN;
	use->used = 0;
	return use;
}

/*
 * Adds an entry to what was used by the members who took part in its spend.
 */
static void
count_members(CapsCheck *check, const Entry *entry)
{
	Entry		spend;
	ListCell   *lc;

	if ((!check->all && !check->uses) ||
		!limit_rules_counts_as(NULL, GetActiveSnapshot(), entry, &spend))
		return;
	foreach(lc, members_add_way_of(NIL, &spend))
	{
		MemberCheck *member = hash_search(check->members, lfirst(lc),
										  HASH_FIND, NULL);
		MemberUse  *use = check->uses ? use_of(check, lfirst(lc)) : NULL;

		if (use && use->exists && spend.id > use->since_id &&
			spend.created_at >= use->window_start)
			use->used = (int64) ((uint64) use->used - (uint64) entry->amount);

		if (member && member->member &&
			spend.id > member->member->since_id &&
			spend.created_at >= member->member->window_start)
			member->used = (int64) ((uint64) member->used -
									(uint64) entry->amount);
	}
}

/*
 * Processes one entry of the log.  Entries must come account by account, in
 * order of id.
 */
void
verify_caps_entry(CapsCheck *check, const Entry *entry)
{
	if (entry->account_id != check->account_id)
		verify_caps_start(check, entry->account_id, NULL, DT_NOBEGIN);
	if (entry->member_id != 0)
		count_members(check, entry);
	else if (entry->kind == KIND_MEMBERSHIP)
		note_membership(check, entry);
	else if (entry->kind == KIND_LIMITS && entry->terms)
	{
		if (check->limits)
			pfree(check->limits);
		check->limits = keep_document(check, entry->terms);
	}
}

/*
 * Has what members use counted while the log of one pool is read, for an anchor.
 */
void
verify_caps_keep_uses(CapsCheck *check)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(MemberKey);
	ctl.entrysize = sizeof(MemberUse);
	ctl.hcxt = check->context;
	check->uses = hash_create("credits uses", 16, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Begins to read an account's log, at its anchor and with the limits set before, if
 * there is one.
 */
void
verify_caps_start(CapsCheck *check, int64 account_id, const Jsonb *limits,
				  TimestampTz anchored_at)
{
	check->account_id = account_id;
	check->anchored_at = anchored_at;
	if (check->limits)
		pfree(check->limits);
	check->limits = limits ? keep_document(check, limits) : NULL;
}

/*
 * Begins with what an anchor says about a member, or about what one has used.
 */
void
verify_caps_part(CapsCheck *check, const AnchorPart *part)
{
	MemberKey	key = {part->account_id, part->id};
	TimestampTz window_start = verify_part_time(part, "window_start");
	int64		since_id = verify_part_int64(part, "since_id");
	MemberCheck *member;

	if (part->kind == PART_MEMBER)
	{
		Entry		entry = {.terms = part->state};
		JsonbValue *terms = terms_get(&entry, "terms");

		member = member_check(check, &key);
		member->added_by = verify_part_int64(part, "added_by");
		member->since_id = since_id;
		member->window_start = window_start;
		if (terms && terms->type == jbvBinary)
			member->terms = keep_document(check, JsonbValueToJsonb(terms));
		return;
	}
	/* what was counted, if counting has not begun anew */
	key.pool_id = verify_part_int64(part, "pool_id");
	member = check->all ?
		hash_search(check->members, &key, HASH_FIND, NULL) : NULL;
	if (member && member->member && member->member->since_id == since_id &&
		member->member->window_start == window_start)
		member->used = verify_add(member->used, verify_part_int64(part, "used"));
	if (check->uses)
	{
		MemberUse  *use = use_of(check, &key);

		if (use->since_id == since_id && use->window_start == window_start)
			use->used = verify_add(use->used, verify_part_int64(part, "used"));
	}
}

/*
 * Returns the limits that an account was last given, NULL if it never was.
 */
Jsonb *
verify_caps_logged(const CapsCheck *check, int64 account_id)
{
	return check->account_id == account_id ? check->limits : NULL;
}

/*
 * Adds the members of a pool, and what members have used of it, to the parts of an
 * anchor.
 */
void
verify_caps_parts(CapsCheck *check, int64 account_id, List **parts)
{
	HASH_SEQ_STATUS status;
	MemberCheck *member;
	MemberUse  *use;
	JsonObject	json;

	hash_seq_init(&status, check->members);
	while ((member = hash_seq_search(&status)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (member->key.pool_id != account_id || member->terms == NULL)
			continue;
		json_begin(&json);
		json_jsonb(&json, "terms", member->terms);
		json_int64(&json, "added_by", member->added_by);
		json_int64(&json, "since_id", member->since_id);
		json_time(&json, "window_start", member->window_start);
		verify_add_part(parts, PART_MEMBER, member->key.account_id, &json);
	}
	hash_seq_init(&status, check->uses);
	while ((use = hash_seq_search(&status)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!use->exists || use->used == 0)
			continue;
		json_begin(&json);
		json_int64(&json, "pool_id", use->key.pool_id);
		json_int64(&json, "since_id", use->since_id);
		json_time(&json, "window_start", use->window_start);
		json_int64(&json, "used", use->used);
		verify_add_part(parts, PART_USE, use->key.account_id, &json);
	}
}

/*
 * Returns a list of problems with the limits of an account, whose log has just
 * been read.
 */
List *
verify_caps_limits(CapsCheck *check, const Account *account)
{
	Jsonb	   *logged = check->account_id == account->id ? check->limits :
		NULL;
	Limits		limits;
	Limits		counted;
	List	   *problems = NIL;
	bool		stored;

	limit_rules_read(NULL, GetActiveSnapshot(), account->id, &limits);
	stored = ItemPointerIsValid(&limits.tid);
	if (logged == NULL)
	{
		Limits		none;

		/*
		 * Without limits of its own, an account may still have a row that
		 * counts what is limited by settings.
		 */
		limit_rules_read(NULL, GetActiveSnapshot(), 0, &none);
		logged = limit_rules_terms(&none);
	}
	else if (!stored)
		return list_make1("the row of its limits is missing");
	if (!verify_same(limit_rules_terms(&limits), logged))
		problems = lappend(problems, "its limits are not those that it was last given");
	if (limits.max_spend_per_day == NO_LIMIT && limits.max_spend_per_month == NO_LIMIT)
		return problems;		/* counted only while a setting limits it */
	counted = limits;
	limit_rules_count(NULL, GetActiveSnapshot(), PG_INT64_MAX, &counted);

	/*
	 * a window that began before the anchor is over; the next spend begins
	 * another
	 */
	if (check->account_id == account->id)
	{
		if (limits.day_start <= check->anchored_at)
			counted.day_used = limits.day_used;
		if (limits.month_start <= check->anchored_at)
			counted.month_used = limits.month_used;
	}
	if (limits.day_used != counted.day_used)
		problems = lappend(problems,
						   psprintf("day_used is " INT64_FORMAT ", but should be " INT64_FORMAT,
									limits.day_used, counted.day_used));
	if (limits.month_used != counted.month_used)
		problems = lappend(problems,
						   psprintf("month_used is " INT64_FORMAT ", but should be " INT64_FORMAT,
									limits.month_used, counted.month_used));
	return problems;
}

/*
 * Returns a list of at most one problem with a member.
 */
static List *
check_member(CapsCheck *check, const MemberCheck *member)
{
	int64		id = member->key.account_id;

	if (member->member == NULL)
		return member->terms ? list_make1(psprintf("the row of member " INT64_FORMAT " is missing",
												   id)) : NIL;
	if (member->terms == NULL)
		return list_make1(psprintf("account " INT64_FORMAT " is a member, but by the log it is not",
								   id));
	if (member->member->per == WINDOW_UNKNOWN)
		return list_make1(psprintf("member " INT64_FORMAT " has an unknown window",
								   id));
	if (!verify_same(members_terms(member->member), member->terms))
		return list_make1(psprintf("the cap of member " INT64_FORMAT " is not the one that it was last given",
								   id));
	if (member->member->since_id < member->added_by ||
		member->member->since_id > member->since_id)
		return list_make1(psprintf("since_id of member " INT64_FORMAT " is " INT64_FORMAT ", but should be " INT64_FORMAT,
								   id, member->member->since_id,
								   member->since_id));
	if (member->member->window_start < member->window_start ||
		(member->member->window_start > member->window_start &&
		 member->member->window_start !=
		 window_of(member->terms, member->member->window_start)))
		return list_make1(psprintf("window_start of member " INT64_FORMAT " is not the beginning of a window",
								   id));
	if (check->all && member->member->used != member->used)
		return list_make1(psprintf("used of member " INT64_FORMAT " is " INT64_FORMAT ", but should be " INT64_FORMAT,
								   id, member->member->used, member->used));
	return NIL;
}

/*
 * Returns a list of problems with the next member that has any, and the pool
 * it belongs to; NIL at the end.
 */
List *
verify_caps_members(CapsCheck *check, int64 *account_id)
{
	MemberCheck *member;

	if (!check->reporting)
		hash_seq_init(&check->status, check->members);
	check->reporting = true;
	while ((member = hash_seq_search(&check->status)) != NULL)
	{
		List	   *problems = check_member(check, member);

		CHECK_FOR_INTERRUPTS();
		*account_id = member->key.pool_id;
		if (problems != NIL)
			return problems;
	}
	return NIL;
}
