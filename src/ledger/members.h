/*
 * members.h
 *	  Members of pools and their caps, and the windows of time in which caps
 *	  and limits are counted.
 */
#ifndef CREDITS_LEDGER_MEMBERS_H
#define CREDITS_LEDGER_MEMBERS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

#define NO_LIMIT (-1)

/* the windows of caps and limits, in a time zone */
typedef enum Window
{
	WINDOW_UNKNOWN = -1,		/* somebody has modified the table */
	WINDOW_DAY,
	WINDOW_WEEK,
	WINDOW_MONTH,
	WINDOW_LIFETIME
} Window;

extern const char *const window_names[WINDOW_LIFETIME + 1];

/* The key of a member */
typedef struct MemberKey
{
	int64		pool_id;
	int64		account_id;
} MemberKey;

/* A row of credits.members: an account that may spend from a pool */
typedef struct Member
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	bool		removed;
	int64		pool_id;
	int64		account_id;
	int64		cap;			/* NO_LIMIT if none */
	Window		per;			/* the window of the cap */
	text	   *timezone;
	TimestampTz created_at;
	TimestampTz window_start;
	int64		used;
	int64		since_id;		/* only later transactions are counted */
} Member;

extern StoreTable members_table;
extern StoreIndex members_by_pool;
extern TimestampTz members_window_start(Window per, text *timezone,
										TimestampTz at);
extern void members_roll(TimestampTz *start, int64 *used, Window per,
						 text *timezone, TimestampTz now);
extern void members_json(JsonObject *json, const char *key, int64 value);
extern int64 members_count_up(int64 used, int64 amount);
extern void members_change(Posting *posting, Member *member);
extern bool members_lock(Posting *posting, List *keys, bool skip_locked);
extern Member *members_get(Posting *posting, int64 pool_id, int64 account_id);
extern List *members_add_key(List *keys, int64 pool_id, int64 account_id);
extern List *members_add_way_of(List *keys, const Entry *spend);
extern List *members_add_path(List *keys, List *path);
extern Jsonb *members_terms(const Member *member);
extern List *members_of_pool(Snapshot snapshot, int64 pool_id);
extern bool members_has_id(List *ids, int64 id);
extern bool members_is_pool(Store *store, Snapshot snapshot, int64 account_id);
extern List *members_above(Store *store, Snapshot snapshot, int64 account_id);
extern List *members_path(Store *store, Snapshot snapshot, int64 account_id,
						  int64 pool_id);
extern List *members_lock_way(Posting *posting, List *keys, MemberKey *gone);
extern Member *members_narrowest(List *path, int64 *left);
extern void members_use_path(Posting *posting, List *path, int64 amount);
extern void members_add_way(JsonObject *json, List *path);
extern void members_give_back(Posting *posting, const Entry *spend,
							  int64 amount);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_MEMBERS_H */
