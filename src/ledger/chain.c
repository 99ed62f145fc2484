/*
 * chain.c
 *	  The hashes that chain the rows of an account's log.
 *
 * The hash of a row is the SHA-256 of the previous row's hash (empty for the
 * first row) and the canonical form, version 2, of the row itself.  doc/log.md
 * documents the form field by field: integers are big-endian, and a text is
 * preceded by its length.  Whatever may name a person is included only as the
 * SHA-256 of a random salt and these texts.  When they are erased, that digest
 * takes the salt's place, and the chain is still whole.
 */
#include "credits.h"

#include "ledger/chain.h"
#include "ledger/roles.h"

#include "common/cryptohash.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(credits_key_digest);

#define CANONICAL_VERSION 2

/* microseconds from 1970-01-01 to PostgreSQL's epoch */
#define UNIX_EPOCH_OFFSET \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/*
 * Adds bytes to a 64-bit hash that is the same on every platform (FNV-1a).
 */
static uint64
add_to_hash(uint64 hash, const void *data, int len)
{
	const unsigned char *bytes = data;
	int			i;

	for (i = 0; i < len; i++)
	{
		hash ^= bytes[i];
		hash *= UINT64CONST(0x100000001b3);
	}
	return hash;
}

/*
 * Returns a hash of a request's fingerprint, keyed by a salt if there is one.  It
 * need not be cryptographic: it detects mistakes, and an attacker who could
 * forge a request with the same hash could as well use a new key.
 */
int64
chain_fingerprint(const StringInfoData *request, const uint8 *salt, int salt_len)
{
	uint64		hash = UINT64CONST(0xcbf29ce484222325);

	hash = add_to_hash(hash, salt, salt_len);
	return (int64) add_to_hash(hash, request->data, request->len);
}

/*
 * Returns what a row of the log keeps of a request's fingerprint: half of its hash,
 * as it is only compared with that of a request that has the same key.
 */
int32
chain_request(const StringInfoData *request, const uint8 *salt, int salt_len)
{
	uint64		hash = (uint64) chain_fingerprint(request, salt, salt_len);

	return (int32) (hash ^ (hash >> 32));
}

/*
 * Returns the digest of an idempotency key, which the index of keys has in its
 * place.
 */
int64
chain_key_digest(text *key)
{
	return (int64) add_to_hash(UINT64CONST(0xcbf29ce484222325),
							   VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
}

/*
 * SQL function: returns the digest of an idempotency key.
 */
Datum
credits_key_digest(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(chain_key_digest(PG_GETARG_TEXT_PP(0)));
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
 * Returns whether a row has a text that can be erased.
 */
bool
chain_has_text(const Entry *entry)
{
	return entry->key || entry->reference || entry->has_request ||
		entry->reason || entry->metadata || entry->actor;
}

/*
 * Computes the digest of a row's salt and the texts that can be erased.
 */
void
chain_text_digest(const Entry *entry, uint8 *digest)
{
	StringInfoData text;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, (char *) entry->salt, entry->salt_len);
	add_text(&text, entry->key);
	add_text(&text, entry->reference);
	add_optional(&text, entry->has_request, entry->request);
	add_text(&text, entry->reason);
	add_json(&text, entry->metadata);
	add_text(&text, entry->actor);
	sha256(text.data, text.len, digest);
	pfree(text.data);
}

/*
 * Appends the digest of a row's texts, if it has or had any.
 */
static void
add_text_digest(StringInfo buf, const Entry *entry)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	pq_sendbyte(buf, entry->salt != NULL);
	if (entry->salt == NULL)
		return;
	if (chain_is_erased(entry))
		memcpy(digest, entry->salt, sizeof(digest));
	else
		chain_text_digest(entry, digest);
	appendBinaryStringInfo(buf, (char *) digest, sizeof(digest));
}

/*
 * Computes the hash of a row from that of the previous row.
 */
void
chain_hash(const uint8 *previous, int previous_len, const Entry *entry,
		   uint8 *hash)
{
	const char *kind = kinds_name(entry->kind);
	const char *role = entry->role ? entry->role : roles_name(entry->role_id);
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
	add_bytes(&buf, role, strlen(role));
	add_text(&buf, entry->operation);
	pq_sendint32(&buf, entry->has_draws ? entry->ndraws : -1);
	for (i = 0; i < entry->ndraws; i++)
	{
		pq_sendint64(&buf, entry->draws[i].grant_id);
		pq_sendint64(&buf, entry->draws[i].amount);
	}
	add_json(&buf, entry->terms);
	add_text_digest(&buf, entry);
	sha256(buf.data, buf.len, hash);
	pfree(buf.data);
}
