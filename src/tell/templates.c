/*
 * templates.c
 *	  Templates: what people are told of events.
 *
 * A placeholder, {{name}} or {{name.of.member}}, stands for a value in the detail of
 * the event.  When a template is set, it must be well-formed, and each placeholder
 * must be in the example of its kind.  When a message is made, a value that is not
 * there is empty, and nothing is an error: a template must not keep people from
 * being told.
 *
 * Values come from anywhere, so each is cleaned: control characters, and those that
 * change the direction of text, are left out, line ends become spaces in a subject,
 * and what means something in HTML is escaped there.  A value and a message are
 * limited in length.
 *
 * Versions are numbered, and two sessions that set the same template at once cannot
 * both take a number: the second one starts from what the first has set.
 *
 * Tested in test/sql/templates.sql.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/event_kinds.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/templates.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"

PG_FUNCTION_INFO_V1(credits_set_template);
PG_FUNCTION_INFO_V1(credits_retire_template);
PG_FUNCTION_INFO_V1(credits_preview_template);

#define MAX_SUBJECT_BYTES		500
#define MAX_BODY_BYTES			65536
#define MAX_HTML_BYTES			262144
#define MAX_PLACEHOLDERS		500
#define MAX_PLACEHOLDER_BYTES	127
#define MAX_VALUE_BYTES			4096
#define MAX_DETAIL_BYTES		65536

/* what is sent: a subject, ten parts of a text message, and a payload of 4 kB */
#define MAX_SENT_SUBJECT_BYTES	500
#define MAX_SMS_CHARS			1530
#define MAX_PUSH_TITLE_BYTES	200
#define MAX_PUSH_BODY_BYTES		1500

/* more than de-AT, de, two of the setting, and en */
#define MAX_LOCALES				20

/* stands for all channels */
#define ALL_CHANNELS "*"

/* Where a text goes, which determines what may be in it */
typedef enum TemplatePart
{
	PART_SUBJECT,
	PART_BODY,
	PART_HTML
} TemplatePart;

static const char *const template_part_names[] = {"subject", "body", "html"};
static const int template_part_bytes[] = {
	MAX_SUBJECT_BYTES, MAX_BODY_BYTES, MAX_HTML_BYTES
};

/* placeholders that events of all kinds have */
static const char *const common_placeholders[] = {
	"kind", "event_id", "created_at", "unsubscribe_token"
};

/* the arguments of credits_set_template */
enum
{
	SET_TEMPLATE_KIND,
	SET_TEMPLATE_CHANNEL,
	SET_TEMPLATE_LOCALE,
	SET_TEMPLATE_SUBJECT,
	SET_TEMPLATE_BODY,
	SET_TEMPLATE_HTML
};

static const SetArg set_template_args[] = {
	[SET_TEMPLATE_KIND] = {"kind", SET_NAMES},
	[SET_TEMPLATE_CHANNEL] = {"channel", SET_NAMES},
	[SET_TEMPLATE_LOCALE] = {"locale", SET_NAMES},
	[SET_TEMPLATE_SUBJECT] = {"subject", SET_KEEPS},
	[SET_TEMPLATE_BODY] = {"body", SET_NEEDED},
	[SET_TEMPLATE_HTML] = {"html", SET_KEEPS}
};

static SqlStatement find_newest = {
	"SELECT id, version, subject, body, html FROM credits.templates"
	" WHERE kind = $1 AND channel = $2 AND locale = $3"
	" ORDER BY version DESC LIMIT 1",
	(const Oid[]) {TEXTOID, TEXTOID, TEXTOID, InvalidOid}
};

static SqlStatement insert_template = {
	"INSERT INTO credits.templates (id, kind, channel, locale, version, subject,"
	" body, html, created_at, role)"
	" VALUES (nextval('credits.templates_id_seq'), $1, $2, $3, $4, $5, $6, $7, $8,"
	" session_user) ON CONFLICT (kind, channel, locale, version) DO NOTHING"
	" RETURNING id",
	(const Oid[]) {
		TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID,
		TIMESTAMPTZOID, InvalidOid
	}
};

