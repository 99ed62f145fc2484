/*
 * purchases.c
 *	  Proving purchases: what was given for them, what is claimed back of that, and
 *	  the uses of promotions; and what is claimed back of periods.
 *
 * Their tables can be compared without the log, so this is left to statements
 * that join them; they go by the snapshot of all the rest.  What claims and
 * grants say is proved by debts.c and verify.c.
 */
#include "credits.h"

#include "store/statements.h"
#include "verify/verify.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Each returns the account's name, a transaction, the problem and its detail */
#define BY_ACCOUNT " p.account_id = $1"

static const Oid none[] = {InvalidOid};
static const Oid one[] = {INT8OID, InvalidOid};

/* what completed purchases gave; of those with a computation, all was paid for */
#define GRANTS_OF(which) \
	"SELECT a.name, p.transaction_id, 'purchase', " \
	"'purchase ' || p.id || ' ' || c.problem " \
	"FROM credits.purchases AS p " \
	"LEFT JOIN credits.accounts AS a ON a.id = p.account_id " \
	"LEFT JOIN credits.grants AS m ON m.id = p.grant_ids[1] " \
	"CROSS JOIN LATERAL (" \
	"SELECT count(g.id) AS found, sum(g.amount) AS amount, " \
	"sum(g.price) AS price, " \
	"min(g.transaction_id) AS first, " \
	"bool_and(g.price IS NULL OR g.currency = p.currency) AS currency " \
	"FROM unnest(p.grant_ids) AS i (id) " \
	"JOIN credits.grants AS g ON g.id = i.id) AS s " \
	"CROSS JOIN LATERAL (SELECT CASE " \
	"WHEN a.id IS NULL THEN 'is of an account that does not exist' " \
	"WHEN p.status <> 'completed' THEN NULL " \
	"WHEN s.found <> cardinality(p.grant_ids) " \
	"THEN 'names a grant that does not exist' " \
	"WHEN m.account_id <> p.account_id " \
	"THEN 'names a grant of another account' " \
	"WHEN p.transaction_id <> s.first " \
	"THEN 'names another transaction than its grants do' " \
	"WHEN p.quote IS NULL AND p.credits <> s.amount OR " \
	"p.quote IS NOT NULL AND p.credits <> m.amount " \
	"THEN 'did not give the credits that were paid for' " \
	"WHEN p.money < p.price THEN 'gave more than was paid for' " \
	"WHEN p.quote IS NOT NULL AND (s.price <> p.money OR NOT s.currency) " \
	"THEN 'gave grants at another price than was paid' " \
	"END) AS c (problem) " \
	"WHERE c.problem IS NOT NULL " which

/*
 * what is claimed of each grant, by the money that went back; nothing more is
 * claimed from an account once it is closed
 */
#define CLAIMS_OF(which) \
	"SELECT a.name, g.transaction_id, 'purchase', " \
	"'of grant ' || g.id || ', which purchase ' || p.id || ' gave, ' || " \
	"COALESCE(d.claimed, 0) || ' are claimed, but should be ' || c.claimed " \
	"FROM credits.purchases AS p " \
	"JOIN credits.grants AS m ON m.id = p.grant_ids[1] " \
	"CROSS JOIN LATERAL unnest(p.grant_ids) AS i (id) " \
	"JOIN credits.grants AS g ON g.id = i.id " \
	"JOIN credits.accounts AS a ON a.id = g.account_id " \
	"LEFT JOIN credits.debts AS d ON d.grant_id = g.id " \
	"CROSS JOIN LATERAL (" \
	"SELECT COALESCE(sum(r.money), 0) AS money, " \
	"COALESCE(sum(r.credits), 0) AS credits " \
	"FROM credits.reversals AS r WHERE r.purchase_id = p.id " \
	"AND r.status NOT IN ('won', 'withdrawn')) AS r " \
	"CROSS JOIN LATERAL (SELECT " \
	"CASE WHEN p.money = 0 THEN r.credits " \
	"ELSE r.money * m.amount + p.money * r.credits END AS part, " \
	"CASE WHEN p.money = 0 THEN 1 ELSE p.money END * m.amount AS whole) AS s " \
	"CROSS JOIN LATERAL (SELECT CASE WHEN s.part >= s.whole THEN g.amount " \
	"ELSE div(g.amount * s.part, s.whole) END AS claimed) AS c " \
	"WHERE a.status <> 'closed' AND COALESCE(d.claimed, 0) <> c.claimed " which

/*
 * what is claimed of a period that the clock gave, by the money that went back,
 * and beside it what changes of plan had taken back
 */
