/*
 * tokens.c
 *	  Tokens, by which consumers of the feed acknowledge what they have read.
 *
 * A token contains the moment of the batch and the id up to which it was read.
 * With it come the origin and the version of the position that it was read from,
 * the timeline of the write-ahead log, and a checksum.  The checksum is no
 * signature: whoever may acknowledge may pass over events anyway.  It tells what
 * was cut or mixed up on its way.
 *
 * After a failover or a recovery to a point in time, transaction ids may be drawn
 * again.  So what was read before that cannot be acknowledged after it.  A crash
 * takes back nothing that a token tells about, see feed_read.
 */
#include "credits.h"

#include "tell/tokens.h"

#include "access/detoast.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "port/pg_crc32c.h"
#include "utils/builtins.h"

/* a snapshot has at most as many transactions as the server has connections */
#define MAX_TOKEN_BYTES (1024 * 1024)

#define TOKEN_FIELDS 8

/*
 * Returns a checksum.
 */
static uint32
checksum_of(const char *s)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, s, strlen(s));
	FIN_CRC32C(crc);
	return (uint32) crc;
}

/*
 * Returns the token of an event of a page, which is the last one of its batch if
 * "whole".
 */
char *
tokens_show(const FeedPage *page, int64 read_id, bool whole)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfo(&s, UINT64_FORMAT ".%u." INT64_FORMAT ".%s." UINT64_FORMAT "."
					 INT64_FORMAT "." INT64_FORMAT ".%d",
					 (uint64) page->position->origin, GetWALInsertionTimeLine(),
					 page->position->version, moments_snapshot(page->batch),
					 page->batch->next_xid, page->batch->last_id, read_id, whole);
	appendStringInfo(&s, ".%08x", checksum_of(s.data));
	return s.data;
}

/*
 * Cuts a token into its fields, the last of which is the checksum.  Returns false
 * if there are more or less, or if the checksum is not right.
 */
static bool
cut_fields(char *s, char **fields)
{
	char	   *dot = strrchr(s, '.');
	uint64		checksum;
	int			n;

	if (dot == NULL)
		return false;
	*dot = '\0';
	if (!moments_parse_uint64(dot + 1, 16, PG_UINT32_MAX, &checksum) ||
		checksum != checksum_of(s))
		return false;
	for (n = 0; s && n < TOKEN_FIELDS; n++)
	{
		fields[n] = s;
		if ((s = strchr(s, '.')) != NULL)
			*s++ = '\0';
	}
	return n == TOKEN_FIELDS && s == NULL;
}

/*
 * Reads a number from 0 on.
 */
static bool
read_token_int64(const char *s, int64 *value)
{
	return moments_parse_uint64(s, 10, PG_INT64_MAX, (uint64 *) value);
}

/*
 * Reads a token.  Returns false if it is not one.
 */
static bool
parse_token(char *s, FeedToken *token)
{
	char	   *fields[TOKEN_FIELDS];
	uint64		whole;

	token->batch = palloc0(sizeof(FeedMoment));
	if (!cut_fields(s, fields) ||
		!moments_parse_uint64(fields[0], 10, PG_UINT64_MAX, (uint64 *) &token->origin) ||
		!read_token_int64(fields[1], &token->timeline) ||
		!read_token_int64(fields[2], &token->version) ||
		!moments_parse_snapshot(fields[3], token->batch) ||
		!moments_parse_uint64(fields[4], 10, PG_UINT64_MAX, &token->batch->next_xid) ||
		!read_token_int64(fields[5], &token->batch->last_id) ||
		!read_token_int64(fields[6], &token->read_id) ||
		!moments_parse_uint64(fields[7], 10, 1, &whole))
		return false;
	token->whole = whole != 0;
	return token->batch->next_xid >= token->batch->xmax &&
		token->read_id <= token->batch->last_id;
}

/*
 * Reads an argument that is a token.
 */
void
tokens_read(FunctionCallInfo fcinfo, int n, FeedToken *token)
{
	text	   *value;
	Size		length;

	if (PG_ARGISNULL(n))
		raise_null("token");
	/* before it is copied */
	length = toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ;
	value = length <= MAX_TOKEN_BYTES ? PG_GETARG_TEXT_PP(n) : NULL;
	if (value == NULL || !parse_token(text_to_cstring(value), token))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token is not valid"),
				 errdetail("It has %zu bytes.", length),
				 errhint("Pass a token as credits_read_events has returned it.")));
}

/*
 * Raises the error for a token that cannot have been read here.
 */
static void
raise_foreign(char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("token is not one of this consumer"),
			 errdetail_internal("%s", detail),
			 errhint("Read again with credits_read_events, and pass a token of that.")));
}

/*
 * Returns whether a token is ahead of the position of its consumer, and continues
 * it.  Raises an error if it is not of this consumer.
 */
bool
tokens_are_next(const FeedToken *token, const FeedPosition *position)
{
	int64		timeline = GetWALInsertionTimeLine();

	if (token->origin != position->origin)
		raise_foreign("It is of another consumer, of one of this name that was removed, or of another database.");
	if (token->timeline < timeline)
		return false;
	if (token->timeline > timeline || token->version > position->version ||
		token->batch->xmax > U64FromFullTransactionId(ReadNextFullTransactionId()) ||
		token->batch->last_id > store_newest_id(&events_table))
		raise_foreign("It was read later than the state that this database is in, which must have been restored since.");
	if (token->version < position->version)
		return false;
	if (position->batch)
		return moments_equal(token->batch, position->batch) &&
			(token->whole || token->read_id > position->read_id);
	if (position->done && !moments_covers(token->batch, position->done))
		raise_foreign("It was read before what this consumer has acknowledged.");
	return true;
}