/* the language counts more than the channel */
static SqlStatement find_template = {
	"SELECT t.id, t.subject, t.body, t.html"
	" FROM unnest($3) WITH ORDINALITY AS l (locale, n)"
	" CROSS JOIN unnest(ARRAY[$2, '*']) WITH ORDINALITY AS c (channel, n)"
	" CROSS JOIN LATERAL (SELECT v.id, v.subject, v.body, v.html"
	" FROM credits.templates AS v WHERE v.kind = $1 AND v.channel = c.channel"
	" AND v.locale = l.locale ORDER BY v.version DESC LIMIT 1) AS t"
	" WHERE t.body IS NOT NULL ORDER BY l.n, c.n LIMIT 1",
	(const Oid[]) {TEXTOID, TEXTOID, TEXTARRAYOID, InvalidOid}
};

static SqlStatement find_default = {
	"SELECT subject, body, example FROM credits.event_kinds WHERE kind = $1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * placeholders
 */

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
 * Returns a value as people read it.
 */
static char *
show_json(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
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
 * Puts values in place of the placeholders of a text.
 */
static char *
fill_template(const char *text, TemplatePart part, const char *kind,
			  const Jsonb *detail, const Jsonb *more)
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
		JsonbValue *value = NULL;

		CHECK_FOR_INTERRUPTS();
		appendBinaryStringInfo(&filled, text, open - text);
		text = after;

		if (len == 0)
		{
			appendStringInfoString(&filled, "{{");
			continue;
		}
		if (len == strlen("kind") && memcmp(name, "kind", len) == 0)
		{
			append_value(&filled, kind, part);
			continue;
		}
		if (more)
			value = find_value(more, name, len);
		if (value == NULL)
			value = find_value(detail, name, len);
		if (value)
			append_value(&filled, show_json(value), part);
	}
	appendBinaryStringInfo(&filled, text, end - text);
	return filled.data;
}

/* ------------------------------------------------------------------------
 * rendering
 */

/*
 * Adds a language and those that are more general to a list.
 */
static int
add_locales(Datum *locales, int n, const char *name)
{
	char		locale[MAX_LOCALE_BYTES + 1];

	if (name == NULL || !locales_read(name, strlen(name), locale))
		return n;
	do
	{
		if (n < MAX_LOCALES)
			locales[n++] = CStringGetTextDatum(locale);
	} while (locales_shorten(locale));
	return n;
}

/*
 * Returns the languages in which a template may be, the wanted one first.
 */