#define PERIOD_CLAIMS_OF(which) \
	"SELECT a.name, p.transaction_id, 'period', " \
	"'of period ' || p.starts_at || ' of subscription ' || p.subscription_id || " \
	"', ' || g.claimed || ' are claimed, but should be ' || c.claimed " \
	"FROM credits.periods AS p " \
	"JOIN credits.accounts AS a ON a.id = p.account_id " \
	"CROSS JOIN LATERAL (" \
	"SELECT COALESCE(sum(g.amount), 0) AS amount, " \
	"COALESCE(sum(g.price), 0) AS price, COALESCE(sum(d.claimed), 0) AS claimed " \
	"FROM credits.grants AS g " \
	"LEFT JOIN credits.debts AS d ON d.grant_id = g.id " \
	"WHERE g.group_id = p.grant_id) AS g " \
	"CROSS JOIN LATERAL (" \
	"SELECT COALESCE(sum(r.money), 0) AS money, " \
	"COALESCE(bool_or(r.money IS NULL), false) AS everything " \
	"FROM credits.period_refunds AS r " \
	"WHERE r.subscription_id = p.subscription_id " \
	"AND r.starts_at = p.starts_at) AS r " \
	"CROSS JOIN LATERAL (SELECT " \
	"CASE WHEN r.everything THEN p.given WHEN r.money = 0 THEN 0 " \
	"WHEN r.money >= g.price THEN p.given " \
	"ELSE div(p.given * r.money, g.price) END AS back) AS s " \
	"CROSS JOIN LATERAL (SELECT " \
	"CASE WHEN r.money = 0 AND NOT r.everything THEN 0 " \
	"ELSE s.back + g.amount - p.given END AS claimed) AS c " \
	"WHERE p.granted IS NULL AND a.status <> 'closed' " \
	"AND g.claimed <> c.claimed " which

/*
 * one use for each purchase that has a promotion, unless it came to nothing or
 * was delivered without it, because no use was left
 */
#define USES_OF(which) \
	"SELECT a.name, NULL::bigint, 'promotion', " \
	"CASE WHEN u.purchase_id IS NULL " \
	"THEN 'purchase ' || p.id || ' has a promotion, but is none of its uses' " \
	"ELSE 'the use of a promotion by purchase ' || p.id || ' is not what the purchase says' END " \
	"FROM credits.purchases AS p " \
	"LEFT JOIN credits.accounts AS a ON a.id = p.account_id " \
	"LEFT JOIN credits.promotion_uses AS u ON u.purchase_id = p.id " \
	"WHERE (p.promotion_id IS NOT NULL OR u.purchase_id IS NOT NULL) " \
	"AND (u.account_id, u.promotion, u.promotion_id, u.released_at IS NULL) " \
	"IS DISTINCT FROM (p.account_id, p.promotion, p.promotion_id, " \
	"p.status IN ('pending', 'completed')) " \
	"AND NOT (p.status = 'completed' AND p.promotion IS NULL " \
	"AND u.released_at IS NOT NULL " \
	"AND p.quote ->> 'promotion' IS NOT DISTINCT FROM u.promotion) " which

static SqlStatement grants_of_all = {
	GRANTS_OF(""), none,.by_snapshot = true
};
static SqlStatement grants_of_one = {
	GRANTS_OF("AND" BY_ACCOUNT), one,.by_snapshot = true
};
static SqlStatement claims_of_all = {
	CLAIMS_OF(""), none,.by_snapshot = true
};
static SqlStatement claims_of_one = {
	CLAIMS_OF("AND" BY_ACCOUNT), one,.by_snapshot = true
};
static SqlStatement period_claims_of_all = {
	PERIOD_CLAIMS_OF(""), none,.by_snapshot = true
};
static SqlStatement period_claims_of_one = {
	PERIOD_CLAIMS_OF("AND" BY_ACCOUNT), one,.by_snapshot = true
};
static SqlStatement uses_of_all = {
	USES_OF(""), none,.by_snapshot = true
};
static SqlStatement uses_of_one = {
	USES_OF("AND" BY_ACCOUNT), one,.by_snapshot = true
};

