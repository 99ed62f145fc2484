/*
 * placeholders.c
 *	  Placeholders in templates, and the values that take their place.
 *
 * A placeholder, {{name}} or {{name.of.member}}, stands for a value in the detail of
 * the event, or for something that all events have.  When a template is set, it must
 * be well-formed, and each placeholder must be in the example of its kind.  When a
 * message is made, a value that is not there is empty, and nothing is an error: a
 * template must not keep people from being told.
 *
 * Values come from anywhere, so each is cleaned: control characters, and those that
 * change the direction of text, are left out, line ends become spaces in a subject,
 * and what means something in HTML is escaped there.  A value is limited in length.
 *
 * Tested in test/sql/templates.sql.
 */
#include "credits.h"

#include "base/clock.h"
#include "tell/placeholders.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#define MAX_PLACEHOLDERS		500
#define MAX_PLACEHOLDER_BYTES	127
#define MAX_VALUE_BYTES			4096

/*
 * An object or array must be shown as a whole before it is cut, so one that is
 * larger than this is not shown.
 */
#define MAX_NESTED_BYTES		65536

/* placeholders that events of all kinds have, before what is in their detail */
enum
{
	COMMON_KIND,
	COMMON_EVENT_ID,
	COMMON_CREATED_AT,
	COMMON_UNSUBSCRIBE_TOKEN
};

static const char *const common_placeholders[] = {
	[COMMON_KIND] = "kind",
	[COMMON_EVENT_ID] = "event_id",
	[COMMON_CREATED_AT] = "created_at",
	[COMMON_UNSUBSCRIBE_TOKEN] = "unsubscribe_token"
};

/*
 * Finds the next placeholder from a position on.  Sets where its name begins and
 * ends, and what follows it.  Returns NULL if there is none; a {{ that begins no
 * placeholder is returned with an empty name.
 */