static Datum
wanted_locales(const char *locale)
{
	Datum		locales[MAX_LOCALES + 1];
	int			n = add_locales(locales, 0, locale);

	n = add_locales(locales, n, setting_default_locale);
	locales[n++] = CStringGetTextDatum("en");
	return PointerGetDatum(construct_array(locales, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/*
 * Returns a column of the first row of a result as a string, NULL if it is null.
 */
static char *
string_of(const SqlResult *result, int column)
{
	bool		isnull;
	Datum		value = statements_value(result, 0, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/*
 * Returns subject, body and example of a kind, as they came with the extension.
 */
static SqlResult *
find_default_template(const char *kind)
{
	Datum		value = CStringGetTextDatum(kind);

	return statements_run(&find_default, &value, NULL);
}

/*
 * Finds the template for a kind, a channel and a language.
 */
static void
choose_template(const char *kind, Channel channel, const char *locale,
				RenderedMessage *template)
{
	Datum		values[3];
	SqlResult  *result;
	bool		isnull;

	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(channel_names[channel]);
	values[2] = wanted_locales(locale);
	memset(template, 0, sizeof(RenderedMessage));
	result = statements_run(&find_template, values, NULL);
	if (result->nrows > 0)
	{
		template->template_id = DatumGetInt64(statements_value(result, 0, 1,
															   &isnull));
		template->subject = string_of(result, 2);
		template->body = string_of(result, 3);
		template->html = string_of(result, 4);
		return;
	}
	result = find_default_template(kind);
	if (result->nrows > 0)
	{
		template->subject = string_of(result, 1);
		template->body = string_of(result, 2);
	}
}

/*
 * Cuts a text to a number of bytes, and says so.
 */
static char *
cut_bytes(char *s, int max)
{
	int			len = strlen(s);

	if (len <= max)
		return s;
	return psprintf("%.*s...", pg_mbcliplen(s, len, max - 3), s);
}

/*
 * Returns the payload of a push message.
 */
static char *
push_payload(const char *kind, char *subject, char *body)
{
	JsonObject	json;

	json_begin(&json);
	json_cstring(&json, "kind", kind);
	json_cstring(&json, "title", cut_bytes(subject, MAX_PUSH_TITLE_BYTES));
	json_cstring(&json, "body", cut_bytes(body, MAX_PUSH_BODY_BYTES));
	return json_to_cstring(json_document(&json));
}

/*
 * Makes a message of a template: fills it, and gives it the form of its channel.
 */
static void
render_template(const RenderedMessage *template, const char *kind,
				Channel channel, const Jsonb *detail, const Jsonb *more,
				RenderedMessage *message)
{
	char	   *subject;
	char	   *body;

	memset(message, 0, sizeof(RenderedMessage));
	message->template_id = template->template_id;
	if (channel == CHANNEL_WEBHOOK)
	{
		message->template_id = 0;
		message->body = json_to_cstring(unconstify(Jsonb *, detail));
		return;
	}
	subject = fill_template(template->subject ? template->subject : "",
							PART_SUBJECT, kind, detail, more);
	body = fill_template(template->body ? template->body : "", PART_BODY, kind,
						 detail, more);
	if (channel == CHANNEL_SMS)
	{
		int			len = strlen(body);
		int			fits = pg_mbcharcliplen(body, len, MAX_SMS_CHARS);

		if (fits < len)
			body = psprintf("%.*s...",
							pg_mbcharcliplen(body, len, MAX_SMS_CHARS - 3), body);
		message->body = body;
		return;
	}
	if (channel == CHANNEL_PUSH)
	{
		message->body = push_payload(kind, subject, body);
		return;
	}
	message->subject = cut_bytes(subject, MAX_SENT_SUBJECT_BYTES);
	message->body = body;
	if (template->html)
		message->html = fill_template(template->html, PART_HTML, kind, detail,
									  more);
}

/*
 * Makes the message that an event becomes.
 */
void
templates_render(const char *kind, Channel channel, const char *locale,
				 const Jsonb *detail, const Jsonb *more,
				 RenderedMessage *message)
{
	RenderedMessage template = {0};

	if (channel != CHANNEL_WEBHOOK)
		choose_template(kind, channel, locale, &template);
	render_template(&template, kind, channel, detail, more, message);
}

/* ------------------------------------------------------------------------
 * setting
 */

/*
 * Returns whether a kind has a placeholder.
 */
static bool
is_known(const Jsonb *example, const char *name, size_t len)
{
	int			i;

	for (i = 0; i < (int) lengthof(common_placeholders); i++)
		if (strlen(common_placeholders[i]) == len &&
			memcmp(common_placeholders[i], name, len) == 0)
			return true;
	return example && find_value(example, name, len) != NULL;
}

/*
 * Checks the placeholders of a part of a template.
 */
static void
check_placeholders(const char *kind, const Jsonb *example, const char *text,
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

/*
 * Returns an argument that is a part of a template, NULL if it is null.
 */
static char *
arg_part(FunctionCallInfo fcinfo, int n, TemplatePart part, const char *kind,
		 const Jsonb *example)
{
	const char *name = template_part_names[part];
	text	   *value = arg_text(fcinfo, n, name, template_part_bytes[part]);
	char	   *s;
	const char *c;

	if (value == NULL)
		return NULL;
	s = text_to_cstring(value);
	for (c = s; *c; c++)
		if (((unsigned char) *c < 0x20 &&
			 (part == PART_SUBJECT || strchr("\t\r\n", *c) == NULL)) || *c == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain control characters", name),
					 errdetail("Byte %d is one.", (int) (c - s) + 1),
					 errhint("Remove it; line ends and tabs are allowed in body and html.")));
	check_placeholders(kind, example, s, name);
	return s;
}

/*
 * Returns an argument that is a channel for which there are templates,
 * CHANNEL_UNKNOWN for all if it is null.
 */
static Channel
arg_template_channel(FunctionCallInfo fcinfo, int n)
{
	Channel		channel = PG_ARGISNULL(n) ? CHANNEL_UNKNOWN :
		(Channel) ARG_CHOICE(n, "channel", channel_names);

	if (channel == CHANNEL_WEBHOOK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are no templates for webhooks"),
				 errdetail("A webhook gets the event as JSON."),
				 errhint("Pass email, sms, push or inbox, or no channel for all of them.")));
	return channel;
}

/*
 * Checks which parts a template of a channel has.
 */
static void
check_parts(Channel channel, const char *subject, const char *html)
{
	if (channel != CHANNEL_SMS && subject == NULL)
		raise_null("subject");
	if (channel == CHANNEL_SMS && subject)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a template for sms has no subject"),
				 errhint("Pass body only.")));
	if ((channel == CHANNEL_SMS || channel == CHANNEL_PUSH) && html)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a template for %s has no html", channel_names[channel]),
				 errhint("Set html for email or inbox, or without a channel.")));
}

