/*
 * rewards.c
 *	  credits_verify: rewards.
 *
 * Each reward was given by a transaction of its account, of its amount, under terms of
 * its program; and what a program with a budget has given is the sum of its rewards.
 */
#include "credits.h"

#include "verify/verify.h"

static const Oid none[] = {InvalidOid};

/* the transaction may have left the log */
static SqlStatement find_rewards = {
	.text = "SELECT a.name, r.transaction_id, 'reward', "
	"'the reward for ' || r.award || ' ' || c.problem "
	"FROM credits.rewards AS r "
	"LEFT JOIN credits.accounts AS a ON a.id = r.account_id "
	"LEFT JOIN credits.grants AS g ON g.transaction_id = r.transaction_id AND g.account_id = r.account_id "
	"LEFT JOIN credits.archived_grants AS o ON o.transaction_id = r.transaction_id AND o.account_id = r.account_id "
	"LEFT JOIN credits.reward_programs AS p ON p.id = r.program_id "
	"CROSS JOIN LATERAL (SELECT CASE "
	"WHEN COALESCE(g.id, o.id) IS NULL THEN 'has no grant of the account' "
	"WHEN COALESCE(g.amount, o.amount) <> r.amount THEN 'is not as much as its grant' "
	"WHEN p.id IS NULL OR p.name <> r.program THEN 'is not by terms of its program' "
	"END AS problem) AS c "
	"WHERE c.problem IS NOT NULL ORDER BY r.transaction_id",
	.types = none,
	.by_snapshot = true
};

static SqlStatement find_totals = {
	.text = "SELECT NULL::text, NULL::bigint, 'reward', "
	"'program ' || t.program || ' has given ' || COALESCE(s.given, 0) || ', but its total says ' || t.given "
	"FROM credits.reward_totals AS t "
	"LEFT JOIN (SELECT r.program, sum(r.amount) AS given FROM credits.rewards AS r GROUP BY r.program) AS s "
	"ON s.program = t.program "
	"WHERE COALESCE(s.given, 0) <> t.given ORDER BY t.program",
	.types = none,
	.by_snapshot = true
};

/*
 * Checks all rewards.
 */
void
verify_all_rewards(Verification *v)
{
	verify_report_found(v, &find_rewards, 0);
	verify_report_found(v, &find_totals, 0);
}
