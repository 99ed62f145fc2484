/*
 * chain.c
 *	  The hashes that chain the rows of an account's log.
 *
 * The hash of a row is the SHA-256 of the previous row's hash (empty for the
 * first row) and the canonical form, version 1, of the row itself.  doc/log.md
 * documents the form field by field: integers are big-endian, and a text is
 * preceded by its length.  Free text is included only as the SHA-256 of a
 * random salt and the text, so that it can be erased without breaking the
 * chain.
 */
#include "credits.h"

#include "ledger/chain.h"

#include "common/cryptohash.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define CANONICAL_VERSION 1

/* microseconds from 1970-01-01 to PostgreSQL's epoch */
#define UNIX_EPOCH_OFFSET \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/*
 * Returns a 64-bit hash of a request's fingerprint, the same on every platform
 * (FNV-1a).  It need not be cryptographic: it detects mistakes, and an
 * attacker who could forge a request with the same hash could as well use a
 * new key.
 */
int64
chain_fingerprint(const StringInfoData *request)
{
	uint64		hash = UINT64CONST(0xcbf29ce484222325);
	int			i;

	for (i = 0; i < request->len; i++)
	{
		hash ^= (unsigned char) request->data[i];
		hash *= UINT64CONST(0x100000001b3);
	}
	return (int64) hash;
}

/*
 * Returns a context for computing SHA-256 hashes, one after the other.  It is made
 * once, as that takes a good part of the time of a short hash.
 */
static pg_cryptohash_ctx *
sha256_context(void)
{
	static pg_cryptohash_ctx *ctx = NULL;

	if (ctx == NULL)
	{
		ResourceOwner owner = CurrentResourceOwner;
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		/* a transaction's owner would free it at the end of the transaction */
		CurrentResourceOwner = ResourceOwnerCreate(NULL, "credits hashes");
		ctx = pg_cryptohash_create(PG_SHA256);
		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(old);
	}
	return ctx;
}

/*
 * Computes a SHA-256 hash.
 */
static void
sha256(const void *data, size_t len, uint8 *hash)
{
	pg_cryptohash_ctx *ctx = sha256_context();

	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, data, len) < 0 ||
		pg_cryptohash_final(ctx, hash, PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a hash: %s",
						pg_cryptohash_error(ctx))));
}

/*
 * Appends a length and bytes, or a length of -1 if data is NULL.
 */
static void
add_bytes(StringInfo buf, const char *data, int len)
{
	pq_sendint32(buf, data ? len : -1);
	if (data)
		appendBinaryStringInfo(buf, data, len);
}

/*
 * Appends a text that may be NULL.
 */
static void
add_text(StringInfo buf, text *value)
{
	if (value)
		add_bytes(buf, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	else
		add_bytes(buf, NULL, 0);
}

/*
 * Appends a JSON document that may be NULL, in its text form.
 */
static void
add_json(StringInfo buf, Jsonb *value)
{
	char	   *json;

	if (value == NULL)
	{
		add_bytes(buf, NULL, 0);
		return;
	}
	json = json_to_cstring(value);
	add_bytes(buf, json, strlen(json));
	pfree(json);
}

/*
 * Appends a number that may be NULL.
 */
static void
add_optional(StringInfo buf, bool given, int64 value)
{
	pq_sendbyte(buf, given);
	if (given)
		pq_sendint64(buf, value);
}

/*
 * Appends the hash of a row's salt and free text, if it has any.
 */
static void
add_free_text(StringInfo buf, const Entry *entry)
{
	StringInfoData text;
	uint8		hash[PG_SHA256_DIGEST_LENGTH];

	pq_sendbyte(buf, entry->salt != NULL);
	if (entry->salt == NULL)
		return;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, (char *) entry->salt, entry->salt_len);
	add_text(&text, entry->reason);
	add_json(&text, entry->metadata);
	add_text(&text, entry->actor);
	sha256(text.data, text.len, hash);
	appendBinaryStringInfo(buf, (char *) hash, sizeof(hash));
	pfree(text.data);
}

/*
 * Computes the hash of a row from that of the previous row.
 */
void
chain_hash(const uint8 *previous, int previous_len, const Entry *entry,
		   uint8 *hash)
{
	const char *kind = rows_kind_name(entry);
	StringInfoData buf;
	int			i;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (const char *) previous, previous_len);
	pq_sendbyte(&buf, CANONICAL_VERSION);
	pq_sendint64(&buf, entry->id);
	pq_sendint64(&buf, entry->account_id);
	add_bytes(&buf, kind, strlen(kind));
	pq_sendint64(&buf, entry->amount);
	pq_sendint64(&buf, entry->held);
	pq_sendint64(&buf, entry->balance_after);
	pq_sendint64(&buf, entry->held_after);
	pq_sendint64(&buf, entry->created_at + UNIX_EPOCH_OFFSET);
	add_optional(&buf, entry->has_target, entry->target_id);
	add_optional(&buf, entry->member_id != 0, entry->member_id);
	add_optional(&buf, entry->has_request, entry->request);
	add_bytes(&buf, entry->role, strlen(entry->role));
	add_text(&buf, entry->key);
	add_text(&buf, entry->operation);
	add_text(&buf, entry->reference);
	pq_sendint32(&buf, entry->has_draws ? entry->ndraws : -1);
	for (i = 0; i < entry->ndraws; i++)
	{
		pq_sendint64(&buf, entry->draws[i].grant_id);
		pq_sendint64(&buf, entry->draws[i].amount);
	}
	add_json(&buf, entry->terms);
	add_free_text(&buf, entry);
	sha256(buf.data, buf.len, hash);
	pfree(buf.data);
}
