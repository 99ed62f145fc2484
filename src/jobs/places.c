/*
 * places.c
 *	  The list of places where something is held about a person.
 *
 * Tested in test/sql/privacy.sql, and whether it is complete in test/pgtap/privacy.sql.
 */
#include "credits.h"

#include "jobs/places.h"
#include "ledger/ledger.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_personal_data);
PG_FUNCTION_INFO_V1(credits_export_person);

const Oid	place_export_types[] = {INT8OID, TEXTOID, InvalidOid};
const Oid	place_step_types[] = {
	INT8OID, TEXTOID, TEXTOID, BYTEAOID, TEXTOID, INT4OID, InvalidOid
};

static Place *const lists[] = {
	ledger_places, service_places, stripe_places, plain_places
};

/*
 * Returns a place by its number, from 0, NULL if there are no more.
 */
Place *
places_get(int i)
{
	int			list;
	Place	   *place;

	for (list = 0; list < (int) lengthof(lists); list++)
		for (place = lists[list]; place->table; place++)
			if (i-- == 0)
				return place;
	return NULL;
}

/*
 * Returns the number of the place that a table is; that of the first if there is none,
 * since another version of the extension may have had it.
 */
int
places_find(const char *table)
{
	int			i;

	for (i = 0; table && places_get(i); i++)
		if (strcmp(places_get(i)->table, table) == 0)
			return i;
	return 0;
}

/*
 * Returns columns to the caller, whose names are separated by spaces.
 */
static void
return_columns(ReturnSetInfo *set, const Place *place, const char *columns,
			   bool erased)
{
	char	   *rest = pstrdup(columns);
	char	   *name;

	while ((name = strtok_r(rest, " ", &rest)) != NULL)
	{
		Datum		values[5];
		bool		isnull[5] = {false, false, false, false, erased};

		values[0] = CStringGetTextDatum(place->table);
		values[1] = CStringGetTextDatum(name);
		values[2] = BoolGetDatum(erased);
		values[3] = BoolGetDatum(place->export.text ? true : false);
		values[4] = erased ? (Datum) 0 : CStringGetTextDatum(place->reason);
		tuplestore_putvalues(set->setResult, set->setDesc, values, isnull);
	}
}

/*
 * SQL function: returns every column of every table, and what becomes of it.
 */
Datum
credits_personal_data(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(set->setDesc, 5);
	for (i = 0; places_get(i); i++)
	{
		const Place *place = places_get(i);

		return_columns(set, place, place->erased, true);
		return_columns(set, place, place->kept, false);
	}
	return (Datum) 0;
}

/* The arguments of return_items */
typedef struct Exported
{
	ReturnSetInfo *set;
	const char *place;
} Exported;

/*
 * Returns rows of a place to the caller.
 */
static void
return_items(const SqlResult *page, void *arg)
{
	const Exported *exported = arg;
	uint64		i;

	for (i = 0; i < page->nrows; i++)
	{
		Datum		values[2];
		bool		isnull[2] = {false, false};

		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(exported->place);
		values[1] = statements_value(page, i, 1, &isnull[1]);
		tuplestore_putvalues(exported->set->setResult, exported->set->setDesc,
							 values, isnull);
		pfree(DatumGetPointer(values[0]));
	}
}

/*
 * SQL function: returns everything that is held about the person who has an account.
 * What does not fit into work_mem is kept in a temporary file.
 */
Datum
credits_export_person(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	Exported	exported = {.set = set};
	Account		account;
	Datum		values[2];
	int			i;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(set->setDesc, 2);
	guards_find_account(GetActiveSnapshot(), name, &account);
	values[0] = Int64GetDatum(account.id);
	values[1] = PointerGetDatum(name);
	for (i = 0; places_get(i); i++)
	{
		Place	   *place = places_get(i);

		if (place->export.text == NULL)
			continue;
		exported.place = place->table;
		statements_visit(&place->export, values, return_items, &exported);
	}
	return (Datum) 0;
}
