/*
 * locales.c
 *	  Names of languages and regions, such as de-AT.
 *
 * They have the shape of RFC 5646 (BCP 47): a language of 2 to 8 letters, and
 * subtags of 1 to 8 letters and digits.  The case of letters makes no difference;
 * we write them as section 2.1.1 recommends, so that equal names have equal bytes.
 * Whether there is such a language is not checked.
 */
#include "credits.h"

#include "base/args.h"
#include "base/locales.h"

#include "utils/builtins.h"

/*
 * Writes a subtag in its usual case: scripts as Latn, regions as AT, everything
 * else, and what follows a singleton, in small letters.
 */
static void
write_subtag(char *to, const char *from, size_t len, bool first, bool extension)
{
	size_t		i;

	for (i = 0; i < len; i++)
		to[i] = pg_ascii_tolower((unsigned char) from[i]);
	if (first || extension)
		return;
	if (len == 2)
	{
		to[0] = pg_ascii_toupper((unsigned char) to[0]);
		to[1] = pg_ascii_toupper((unsigned char) to[1]);
	}
	else if (len == 4)
		to[0] = pg_ascii_toupper((unsigned char) to[0]);
}

/*
 * Returns whether a character is an ASCII letter or, if allowed, a digit.
 */
static bool
is_tag_char(char c, bool digits)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(digits && c >= '0' && c <= '9');
}

/*
 * Checks the name of a locale and writes it into a buffer of MAX_LOCALE_BYTES + 1
 * bytes, in its usual case.  Returns false if it does not have the shape of one.
 */
bool
locales_read(const char *name, size_t len, char *canonical)
{
	bool		extension = false;
	size_t		from = 0;

	if (len > MAX_LOCALE_BYTES)
		return false;
	while (from <= len)
	{
		size_t		to = from;

		while (to < len && is_tag_char(name[to], from > 0))
			to++;
		if (to - from < (from == 0 ? 2 : 1) || to - from > 8 ||
			(to < len && name[to] != '-'))
			return false;
		write_subtag(canonical + from, name + from, to - from, from == 0,
					 extension);
		extension = extension || to - from == 1;
		if (to < len)
			canonical[to] = '-';
		from = to + 1;
	}
	canonical[len] = '\0';
	return true;
}

/*
 * Returns an argument that is the name of a locale, in its usual case, or NULL if
 * it is null.
 */
text *
arg_locale(FunctionCallInfo fcinfo, int n)
{
	char		canonical[MAX_LOCALE_BYTES + 1];
	text	   *locale;

	if (PG_ARGISNULL(n))
		return NULL;
	locale = PG_GETARG_TEXT_PP(n);
	if (!locales_read(VARDATA_ANY(locale), VARSIZE_ANY_EXHDR(locale), canonical))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid locale"),
				 errdetail("It is \"%s\".", show_value(text_to_cstring(locale))),
				 errhint("Pass a language and, if wanted, a region, such as en or de-AT.")));
	return cstring_to_text(canonical);
}

/*
 * Makes a name more general, by its last subtag, as lookup in RFC 4647 does.
 * Returns false if there is none.
 */
bool
locales_shorten(char *name)
{
	char	   *last = strrchr(name, '-');

	if (last == NULL)
		return false;
	*last = '\0';
	/* a singleton says nothing without what follows it */
	if (last - name >= 2 && last[-2] == '-')
		last[-2] = '\0';
	return true;
}

/*
 * Check hook of credits.default_locale.
 */
bool
locales_check(char **newval, void **extra, GucSource source)
{
	char		canonical[MAX_LOCALE_BYTES + 1];

	if (locales_read(*newval, strlen(*newval), canonical))
		return true;
	GUC_check_errdetail("It must be a language and, if wanted, a region, such as \"en\" or \"de-AT\".");
	return false;
}