/*
 * Sets what a template is for as the first parameters of a statement.
 */
static void
fill_template_key(FunctionCallInfo fcinfo, const char *kind, Channel channel,
				  Datum *values)
{
	text	   *locale = arg_locale(fcinfo, SET_TEMPLATE_LOCALE);

	if (locale == NULL)
		raise_null("locale");
	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(channel == CHANNEL_UNKNOWN ? ALL_CHANNELS :
									channel_names[channel]);
	values[2] = PointerGetDatum(locale);
}

/*
 * Completes the arguments with what the newest version has.
 */
static void
merge_template(Set *set, const SqlResult *newest)
{
	Datum	   *values;
	bool	   *isnull;
	int			i;

	values = palloc0(lengthof(set_template_args) * sizeof(Datum));
	isnull = palloc0(lengthof(set_template_args) * sizeof(bool));
	for (i = SET_TEMPLATE_SUBJECT; newest->nrows > 0 && i <= SET_TEMPLATE_HTML; i++)
		values[i] = statements_value(newest, 0, 3 + i - SET_TEMPLATE_SUBJECT,
									 &isnull[i]);
	if (newest->nrows > 0 && !isnull[SET_TEMPLATE_BODY])
		sets_merge(set, values, isnull);
	else
		sets_merge(set, NULL, NULL);
}

/*
 * Inserts the version after the newest one.  Returns its id, 0 if another
 * transaction has made one in the meantime.
 */
static int64
insert_version(Datum *values, bool *isnull, const SqlResult *newest)
{
	SqlResult  *result;
	bool		none;

	values[3] = Int32GetDatum(newest->nrows == 0 ? 1 :
							  DatumGetInt32(statements_value(newest, 0, 2,
															 &none)) + 1);
	values[7] = TimestampTzGetDatum(clock_now());
	result = statements_run(&insert_template, values, isnull);
	return result->nrows == 0 ? 0 :
		DatumGetInt64(statements_value(result, 0, 1, &none));
}

/*
 * Returns the example of a kind.
 */
static Jsonb *
example_of(const char *kind)
{
	bool		isnull;

	return DatumGetJsonbP(statements_value(find_default_template(kind), 0, 3,
										   &isnull));
}

/*
 * SQL function: sets a template.
 */
