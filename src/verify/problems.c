/*
 * problems.c
 *	  credits_verify: reporting problems as rows of the result.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "verify/verify.h"

#include "utils/builtins.h"
#include "utils/tuplestore.h"

/*
 * Reports a problem with the current account.  transaction_id is 0 if the
 * problem does not concern one transaction.
 */
void
verify_report(Verification *v, int64 transaction_id, const char *problem,
			  const char *detail)
{
	Datum		values[4];
	bool		isnull[4] = {false};

	if (v->closure)
		verify_refuse_closing(v, transaction_id, problem, detail);
	values[0] = PointerGetDatum(v->name);
	isnull[0] = v->name == NULL;
	values[1] = Int64GetDatum(transaction_id);
	isnull[1] = transaction_id == 0;
	values[2] = CStringGetTextDatum(problem);
	values[3] = CStringGetTextDatum(detail);
	tuplestore_putvalues(v->result->setResult, v->result->setDesc, values,
						 isnull);
}

/*
 * Reports a row that does not belong to any account.
 */
void
verify_orphan(Verification *v, int64 transaction_id, const char *detail)
{
	text	   *name = v->name;

	v->name = NULL;
	verify_report(v, transaction_id, "orphan", detail);
	v->name = name;
}

/*
 * Reports a number that is not what it should be.
 */
void
verify_expect(Verification *v, int64 transaction_id, const char *problem,
			  const char *what, int64 is, int64 should)
{
	if (is != should)
		verify_report(v, transaction_id, problem,
					  psprintf("%s is " INT64_FORMAT ", but should be " INT64_FORMAT,
							   what, is, should));
}

/*
 * Adds two numbers, which may be arbitrary in a damaged table.  Wraps around
 * on overflow, because the sum will then differ from the expected one anyway.
 */
int64
verify_add(int64 a, int64 b)
{
	return (int64) ((uint64) a + (uint64) b);
}

/*
 * Returns whether two documents, which may be NULL, are equal.
 */
bool
verify_same(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}
