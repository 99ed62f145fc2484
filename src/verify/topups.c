/*
 * topups.c
 *	  credits_verify: automatic top-ups.
 *
 * The threshold in the row of an account is that of its rule, each request is a
 * purchase of its account, and one that has ended is not pending.
 */
#include "credits.h"

#include "store/statements.h"
#include "verify/verify.h"

static const Oid none[] = {InvalidOid};

/* the rule of a closed account may be gone: nothing is bought for it */
static SqlStatement find_rules = {
	.text = "SELECT a.name, NULL::bigint, 'topup', "
	"'the account is topped up below ' || COALESCE(a.topup_below::text, 'no balance') "
	"|| ', but its rule says ' || COALESCE(t.below::text, 'nothing') "
	"FROM credits.accounts AS a FULL JOIN credits.topups AS t ON t.account_id = a.id "
	"WHERE a.topup_below IS DISTINCT FROM t.below AND a.status IS DISTINCT FROM 'closed' "
	"ORDER BY COALESCE(a.id, t.account_id)",
	.types = none,
	.by_snapshot = true
};

static SqlStatement find_requests = {
	.text = "SELECT a.name, p.transaction_id, 'topup', 'request ' || r.id || ' ' || c.problem "
	"FROM credits.topup_requests AS r "
	"LEFT JOIN credits.accounts AS a ON a.id = r.account_id "
	"LEFT JOIN credits.purchases AS p ON p.id = r.purchase_id "
	"CROSS JOIN LATERAL (SELECT CASE "
	"WHEN p.id IS NULL THEN 'has no purchase' "
	"WHEN p.account_id <> r.account_id THEN 'has a purchase of another account' "
	"WHEN r.ended_at IS NOT NULL AND p.status = 'pending' THEN 'has ended, but its purchase is pending' "
	"END AS problem) AS c "
	"WHERE c.problem IS NOT NULL ORDER BY r.id",
	.types = none,
	.by_snapshot = true
};

/*
 * Checks all top-ups.
 */
void
verify_all_topups(Verification *v)
{
	verify_report_found(v, &find_rules, 0);
	verify_report_found(v, &find_requests, 0);
}
