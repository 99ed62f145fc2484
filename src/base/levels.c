/*
 * levels.c
 *	  Levels of a balance at which an account alerts: reading lists of them, and
 *	  the setting credits.alert_levels.
 */
#include "credits.h"

#include "base/levels.h"

#include "common/int.h"

/* the value of credits.alert_levels, NULL if it is empty */
static const Levels *setting = NULL;

/*
 * Skips spaces.
 */
static const char *
skip_spaces(const char *from, const char *end)
{
	while (from < end && *from == ' ')
		from++;
	return from;
}

/*
 * Reads one level, and moves on to what follows it.  Returns false if there is
 * none.
 */
static bool
read_level(const char **from, const char *end, Level *level)
{
	const char *digits = *from;

	level->value = 0;
	while (*from < end && **from >= '0' && **from <= '9')
		if (pg_mul_s64_overflow(level->value, 10, &level->value) ||
			pg_add_s64_overflow(level->value, *(*from)++ - '0', &level->value))
			return false;
	if (*from == digits)
		return false;
	level->percent = *from < end && **from == '%';
	if (!level->percent)
		return true;
	(*from)++;
	return level->value >= 1 && level->value <= 100;
}

/*
 * Reads a list of levels, which may be empty.  Returns false if it is not one.
 */
bool
levels_read(const char *list, size_t len, Levels *levels)
{
	const char *end = list + len;
	const char *from = skip_spaces(list, end);

	levels->n = 0;
	if (from == end)
		return true;
	for (;;)
	{
		if (levels->n == MAX_LEVELS ||
			!read_level(&from, end, &levels->list[levels->n++]))
			return false;
		from = skip_spaces(from, end);
		if (from == end)
			return true;
		if (*from != ',')
			return false;
		from = skip_spaces(from + 1, end);
	}
}

/*
 * Returns the balance below which a level is crossed.  A percentage of an odd
 * base is rounded up, which makes no difference to whole balances below it.
 */
int64
levels_threshold(const Level *level, int64 base)
{
	int64		hundreds = base / 100;
	int64		rest = base % 100;

	if (!level->percent)
		return level->value;
	/* neither product can overflow, as value is at most 100 */
	return hundreds * level->value + (rest * level->value + 99) / 100;
}

/*
 * Returns a level as it is written, palloc'd.
 */
char *
levels_show(const Level *level)
{
	return psprintf(level->percent ? INT64_FORMAT "%%" : INT64_FORMAT, level->value);
}

/*
 * Returns the levels of credits.alert_levels.
 */
const Levels *
levels_setting(void)
{
	static const Levels none = {0};

	return setting ? setting : &none;
}

/*
 * Check hook of credits.alert_levels.  The "extra" data is a Levels, or NULL if
 * the list is empty.
 */
bool
levels_check(char **newval, void **extra, GucSource source)
{
	Levels		levels;

	if (!levels_read(*newval, strlen(*newval), &levels))
	{
		GUC_check_errdetail("It must be empty, or up to %d balances or percentages from 1%% to 100%%, such as \"20%%, 10%%, 5\".",
							MAX_LEVELS);
		return false;
	}
	if (levels.n == 0)
		return true;
	*extra = guc_extra_alloc(sizeof(Levels));
	if (*extra == NULL)
		return false;
	*(Levels *) *extra = levels;
	return true;
}

/*
 * Assign hook of credits.alert_levels.
 */
void
levels_assign(const char *newval, void *extra)
{
	setting = (const Levels *) extra;
}
