/*
 * sms.c
 *	  How much text a text message holds.
 *
 * A message that is longer than one part is sent in several: each has 153 characters
 * of the GSM 7-bit alphabet, some of which count as two, or, if one character is not
 * in that alphabet, 67 code units of UTF-16.  No character is split between parts.
 * See 3GPP TS 23.038, 6.2.1, and TS 23.040, 9.2.3.24.1.
 *
 * Tested in test/sql/templates.sql.
 */
#include "credits.h"

#include "tell/sms.h"

#include "mb/pg_wchar.h"

#define MAX_PARTS 10
#define GSM_UNITS_PER_PART 153
#define UTF16_UNITS_PER_PART 67

/* what is put in place of the rest of a text that is too long */
#define DOTS "..."
#define DOTS_UNITS 3

/* the GSM alphabet outside ASCII, in order */
static const uint16 gsm_letters[] = {
	0x00a1, 0x00a3, 0x00a4, 0x00a5, 0x00a7, 0x00bf, 0x00c4, 0x00c5, 0x00c6, 0x00c7,
	0x00c9, 0x00d1, 0x00d6, 0x00d8, 0x00dc, 0x00df, 0x00e0, 0x00e4, 0x00e5, 0x00e6,
	0x00e8, 0x00e9, 0x00ec, 0x00f1, 0x00f2, 0x00f6, 0x00f8, 0x00f9, 0x00fc, 0x0393,
	0x0394, 0x0398, 0x039b, 0x039e, 0x03a0, 0x03a3, 0x03a6, 0x03a8, 0x03a9
};

/* What became of fitting a text into the parts */
typedef enum SmsFit
{
	SMS_FITS,
	SMS_TOO_LONG,
	SMS_OTHER_ALPHABET
} SmsFit;

/*
 * Returns how many units a character has in the GSM alphabet, 0 if it is not in it.
 */
static int
gsm_units(pg_wchar c)
{
	int			i;

	if (c == 0x20ac || (c != 0 && c < 0x80 && strchr("^{}\\[~]|", (int) c)))
		return 2;
	if (c == '\n' || c == '\r' || (c >= 0x20 && c < 0x7f && c != '`'))
		return 1;
	for (i = 0; i < (int) lengthof(gsm_letters); i++)
		if (gsm_letters[i] == c)
			return 1;
	return 0;
}

/*
 * Fits a text into the parts, in one alphabet.  Sets how many of its characters fit
 * with the dots after them.
 */
static SmsFit
fit(const unsigned char *s, int encoding, bool gsm, int *nchars)
{
	int			capacity = gsm ? GSM_UNITS_PER_PART : UTF16_UNITS_PER_PART;
	int			part = 1;
	int			used = 0;
	int			n = 0;

	*nchars = 0;
	while (*s)
	{
		/* what the bytes of SQL_ASCII mean is not known */
		pg_wchar	c = encoding == PG_UTF8 ? utf8_to_unicode(s) : *s;
		int			units = gsm ? gsm_units(c) : c > 0xffff ? 2 : 1;

		if (units == 0)
			return SMS_OTHER_ALPHABET;
		if (used + units > capacity)
		{
			part++;
			used = 0;
		}
		if (part > MAX_PARTS)
			return SMS_TOO_LONG;
		used += units;
		n++;
		if (part < MAX_PARTS || used + DOTS_UNITS <= capacity)
			*nchars = n;
		s += encoding == PG_UTF8 ? pg_utf_mblen(s) : 1;
	}
	return SMS_FITS;
}

/*
 * Cuts a text so that a text message holds it, and ends it with dots then.
 */
char *
sms_cut(char *text)
{
	int			len = strlen(text);
	int			encoding = GetDatabaseEncoding() == PG_SQL_ASCII ? PG_SQL_ASCII :
		PG_UTF8;
	unsigned char *s = (unsigned char *) text;
	SmsFit		fits;
	int			nchars;

	if (encoding == PG_UTF8)
		s = (unsigned char *) pg_server_to_any(text, len, PG_UTF8);
	fits = fit(s, encoding, true, &nchars);
	if (fits == SMS_OTHER_ALPHABET)
		fits = fit(s, encoding, false, &nchars);
	if (fits == SMS_FITS)
		return text;

	return psprintf("%.*s" DOTS, pg_mbcharcliplen(text, len, nchars), text);
}
