/*
 * names.c
 *	  Conversion of the names of enum values.
 *
 * Text from a table or from an argument is converted to an enum as soon as it
 * is read, so that the rest of the code never compares strings.
 */
#include "credits.h"

#include "base/names.h"

/*
 * Returns the index of a name in an array of n names, or -1 if it is not one
 * of them.
 */
int
names_find(const char *const *names, int n, const char *name)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}
