/*
 * render.c
 *	  Messages, made of events by templates.
 *
 * A template is chosen by kind, channel and language when a message is first made.
 * Later, it is made with the same version, so that every attempt sends the same.
 *
 * Whoever makes many messages keeps a few templates at hand: most are of few kinds
 * and languages, and looking for one takes longer than filling it.
 *
 * Tested in test/sql/templates.sql and test/sql/deliveries.sql.
 */
#include "credits.h"

#include "store/statements.h"
#include "tell/render.h"
#include "tell/sms.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* what is sent: a subject, and a payload of 4 kB */
#define MAX_SENT_SUBJECT_BYTES	500
#define MAX_PUSH_TITLE_BYTES	200
#define MAX_PUSH_BODY_BYTES		1500

/* more than de-AT, de, two of the setting, and en */
#define MAX_LOCALES				20

/* so many templates are kept, each of up to about 330 kB */
#define CACHED_TEMPLATES		16

/* A template, and what it was asked for with */
typedef struct CachedTemplate
{
	MemoryContext context;		/* NULL if nothing is in this place */
	int64		id;				/* -1 if it was chosen */
	char	   *kind;
	char	   *locale;			/* NULL if there was none */
	Channel		channel;
	Template	template;
} CachedTemplate;

struct TemplateCache
{
	MemoryContext context;
	int			next;			/* the place that is used next */
	CachedTemplate places[CACHED_TEMPLATES];
};

/* the language counts more than the channel */
static SqlStatement choose_template = {
	"SELECT t.id, t.subject, t.body, t.html"
	" FROM unnest($3) WITH ORDINALITY AS l (locale, n)"
	" CROSS JOIN unnest(ARRAY[$2, '*']) WITH ORDINALITY AS c (channel, n)"
	" CROSS JOIN LATERAL (SELECT v.id, v.subject, v.body, v.html"
	" FROM credits.templates AS v WHERE v.kind = $1 AND v.channel = c.channel"
	" AND v.locale = l.locale ORDER BY v.version DESC LIMIT 1) AS t"
	" WHERE t.body IS NOT NULL ORDER BY l.n, c.n LIMIT 1",
	(const Oid[]) {TEXTOID, TEXTOID, TEXTARRAYOID, InvalidOid}
};

static SqlStatement find_version = {
	"SELECT id, subject, body, html FROM credits.templates"
	" WHERE id = $1 AND body IS NOT NULL",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement find_default = {
	"SELECT 0::bigint, subject, body, NULL::text, example FROM credits.event_kinds"
	" WHERE kind = $1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * choosing
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
 * Reads a template from the first row of a result.  Returns false if there is none.
 */
static bool
read_template(const SqlResult *result, Template *template)
{
	bool		isnull;

	if (result->nrows == 0)
		return false;
	template->id = DatumGetInt64(statements_value(result, 0, 1, &isnull));
	template->subject = string_of(result, 2);
	template->body = string_of(result, 3);
	template->html = string_of(result, 4);
	return true;
}

/*
 * Returns the row of a kind with what came with the extension.
 */
static SqlResult *
find_kind(const char *kind)
{
	Datum		value = CStringGetTextDatum(kind);
	SqlResult  *result = statements_run(&find_default, &value, NULL);

	if (result->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("there is no template for events of kind \"%s\"", kind),
				 errhint("Set one with credits_set_template, if it is a kind of credits.event_kinds.")));
	return result;
}

/*
 * Returns the example of a kind.
 */
Jsonb *
render_example(const char *kind)
{
	bool		isnull;

	return DatumGetJsonbP(statements_value(find_kind(kind), 0, 5, &isnull));
}

/*
 * Chooses the template for a kind, a channel and a language, which may be NULL.
 */
void
render_choose(const char *kind, Channel channel, const char *locale,
			  Template *template)
{
	Datum		values[3];

	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(channel_names[channel]);
	values[2] = wanted_locales(locale);
	if (!read_template(statements_run(&choose_template, values, NULL), template))
		(void) read_template(find_kind(kind), template);
}

/*
 * Finds a version of a template, or the default of a kind if its id is 0.
 */
static void
find_template(int64 id, const char *kind, Template *template)
{
	Datum		value = Int64GetDatum(id);

	if (id == 0)
		(void) read_template(find_kind(kind), template);
	else if (!read_template(statements_run(&find_version, &value, NULL), template))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("template " INT64_FORMAT " does not exist", id),
				 errhint("See credits.templates.")));
}