/* what belongs to no purchase or account */
static SqlStatement find_orphans = {
	"SELECT NULL::text, NULL::bigint, 'orphan', 'reversal ' || r.reference || "
	"' is of purchase ' || r.purchase_id || ', which does not exist' "
	"FROM credits.reversals AS r WHERE NOT EXISTS ("
	"SELECT FROM credits.purchases AS p WHERE p.id = r.purchase_id) "
	"UNION ALL SELECT NULL, NULL, 'orphan', 'a use of promotion ' || "
	"u.promotion || ' is of purchase ' || u.purchase_id || "
	"', which does not exist' "
	"FROM credits.promotion_uses AS u WHERE NOT EXISTS ("
	"SELECT FROM credits.purchases AS p WHERE p.id = u.purchase_id) "
	"UNION ALL SELECT NULL, NULL, 'orphan', 'subscription ' || s.id || "
	"' is of account ' || s.account_id || ', which does not exist' "
	"FROM credits.subscriptions AS s WHERE NOT EXISTS ("
	"SELECT FROM credits.accounts AS a WHERE a.id = s.account_id) "
	"UNION ALL SELECT NULL, NULL, 'orphan', 'a period is of subscription ' || "
	"d.subscription_id || ', which does not exist' "
	"FROM credits.periods AS d WHERE NOT EXISTS ("
	"SELECT FROM credits.subscriptions AS s WHERE s.id = d.subscription_id) "
	"UNION ALL SELECT NULL, NULL, 'orphan', 'refund ' || r.reference || "
	"' of subscription ' || r.subscription_id || ' is of no period' "
	"FROM credits.period_refunds AS r WHERE NOT EXISTS ("
	"SELECT FROM credits.periods AS d WHERE d.subscription_id = r.subscription_id "
	"AND d.starts_at = r.starts_at AND d.granted IS NULL) "
	"UNION ALL SELECT NULL, NULL, 'orphan', 'what invoice ' || r.reference || "
	"' says about the period of subscription ' || r.subscription_id || "
	"' until ' || r.ends_at || ' is of no period' "
	"FROM credits.paid_parts AS r WHERE NOT EXISTS ("
	"SELECT FROM credits.periods AS d WHERE d.subscription_id = r.subscription_id "
	"AND d.ends_at = r.ends_at AND d.granted IS NOT NULL) "
	"AND (r.credits >= 0 OR NOT EXISTS (SELECT FROM credits.subscriptions AS s "
	"WHERE s.id = r.subscription_id))",
	none,.by_snapshot = true
};

/* how often each promotion was used in all */
static SqlStatement find_totals = {
	"SELECT NULL::text, NULL::bigint, 'promotion', "
	"'uses of promotion ' || COALESCE(t.promotion, u.promotion) || ' is ' || "
	"COALESCE(t.uses, 0) || ', but should be ' || COALESCE(u.uses, 0) "
	"FROM credits.promotion_totals AS t FULL JOIN ("
	"SELECT promotion, count(*) AS uses FROM credits.promotion_uses "
	"WHERE released_at IS NULL GROUP BY promotion) AS u "
	"ON u.promotion = t.promotion "
	"WHERE COALESCE(t.uses, 0) <> COALESCE(u.uses, 0)",
	none,.by_snapshot = true
};

/*
 * Reports the problems that a statement finds.
 */
void
verify_report_found(Verification *v, SqlStatement *statement, int64 account_id)
{
	MemoryContext old = MemoryContextSwitchTo(v->row);
	Datum		value = Int64GetDatum(account_id);
	SqlResult  *found = statements_run(statement, &value, NULL);
	uint64		i;

	for (i = 0; i < found->nrows; i++)
	{
		Datum		name;
		bool		nobody;
		bool		isnull;
		int64		transaction_id;

		CHECK_FOR_INTERRUPTS();
		name = statements_value(found, i, 1, &nobody);
		v->name = nobody ? NULL : DatumGetTextPP(name);
		transaction_id = DatumGetInt64(statements_value(found, i, 2, &isnull));
		verify_report(v, isnull ? 0 : transaction_id,
					  TextDatumGetCString(statements_value(found, i, 3, &isnull)),
					  TextDatumGetCString(statements_value(found, i, 4, &isnull)));
	}
	v->name = NULL;
	MemoryContextSwitchTo(old);
	MemoryContextReset(v->row);
}

/*
 * Checks the purchases of an account or, without one, of all, and the promotions
 * that they used.
 */
void
verify_purchases(Verification *v, int64 account_id)
{
	bool		all = account_id == 0;

	verify_report_found(v, all ? &grants_of_all : &grants_of_one, account_id);
	verify_report_found(v, all ? &claims_of_all : &claims_of_one, account_id);
	verify_report_found(v, all ? &period_claims_of_all : &period_claims_of_one,
						account_id);
	verify_report_found(v, all ? &uses_of_all : &uses_of_one, account_id);
	if (all)
	{
		verify_report_found(v, &find_totals, 0);
		verify_report_found(v, &find_orphans, 0);
	}
}
