/*
 * pools.c
 *	  Proving pools: that no pool is in itself, and that whoever is a member could
 *	  be made one.  caps.c proves what they have used.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "verify/verify.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Checks that a pool is not in itself.
 */
static void
check_above(Verification *v, int64 pool_id)
{
	if (members_has_id(members_above(NULL, GetActiveSnapshot(), pool_id),
					   pool_id))
		verify_report(v, 0, "members", "the pool is in itself, through its members");
}

/*
 * Checks that a member is an account, and has the pool's unit.
 */
static void
check_accounts_of(Verification *v, const Account *pool, const Member *member)
{
	Account		account;

	if (!rows_find_account(NULL, GetActiveSnapshot(), NULL, member->account_id,
						   &account))
		verify_report(v, 0, "orphan",
					  psprintf("member " INT64_FORMAT " does not exist",
							   member->account_id));
	else if (!same_text(pool->unit, account.unit))
		verify_report(v, 0, "members",
					  psprintf("member " INT64_FORMAT " has another unit",
							   member->account_id));
}

/*
 * Checks the members of a pool or, without one, all members.
 */
void
verify_pools(Verification *v, int64 pool_id)
{
	Account		pool = {.id = 0};
	bool		exists = false;
	StoreScan	scan;
	Member		member;

	scan_begin_by(&scan, NULL, &members_by_pool, GetActiveSnapshot(),
				  &BY_INT64(pool_id), pool_id != 0 ? 1 : 0);
	while (scan_peek(&scan, ForwardScanDirection, &member))
	{
		MemoryContext old;

		if (member.pool_id != pool.id)
		{
			MemoryContextReset(v->context);
			old = MemoryContextSwitchTo(v->context);
			exists = rows_find_account(NULL, GetActiveSnapshot(), NULL,
									   member.pool_id, &pool);
			pool.id = member.pool_id;
			v->name = exists ? pool.name : NULL;
			if (!exists)
				verify_orphan(v, 0,
							  psprintf("pool " INT64_FORMAT " has members, but does not exist",
									   pool.id));
			check_above(v, pool.id);
			MemoryContextSwitchTo(old);
		}
		old = MemoryContextSwitchTo(v->row);
		if (exists)
			check_accounts_of(v, &pool, &member);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	scan_end(&scan);
}
