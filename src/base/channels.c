/*
 * channels.c
 *	  Channels by which people are told of events, and the settings
 *	  credits.default_channels and credits.unverified_channels.
 *
 * Both are lists of channels.  In the first, an item may be about one kind of
 * event, and may say that something is off: "email, inbox, low_balance:sms,
 * grant_expiring:email=off".  An item about a kind counts before one about all,
 * and of two about the same, the last one.
 */
#include "credits.h"

#include "base/channels.h"
#include "base/names.h"

/* as many as there are kinds of events and channels, or more */
#define MAX_CHANNEL_ITEMS 256
#define MAX_KIND_BYTES 63

const char *const channel_names[] = {"email", "sms", "push", "webhook", "inbox"};

/* An item of a list */
typedef struct ChannelItem
{
	char		kind[MAX_KIND_BYTES + 1];	/* empty for all kinds */
	Channel		channel;
	bool		on;
} ChannelItem;

typedef struct ChannelList
{
	int			n;
	ChannelItem items[FLEXIBLE_ARRAY_MEMBER];
} ChannelList;

/* the values of the settings, NULL if they are empty */
static const ChannelList *default_channels = NULL;
static const ChannelList *unverified_channels = NULL;

/*
 * Takes a word of lower-case letters, digits and underscores from a list.
 * Returns false if there is none, or if it is too long.
 */
static bool
take_word(const char **from, char *word)
{
	int			len = 0;

	while (**from == ' ')
		(*from)++;
	while ((**from >= 'a' && **from <= 'z') || (**from >= '0' && **from <= '9') ||
		   **from == '_')
	{
		if (len == MAX_KIND_BYTES)
			return false;
		word[len++] = *(*from)++;
	}
	word[len] = '\0';
	while (**from == ' ')
		(*from)++;
	return len > 0;
}

/*
 * Reads one item, and moves on to what follows it.  Returns false if there is
 * none.
 */
static bool
read_item(const char **from, bool plain, ChannelItem *item)
{
	char		word[MAX_KIND_BYTES + 1];

	item->kind[0] = '\0';
	item->on = true;
	if (!take_word(from, word))
		return false;
	if (**from == ':' && !plain)
	{
		strcpy(item->kind, word);
		(*from)++;
		if (!take_word(from, word))
			return false;
	}
	item->channel = (Channel) NAME_FIND(channel_names, word);
	if (item->channel == CHANNEL_UNKNOWN)
		return false;
	if (**from == '=' && !plain)
	{
		(*from)++;
		if (!take_word(from, word) ||
			(strcmp(word, "on") != 0 && strcmp(word, "off") != 0))
			return false;
		item->on = strcmp(word, "on") == 0;
	}
	return true;
}

/*
 * Reads a list; a plain one has channels only.  The "extra" data is a
 * ChannelList, or NULL if the list is empty.
 */
static bool
check_list(const char *from, bool plain, void **extra)
{
	ChannelList *list;
	int			most = 1;
	const char *c;

	while (*from == ' ')
		from++;
	if (*from == '\0')
		return true;
	for (c = from; *c; c++)
		most += *c == ',';
	if (most > MAX_CHANNEL_ITEMS)
		return false;
	list = guc_extra_alloc(offsetof(ChannelList, items) +
						   most * sizeof(ChannelItem));
	if (list == NULL)
		return false;
	list->n = 0;
	for (;;)
	{
		if (!read_item(&from, plain, &list->items[list->n++]) ||
			(*from != '\0' && *from != ','))
		{
			guc_value_free(list);
			return false;
		}
		if (*from++ == '\0')
			break;
	}
	*extra = list;
	return true;
}

/*
 * Returns whether people are told of a kind of event by a channel that they have
 * said nothing about.  A kind that people are not told of needs an item of its
 * own.
 */
bool
channels_default(const char *kind, bool told, Channel channel)
{
	bool		on = false;
	bool		on_for_kind = false;
	bool		has_kind = false;
	int			i;

	if (default_channels == NULL)
		return false;
	for (i = 0; i < default_channels->n; i++)
	{
		const ChannelItem *item = &default_channels->items[i];

		if (item->channel != channel)
			continue;
		if (item->kind[0] == '\0')
			on = item->on;
		else if (strcmp(item->kind, kind) == 0)
		{
			has_kind = true;
			on_for_kind = item->on;
		}
	}
	return has_kind ? on_for_kind : told && on;
}

/*
 * Returns whether messages go to addresses of a channel that are not verified.
 */
bool
channels_reach_unverified(Channel channel)
{
	int			i;

	if (unverified_channels)
		for (i = 0; i < unverified_channels->n; i++)
			if (unverified_channels->items[i].channel == channel)
				return true;
	return false;
}

/*
 * Check hook of credits.default_channels.
 */
bool
channels_check_default(char **newval, void **extra, GucSource source)
{
	if (check_list(*newval, false, extra))
		return true;
	GUC_check_errdetail("It must be a list of up to %d channels, each of email, sms, push, webhook and inbox, for all kinds of events or for one, such as \"email, low_balance:sms, grant_expiring:email=off\".",
						MAX_CHANNEL_ITEMS);
	return false;
}

/*
 * Assign hook of credits.default_channels.
 */
void
channels_assign_default(const char *newval, void *extra)
{
	default_channels = (const ChannelList *) extra;
}

/*
 * Check hook of credits.unverified_channels.
 */
bool
channels_check_unverified(char **newval, void **extra, GucSource source)
{
	if (check_list(*newval, true, extra))
		return true;
	GUC_check_errdetail("It must be a list of channels: email, sms, push, webhook and inbox.");
	return false;
}

/*
 * Assign hook of credits.unverified_channels.
 */
void
channels_assign_unverified(const char *newval, void *extra)
{
	unverified_channels = (const ChannelList *) extra;
}