/*
 * Makes a cache in the current memory context.
 */
TemplateCache *
render_make_cache(void)
{
	TemplateCache *cache = palloc0(sizeof(TemplateCache));

	cache->context = CurrentMemoryContext;
	return cache;
}

/*
 * Returns whether a template was asked for in this way.
 */
static bool
is_asked_for(const CachedTemplate *place, int64 id, const char *kind,
			 Channel channel, const char *locale)
{
	return place->context && place->id == id && place->channel == channel &&
		strcmp(place->kind, kind) == 0 &&
		(locale ? place->locale && strcmp(place->locale, locale) == 0 :
		 place->locale == NULL);
}

/*
 * Returns a version of a template, or, if its id is -1, the one that is to be used
 * now.  It is valid until this is called again.
 */
const Template *
render_find(TemplateCache *cache, int64 id, const char *kind, Channel channel,
			const char *locale)
{
	CachedTemplate *place;
	MemoryContext old;
	int			i;

	for (i = 0; i < CACHED_TEMPLATES; i++)
		if (is_asked_for(&cache->places[i], id, kind, channel, locale))
			return &cache->places[i].template;
	place = &cache->places[cache->next];
	if (place->context)
		MemoryContextDelete(place->context);
	/* if an error occurs, nothing is there */
	memset(place, 0, sizeof(CachedTemplate));
	old = MemoryContextSwitchTo(AllocSetContextCreate(cache->context,
													  "credits template",
													  ALLOCSET_SMALL_SIZES));
	place->id = id;
	place->channel = channel;
	place->kind = pstrdup(kind);
	place->locale = locale ? pstrdup(locale) : NULL;
	if (id < 0)
		render_choose(kind, channel, locale, &place->template);
	else
		find_template(id, kind, &place->template);
	place->context = MemoryContextSwitchTo(old);
	cache->next = (cache->next + 1) % CACHED_TEMPLATES;
	return &place->template;
}

/* ------------------------------------------------------------------------
 * making a message
 */

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
 * Returns the payload of a webhook: the event, in the form of the Standard Webhooks
 * specification.
 */
static char *
webhook_payload(const MessageFacts *facts)
{
	JsonObject	json;

	json_begin(&json);
	json_cstring(&json, "type", facts->kind);
	json_time(&json, "timestamp", facts->created_at);
	json_jsonb(&json, "data", facts->detail);
	return json_to_cstring(json_document(&json));
}

/*
 * Makes a message of an event: fills the template, and gives it the form of its
 * channel.  A webhook needs no template.
 */
void
render_message(const Template *template, Channel channel,
			   const MessageFacts *facts, RenderedMessage *message)
{
	char	   *subject = NULL;

	memset(message, 0, sizeof(RenderedMessage));
	if (channel == CHANNEL_WEBHOOK)
	{
		message->body = webhook_payload(facts);
		return;
	}
	message->body = placeholders_fill(template->body, PART_BODY, facts);
	if (channel == CHANNEL_SMS)
	{
		message->body = sms_cut(message->body);
		return;
	}
	subject = placeholders_fill(template->subject ? template->subject : "",
								PART_SUBJECT, facts);
	if (channel == CHANNEL_PUSH)
	{
		message->body = push_payload(facts->kind, subject, message->body);
		return;
	}
	message->subject = cut_bytes(subject, MAX_SENT_SUBJECT_BYTES);
	if (template->html)
		message->html = placeholders_fill(template->html, PART_HTML, facts);
}
