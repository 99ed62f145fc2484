/*
 * corrections.c
 *	  credits_verify: corrections of many accounts.
 *
 * A correction that has ended was made to all accounts that it accepts, or to none of
 * them: so say its items, and the log says that they are right.  What belongs to a
 * correction that is being applied or reverted is checked as far as it has come.
 */
#include "credits.h"

#include "verify/verify.h"
#include "store/statements.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* items that are not what the status of their correction says */
static SqlStatement find_by_status = {
	"SELECT c.id, i.number, i.transaction_id, CASE"
	" WHEN c.id IS NULL THEN 'belongs to no correction'"
	" WHEN c.status = 'previewed' THEN 'was posted, but the correction was only previewed'"
	" WHEN c.status = 'refused' THEN 'stands, but the correction was refused'"
	" WHEN i.transaction_id IS NULL THEN 'was not posted, but the correction was applied'"
	" ELSE 'was undone, but the correction was not refused' END"
	" FROM credits.correction_items AS i"
	" LEFT JOIN credits.corrections AS c ON c.id = i.correction_id"
	" WHERE c.id IS NULL OR CASE c.status"
	" WHEN 'previewed' THEN i.transaction_id IS NOT NULL"
	" WHEN 'refused' THEN i.transaction_id IS NOT NULL AND i.reverted_id IS NULL"
	" WHEN 'applied' THEN (i.code IS NULL) <> (i.transaction_id IS NOT NULL) OR i.reverted_id IS NOT NULL"
	" WHEN 'applying' THEN i.reverted_id IS NOT NULL ELSE false END",
	(const Oid[]) {InvalidOid},.by_snapshot = true
};

/* items whose transactions are not what they should be; up to $1 they have left the log */
static SqlStatement find_by_log = {
	"SELECT i.correction_id, i.number, i.transaction_id,"
	" 'has a transaction that is not its adjustment'"
	" FROM credits.correction_items AS i"
	" JOIN credits.corrections AS c ON c.id = i.correction_id"
	" LEFT JOIN credits.log AS t ON t.id = i.transaction_id"
	" WHERE i.transaction_id > $1"
	" AND (t.account_id, t.kind_code, t.amount) IS DISTINCT FROM (i.account_id, 'j'::\"char\", c.delta)"
	" UNION ALL "
	"SELECT i.correction_id, i.number, i.reverted_id,"
	" 'has a transaction that does not undo its adjustment'"
	" FROM credits.correction_items AS i"
	" JOIN credits.corrections AS c ON c.id = i.correction_id"
	" LEFT JOIN credits.log AS t ON t.id = i.reverted_id"
	" WHERE i.reverted_id > $1"
	" AND ((t.account_id, t.target_id) IS DISTINCT FROM (i.account_id, i.transaction_id)"
	" OR NOT CASE WHEN c.delta < 0 THEN t.kind_code = 'j' AND t.amount = - c.delta"
	" ELSE t.kind_code = 'w' AND t.amount <= 0 AND t.amount >= - c.delta END)",
	(const Oid[]) {INT8OID, InvalidOid},.by_snapshot = true
};

/* corrections whose sums are not those of their items */
static SqlStatement find_by_sums = {
	"SELECT c.id, NULL::integer, NULL::bigint, 'has other sums than its items'"
	" FROM credits.corrections AS c"
	" LEFT JOIN (SELECT i.correction_id, count(*) AS n,"
	" count(*) FILTER (WHERE i.code IS NULL) AS accepted,"
	" sum(i.balance) FILTER (WHERE i.code IS NULL) AS before,"
	" sum(i.balance_after) AS after FROM credits.correction_items AS i"
	" GROUP BY i.correction_id) AS s ON s.correction_id = c.id"
	" WHERE (COALESCE(s.n, 0), COALESCE(s.accepted, 0), COALESCE(s.before, 0), COALESCE(s.after, 0))"
	" IS DISTINCT FROM (c.accounts::bigint, c.accepted::bigint, c.balance_before, c.balance_after)"
	/* credits_housekeep deletes it, some items at a time */
	" AND NOT (c.status = 'previewed' AND c.expires_at <= credits.now())",
	(const Oid[]) {InvalidOid},.by_snapshot = true
};

/*
 * Reports what a statement has found.
 */
static void
report_corrections(const SqlResult *page, void *arg)
{
	Verification *v = arg;
	uint64		i;

	for (i = 0; i < page->nrows; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(v->row);
		bool		no_id;
		bool		no_number;
		bool		no_transaction;
		bool		isnull;
		Datum		id = statements_value(page, i, 1, &no_id);
		Datum		number = statements_value(page, i, 2, &no_number);
		Datum		transaction_id = statements_value(page, i, 3, &no_transaction);
		StringInfoData detail;

		CHECK_FOR_INTERRUPTS();
		initStringInfo(&detail);
		if (!no_number)
			appendStringInfo(&detail, "account number %d of ", DatumGetInt32(number));
		if (no_id)
			appendStringInfoString(&detail, "a correction ");
		else
			appendStringInfo(&detail, "correction " INT64_FORMAT " ", DatumGetInt64(id));
		appendStringInfoString(&detail,
							   TextDatumGetCString(statements_value(page, i, 4, &isnull)));
		verify_report(v, no_transaction ? 0 : DatumGetInt64(transaction_id), "correction",
					  detail.data);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
}

/*
 * Checks all corrections.
 */
void
verify_all_corrections(Verification *v)
{
	Datum		left_until = Int64GetDatum(v->left_until);

	v->name = NULL;
	statements_visit(&find_by_status, NULL, report_corrections, v);
	statements_visit(&find_by_log, &left_until, report_corrections, v);
	statements_visit(&find_by_sums, NULL, report_corrections, v);
}
