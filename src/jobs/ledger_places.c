/*
 * ledger_places.c
 *	  Where something is held about a person: accounts, the log, and what is made by it.
 */
#include "credits.h"

#include "jobs/places.h"

#define NUMBERS "an id, a number, a time or a name that the application gives to operations: sums and the chain need it"

/* the row that records the erasure itself */
#define OWN_ROW "(SELECT e.transaction_id FROM credits.erasures AS e WHERE e.account_id = $1)"

/* rows whose texts are not erased yet have a salt of this many bytes */
#define HAS_TEXT(row) "octet_length(" row ".salt) = 16"

/*
 * The next rows of the account in a table, after a position of microseconds and id.
 */
#define OWN_ROWS(table) \
	"b AS MATERIALIZED (SELECT l.id, l.created_at, l.kind_code, l.amount, l.target_id, l.salt" \
	" FROM " table " AS l WHERE l.account_id = $1 AND (l.created_at, l.id) > (" \
	"COALESCE('epoch'::timestamptz + split_part($5, ' ', 1)::bigint * interval '1 microsecond', '-infinity')," \
	" COALESCE(split_part($5, ' ', 2)::bigint, 0))" \
	" ORDER BY l.created_at, l.id LIMIT $6)," \
	" next AS (SELECT CASE WHEN (SELECT count(*) FROM b) = $6 THEN" \
	" (SELECT concat((extract(epoch FROM b.created_at) * 1000000)::bigint, ' ', b.id)" \
	" FROM b ORDER BY b.created_at DESC, b.id DESC LIMIT 1) END AS position)"

#define ERASE_OWN_ROWS(table) \
	"WITH " OWN_ROWS(table) \
	" SELECT CASE WHEN " HAS_TEXT("b") " AND b.id <> " OWN_ROW " THEN b.id END," \
	" n.position FROM b CROSS JOIN next AS n"

/*
 * Copies of the person's texts in rows of others: what a transfer or a gift without a code
 * gave them, and its reversal; and the actor, where the person has redeemed a gift or a
 * referral code of theirs.  A row with a key, or that redeems a code, was written by a
 * call of theirs: its texts are their own, unless the message of a gift is among them.
 */
#define ERASE_COPIES(table) \
	"WITH " OWN_ROWS(table) "," \
	" c AS (SELECT l.id, l.account_id, l.target_id, l.kind_code, l.idempotency_key, l.held, l.reason, l.salt" \
	" FROM credits.log AS l UNION ALL" \
	" SELECT l.id, l.account_id, l.target_id, l.kind_code, l.idempotency_key, l.held, l.reason, l.salt" \
	" FROM credits.archived_log AS l)," \
	" given AS MATERIALIZED (SELECT c.id, c.account_id, c.salt FROM b JOIN c ON c.target_id = b.id" \
	" WHERE b.kind_code IN ('T', 'g', 'f', 'R') AND c.account_id <> $1" \
	" AND CASE WHEN EXISTS (SELECT FROM credits.redemptions AS r WHERE r.transaction_id = c.id)" \
	" THEN c.kind_code = 'g' AND c.reason IS NOT NULL ELSE c.idempotency_key IS NULL END)," \
	" found AS (SELECT g.id, g.account_id, g.salt FROM given AS g UNION" \
	" SELECT c.id, c.account_id, c.salt FROM given AS g JOIN c ON c.target_id = g.id" \
	" WHERE c.kind_code = 'R' AND c.account_id = g.account_id AND c.idempotency_key IS NULL UNION" \
	" SELECT c.id, c.account_id, c.salt FROM b JOIN c ON c.id = b.target_id" \
	" WHERE b.kind_code = 'g' AND c.account_id <> $1 AND c.held < 0)" \
	" SELECT f.id, n.position FROM next AS n LEFT JOIN found AS f ON " HAS_TEXT("f") \
	" ORDER BY f.account_id, f.id"

/*
 * Rows of pools of which the person was a member, when it spent from them.  They are
 * those between its first row and the last of all; there is no index on members, since
 * every spend from a pool would have to keep it.
 */
#define ERASE_MEMBER_ROWS(table) \
	"WITH r AS MATERIALIZED (SELECT COALESCE($5::bigint," \
	" (SELECT n.opening_id - 1 FROM credits.anchors AS n WHERE n.account_id = $1" \
	" ORDER BY n.transaction_id LIMIT 1)," \
	" (SELECT l.id - 1 FROM credits.log AS l WHERE l.account_id = $1" \
	" ORDER BY l.created_at, l.id LIMIT 1), 0) AS from_id," \
	" (SELECT max(l.id) FROM " table " AS l) AS until_id, $6 * 50::bigint AS n)" \
	" SELECT l.id, CASE WHEN r.from_id + r.n < r.until_id THEN (r.from_id + r.n)::text END" \
	" FROM r LEFT JOIN " table " AS l ON l.id > r.from_id AND l.id <= r.from_id + r.n" \
	" AND l.member_id = $1 AND " HAS_TEXT("l") " ORDER BY l.account_id, l.id"

