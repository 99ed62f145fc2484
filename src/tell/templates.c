/*
 * templates.c
 *	  Templates: what people are told of events, as it is set and shown.
 *
 * Versions are numbered, and two sessions that set the same template at once cannot
 * both take a number: the second one starts from what the first has set.
 *
 * Messages are made in render.c.
 *
 * Tested in test/sql/templates.sql.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/event_kinds.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/render.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_set_template);
PG_FUNCTION_INFO_V1(credits_retire_template);
PG_FUNCTION_INFO_V1(credits_preview_template);

#define MAX_SUBJECT_BYTES		500
#define MAX_BODY_BYTES			65536
#define MAX_HTML_BYTES			262144
#define MAX_DETAIL_BYTES		65536

/* stands for all channels */
#define ALL_CHANNELS "*"

static const char *const template_part_names[] = {"subject", "body", "html"};
static const int template_part_bytes[] = {
	MAX_SUBJECT_BYTES, MAX_BODY_BYTES, MAX_HTML_BYTES
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
	placeholders_check(kind, example, s, name);
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
	example = render_example(kind);
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
 * Returns whether the newest version of a template has ended it.
 */
static bool
is_retired(const SqlResult *newest)
{
	bool		isnull;

	(void) statements_value(newest, 0, 4, &isnull);
	return isnull;
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
		if (is_retired(newest))
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
 * Replaces parts of a template by arguments that are given.  Returns whether there
 * are any.
 */
static bool
replace_parts(FunctionCallInfo fcinfo, int first, const char *kind,
			  const Jsonb *example, Template *template)
{
	char	  **parts[] = {&template->subject, &template->body, &template->html};
	bool		replaced = false;
	int			i;

	for (i = PART_SUBJECT; i <= PART_HTML; i++)
	{
		char	   *part = arg_part(fcinfo, first + i, (TemplatePart) i, kind,
									example);

		if (part == NULL)
			continue;
		*parts[i] = part;
		replaced = true;
	}
	return replaced;
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
	Jsonb	   *example = render_example(kind);
	MessageFacts facts = {
		.kind = kind,
		.event_id = 1,
		.created_at = clock_now(),
		.unsubscribe_token = "TOKEN",
		.detail = arg_detail(fcinfo, 3, example)
	};
	Template	template;
	RenderedMessage message;
	char	   *parts[3];
	TupleDesc	tupdesc;
	Datum		values[4];
	bool		isnull[4];
	int			i;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	render_choose(kind, channel, locale ? text_to_cstring(locale) : NULL,
				  &template);
	isnull[0] = replace_parts(fcinfo, 4, kind, example, &template) ||
		template.id == 0 || channel == CHANNEL_WEBHOOK;
	values[0] = Int64GetDatum(template.id);
	render_message(&template, channel, &facts, &message);
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