static const char *
next_placeholder(const char *from, const char *end, const char **name,
				 size_t *name_len, const char **after)
{
	const char *open = from;
	const char *s;

	while (open + 1 < end && !(open[0] == '{' && open[1] == '{'))
		open++;
	if (open + 1 >= end)
		return NULL;
	s = open + 2;
	while (s < end && *s == ' ')
		s++;
	*name = s;
	while (s < end && (*s == '_' || *s == '.' || (*s >= '0' && *s <= '9') ||
					   (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
		s++;
	*name_len = s - *name;
	while (s < end && *s == ' ')
		s++;
	if (*name_len > MAX_PLACEHOLDER_BYTES || s + 1 >= end || s[0] != '}' ||
		s[1] != '}')
	{
		*name_len = 0;
		*after = open + 2;
	}
	else
		*after = s + 2;
	return open;
}

/*
 * Finds a value in a document by its name, whose parts are separated by dots.
 * Returns NULL if it is not there.
 */
static JsonbValue *
find_value(const Jsonb *document, const char *name, size_t len)
{
	JsonbContainer *container = unconstify(JsonbContainer *, &document->root);
	const char *end = name + len;
	JsonbValue *value = NULL;

	for (;;)
	{
		const char *dot = memchr(name, '.', end - name);
		const char *part_end = dot ? dot : end;

		if (part_end == name || container == NULL)
			return NULL;
		if (JsonContainerIsObject(container))
			value = getKeyJsonValueFromContainer(container, name, part_end - name,
												 NULL);
		else if (JsonContainerIsArray(container) && !JsonContainerIsScalar(container) &&
				 part_end - name <= 4 &&
				 strspn(name, "0123456789") >= (size_t) (part_end - name))
			value = getIthJsonbValueFromContainer(container, atoi(name));
		else
			return NULL;
		if (value == NULL || dot == NULL)
			return value;
		container = value->type == jbvBinary ? value->val.binary.data : NULL;
		name = dot + 1;
	}
}

/*
 * Returns a value as people read it.  Of a long text, only as much is copied as shows
 * that it has to be cut: a template may ask for it hundreds of times.
 */
static char *
show_json(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val,
							pg_mbcliplen(value->val.string.val,
										 value->val.string.len,
										 MAX_VALUE_BYTES + MAX_MULTIBYTE_CHAR_LEN));
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			if (value->val.binary.len > MAX_NESTED_BYTES)
				return pstrdup("...");
			return JsonbToCString(NULL, value->val.binary.data,
								  value->val.binary.len);
		default:
			return pstrdup("");
	}
}

/*
 * Returns the length of a character that a value must not have, 0 for any other: a
 * control character, or one that changes the direction of text.  Line ends and tabs
 * are such characters, too.
 */
static int
harmful_length(const unsigned char *s, const unsigned char *end)
{
	if (s[0] < 0x20 || s[0] == 0x7f)
		return 1;
	if (GetDatabaseEncoding() != PG_UTF8)
		return 0;
	/* U+0080 to U+009F */
	if (s[0] == 0xc2 && end - s >= 2 && s[1] < 0xa0)
		return 2;
	/* U+061C */
	if (s[0] == 0xd8 && end - s >= 2 && s[1] == 0x9c)
		return 2;
	/* U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069 */
	if (s[0] == 0xe2 && end - s >= 3 &&
		((s[1] == 0x80 && (s[2] == 0x8e || s[2] == 0x8f)) ||
		 (s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) ||
		 (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
		return 3;
	return 0;
}

/*
 * Appends a value to a text, cleaned for where it goes.
 */
static void
append_value(StringInfo to, const char *value, TemplatePart part)
{
	const unsigned char *s = (const unsigned char *) value;
	const unsigned char *end = s + pg_mbcliplen(value, strlen(value),
												MAX_VALUE_BYTES);
	bool		cut = *end != '\0';

	while (s < end)
	{
		int			len = harmful_length(s, end);

		if (len == 1 && (*s == '\n' || *s == '\t'))
			appendStringInfoChar(to, part == PART_SUBJECT ? ' ' : (char) *s);
		else if (len > 0)
			;
		else if (part == PART_HTML && *s == '&')
			appendStringInfoString(to, "&amp;");
		else if (part == PART_HTML && *s == '<')
			appendStringInfoString(to, "&lt;");
		else if (part == PART_HTML && *s == '>')
			appendStringInfoString(to, "&gt;");
		else if (part == PART_HTML && *s == '"')
			appendStringInfoString(to, "&quot;");
		else if (part == PART_HTML && *s == '\'')
			appendStringInfoString(to, "&#39;");
		else
			appendStringInfoChar(to, (char) *s);
		s += Max(len, 1);
	}
	if (cut)
		appendStringInfoString(to, "...");
}

/*
 * Returns which of the placeholders that all events have a name is, -1 if none.
 */
static int
common_placeholder(const char *name, size_t len)
{
	int			i;

	for (i = 0; i < (int) lengthof(common_placeholders); i++)
		if (strlen(common_placeholders[i]) == len &&
			memcmp(common_placeholders[i], name, len) == 0)
			return i;
	return -1;
}

/*
 * Returns what a placeholder stands for, NULL if there is nothing.  The caller may
 * free it.
 */
static char *
value_of(const MessageFacts *facts, const char *name, size_t len)
{
	char		buf[MAXDATELEN + 1];
	const int	utc = 0;
	JsonbValue *value;

	switch (common_placeholder(name, len))
	{
		case COMMON_KIND:
			return pstrdup(facts->kind);
		case COMMON_EVENT_ID:
			return psprintf(INT64_FORMAT, facts->event_id);
		case COMMON_CREATED_AT:
			JsonEncodeDateTime(buf, TimestampTzGetDatum(facts->created_at),
							   TIMESTAMPTZOID, &utc);
			return pstrdup(buf);
		case COMMON_UNSUBSCRIBE_TOKEN:
			return facts->unsubscribe_token ? pstrdup(facts->unsubscribe_token) : NULL;
		default:
			value = find_value(facts->detail, name, len);
			return value ? show_json(value) : NULL;
	}
}

/*
 * Puts values in place of the placeholders of a text.
 */
char *
placeholders_fill(const char *text, TemplatePart part, const MessageFacts *facts)
{
	const char *end = text +strlen(text);
	const char *open;
	const char *name;
	const char *after;
	size_t		len;
	StringInfoData filled;

	initStringInfo(&filled);
	while ((open = next_placeholder(text, end, &name, &len, &after)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		appendBinaryStringInfo(&filled, text, open - text);
		if (len == 0)
			appendStringInfoString(&filled, "{{");
		else
		{
			char	   *value = value_of(facts, name, len);

			if (value)
			{
				append_value(&filled, value, part);
				pfree(value);
			}
		}
		text = after;
	}
	appendBinaryStringInfo(&filled, text, end - text);
	return filled.data;
}

/*
 * Returns whether a kind has a placeholder.
 */
static bool
is_known(const Jsonb *example, const char *name, size_t len)
{
	return common_placeholder(name, len) >= 0 ||
		(example && find_value(example, name, len) != NULL);
}

/*
 * Checks the placeholders of a part of a template.
 */
void
placeholders_check(const char *kind, const Jsonb *example, const char *text,
				   const char *part)
{
	const char *begin = text;
	const char *end = text +strlen(text);
	const char *open;
	const char *name;
	const char *after;
	size_t		len;
	int			n = 0;

	while ((open = next_placeholder(text, end, &name, &len, &after)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (len == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has a malformed placeholder", part),
					 errdetail("The {{ at byte %d begins none.",
							   (int) (open - begin) + 1),
					 errhint("Write {{name}}, with letters, digits, underscores and dots.")));
		if (!is_known(example, name, len))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has an unknown placeholder", part),
					 errdetail("Events of kind %s have no \"%s\".", kind,
							   pnstrdup(name, len)),
					 errhint("See the example of the kind in credits.event_kinds; all kinds have kind, event_id, created_at and unsubscribe_token.")));
		if (++n > MAX_PLACEHOLDERS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has too many placeholders", part),
					 errdetail("At most %d are allowed.", MAX_PLACEHOLDERS),
					 errhint("Use fewer.")));
		text = after;
	}
}