#define LOG_TEXTS "idempotency_key request reference reason metadata actor salt"
#define LOG_NUMBERS "id account_id created_at amount balance_after held held_after target_id" \
	" member_id role_id kind_code draws operation terms hash"

Place		ledger_places[] = {
	{
		.table = "accounts",
		.erased = "name metadata",
		.kept = "id unit status limited debt created_at alert_levels alert_base topup_below due_at base"
		" granted refunded expired held balance spent transaction_count last_transaction_id"
		" last_at head renews_at",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(a) FROM credits.accounts AS a WHERE a.id = $1")
		/* they are erased when it is closed */
	},
	{
		.table = "log",
		.erased = LOG_TEXTS,
		.kept = LOG_NUMBERS,
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(t) - '{salt,hash}'::text[] FROM credits.transactions AS t"
				" WHERE t.account_id = $1 OR t.member_id = $1"),
		.steps = {
			FINDS(ERASE_OWN_ROWS("credits.log")),
			FINDS(ERASE_COPIES("credits.log")),
			FINDS(ERASE_MEMBER_ROWS("credits.log"))
		}
	},
	{
		.table = "archived_log",
		.erased = LOG_TEXTS,
		.kept = LOG_NUMBERS,
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(t) - '{salt,hash}'::text[] FROM credits.archived_transactions AS t"
				" WHERE t.account_id = $1 OR t.member_id = $1"),
		.steps = {
			FINDS(ERASE_OWN_ROWS("credits.archived_log")),
			FINDS(ERASE_COPIES("credits.archived_log")),
			FINDS(ERASE_MEMBER_ROWS("credits.archived_log"))
		}
	},
	{
		.table = "grants",
		.erased = "",
		.kept = "id account_id transaction_id effective_at expires_at granted_until amount"
		" priority source price currency status remaining lost group_id all_claimed"
		" lost_claimed group_owed",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(g) FROM credits.grants AS g WHERE g.account_id = $1")
	},
	{
		.table = "archived_grants",
		.erased = "",
		.kept = "id account_id transaction_id effective_at expires_at granted_until amount"
		" priority source price currency status remaining lost group_id all_claimed"
		" lost_claimed group_owed",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(g) FROM credits.archived_grants AS g WHERE g.account_id = $1")
	},
	{
		.table = "debts",
		.erased = "",
		.kept = "grant_id account_id claimed gone owed paid payers group_id lasts_until",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(d) FROM credits.debts AS d WHERE d.account_id = $1")
	},
	{
		.table = "limits",
		.erased = "",
		.kept = "account_id max_balance excess min_spend max_spend max_spend_per_day"
		" max_spend_per_month timezone day_start day_used month_start month_used",
		.reason = "a limit or a time zone, which the log has, too",
		EXPORTS("SELECT to_jsonb(l) FROM credits.limits AS l WHERE l.account_id = $1")
	},
	{
		.table = "hold_states",
		.erased = "",
		.kept = "id account_id created_at reserved expires_at status captured released",
		.reason = "a number or a time: the texts of a hold are in the log",
		EXPORTS("SELECT to_jsonb(h) FROM credits.hold_states AS h WHERE h.account_id = $1")
	},
	{
		.table = "members",
		.erased = "",
		.kept = "pool_id account_id cap per timezone created_at window_start used since_id",
		.reason = "a number or a time zone, which the log of the pool has, too",
		EXPORTS("SELECT to_jsonb(m) FROM credits.members AS m"
				" WHERE m.account_id = $1 OR m.pool_id = $1")
	},
	{
		.table = "anchors",
		.erased = "",
		.kept = "account_id transaction_id until_id transaction_count created_at status balance"
		" held debt granted spent refunded expired opening_id opening_amount limits hash",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(n) - 'hash' FROM credits.anchors AS n WHERE n.account_id = $1")
	},
	{
		.table = "anchor_parts",
		.erased = "",
		.kept = "account_id transaction_id number kind id state",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(n) FROM credits.anchor_parts AS n WHERE n.account_id = $1")
	},
	{
		.table = "erasures",
		.erased = "name salt xid system",
		.kept = "account_id transaction_id begun_at ended_at role done last_pass place step position",
		.reason = "that a person was erased, and by whom, has to be known",
		EXPORTS("SELECT to_jsonb(e) - '{salt,xid,system}'::text[] FROM credits.erasures AS e"
				" WHERE e.account_id = $1")
		/* erased when it ends */
	},
	{.table = NULL}
};
