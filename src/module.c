/*
 * module.c
 *	  Initialization of the loadable module.
 */
#include "credits.h"

#include "base/settings.h"
#include "ledger/roles.h"
#include "ledger/rows.h"
#include "ledger/settle.h"
#include "subscribe/renew.h"

CREDITS_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Defines the settings, initializes the store and tells the rooms below what to call
 * of those above, when the library is loaded.
 */
void
_PG_init(void)
{
	settings_define();
	rows_init();
	roles_init();
	settle_set_renewal(renew_account);
}