Datum
credits_set_template(PG_FUNCTION_ARGS)
{
	Datum		values[8];
	bool		isnull[8] = {false};
	Jsonb	   *example;
	Channel		channel;
	char	   *kind;
	Set			set;

	SETS_READ(&set, fcinfo, set_template_args);
	kind = pstrdup(event_kinds_arg(fcinfo, SET_TEMPLATE_KIND)->name);
	channel = arg_template_channel(fcinfo, SET_TEMPLATE_CHANNEL);
	fill_template_key(fcinfo, kind, channel, values);
	store_check_writable("credits_set_template()");
	example = example_of(kind);
	for (;;)
	{
		SqlResult  *newest = statements_run(&find_newest, values, NULL);
		char	   *parts[3];
		int64		id;
		bool		none;
		int			i;

		merge_template(&set, newest);
		for (i = PART_SUBJECT; i <= PART_HTML; i++)
		{
			parts[i] = arg_part(set.merged, SET_TEMPLATE_SUBJECT + i,
								(TemplatePart) i, kind, example);
			isnull[4 + i] = parts[i] == NULL;
			values[4 + i] = parts[i] ? CStringGetTextDatum(parts[i]) : (Datum) 0;
		}
		if (parts[PART_BODY] == NULL)
			raise_null("body");
		check_parts(channel, parts[PART_SUBJECT], parts[PART_HTML]);
		if (sets_unchanged(&set))
			PG_RETURN_DATUM(statements_value(newest, 0, 1, &none));
		id = insert_version(values, isnull, newest);
		if (id != 0)
			PG_RETURN_INT64(id);
		/* another transaction has made one just now: start from that */
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * SQL function: ends a template.
 */
Datum
credits_retire_template(PG_FUNCTION_ARGS)
{
	char	   *kind = pstrdup(event_kinds_arg(fcinfo, SET_TEMPLATE_KIND)->name);
	Channel		channel = arg_template_channel(fcinfo, SET_TEMPLATE_CHANNEL);
	Datum		values[8] = {0};
	bool		isnull[8] = {false, false, false, false, true, true, true, false};

	fill_template_key(fcinfo, kind, channel, values);
	store_check_writable("credits_retire_template()");
	for (;;)
	{
		SqlResult  *newest = statements_run(&find_newest, values, NULL);
		int64		id;
		bool		none;

		if (newest->nrows == 0)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_FOUND),
					 errmsg("there is no such template"),
					 errdetail("None was set for kind %s, this channel and this locale.",
							   kind),
					 errhint("See credits.templates; those of credits.event_kinds cannot be retired.")));
		if (string_of(newest, 4) == NULL)
			PG_RETURN_DATUM(statements_value(newest, 0, 1, &none));
		id = insert_version(values, isnull, newest);
		if (id != 0)
			PG_RETURN_INT64(id);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Returns an argument that is the detail of an event, the example if it is null.
 */
static Jsonb *
arg_detail(FunctionCallInfo fcinfo, int n, Jsonb *example)
{
	Jsonb	   *detail;

	if (PG_ARGISNULL(n))
		return example;
	detail = PG_GETARG_JSONB_P(n);
	if (!JB_ROOT_IS_OBJECT(detail) || VARSIZE(detail) > MAX_DETAIL_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("detail must be an object of at most %d bytes",
						MAX_DETAIL_BYTES),
				 errdetail("It has %zu bytes.", (Size) VARSIZE(detail)),
				 errhint("Pass the detail of an event, or leave it out for the example.")));
	return detail;
}

/*
 * SQL function: renders a template, as it is or as it would be.
 */
Datum
credits_preview_template(PG_FUNCTION_ARGS)
{
	char	   *kind = pstrdup(event_kinds_arg(fcinfo, 0)->name);
	Channel		channel = (Channel) ARG_CHOICE(1, "channel", channel_names);
	text	   *locale = arg_locale(fcinfo, 2);
	Jsonb	   *example = example_of(kind);
	Jsonb	   *detail = arg_detail(fcinfo, 3, example);
	RenderedMessage template;
	RenderedMessage message;
	char	   *parts[3];
	JsonObject	more;
	TupleDesc	tupdesc;
	Datum		values[4];
	bool		isnull[4];
	int			i;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	choose_template(kind, channel, locale ? text_to_cstring(locale) : NULL,
					&template);
	for (i = PART_SUBJECT; i <= PART_HTML; i++)
		parts[i] = arg_part(fcinfo, 4 + i, (TemplatePart) i, kind, example);
	if (parts[PART_SUBJECT])
		template.subject = parts[PART_SUBJECT];
	if (parts[PART_BODY])
		template.body = parts[PART_BODY];
	if (parts[PART_HTML])
		template.html = parts[PART_HTML];
	if (parts[PART_SUBJECT] || parts[PART_BODY] || parts[PART_HTML])
		template.template_id = 0;
	json_begin(&more);
	json_int64(&more, "event_id", 1);
	json_time(&more, "created_at", clock_now());
	json_cstring(&more, "unsubscribe_token", "TOKEN");
	render_template(&template, kind, channel, detail, json_document(&more),
					&message);
	values[0] = Int64GetDatum(message.template_id);
	isnull[0] = message.template_id == 0;
	parts[PART_SUBJECT] = message.subject;
	parts[PART_BODY] = message.body;
	parts[PART_HTML] = message.html;
	for (i = PART_SUBJECT; i <= PART_HTML; i++)
	{
		isnull[1 + i] = parts[i] == NULL;
		values[1 + i] = parts[i] ? CStringGetTextDatum(parts[i]) : (Datum) 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  values, isnull)));
}
