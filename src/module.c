/*
 * module.c
 *	  Initialization of the loadable module.
 */
#include "credits.h"

#include "base/settings.h"
#include "ledger/rows.h"

CREDITS_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Defines the settings and initializes the store when the library is loaded.
 */
void
_PG_init(void)
{
	settings_define();
	rows_init();
}
