/*
 * compat.h
 *	  Differences between the PostgreSQL versions that credits supports.
 *
 * No other file of src/ depends on PG_VERSION_NUM.
 */
#ifndef CREDITS_COMPAT_H
#define CREDITS_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "common/base64.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "storage/lock.h"
#include "utils/backend_status.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "credits needs PostgreSQL 15 or newer"
#endif

/* 18: a module can report its name and version */
#if PG_VERSION_NUM >= 180000
#define CREDITS_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "credits", .version = CREDITS_VERSION)
#else
#define CREDITS_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* 18: pg_noreturn, which precedes a declaration */
#if PG_VERSION_NUM >= 180000
#define NORETURN_COMPAT pg_noreturn
#else
#define NORETURN_COMPAT pg_attribute_noreturn()
#endif

/* 18: index_beginscan has an argument for instrumentation */
static inline IndexScanDesc
index_beginscan_compat(Relation heap, Relation index, Snapshot snapshot,
					   int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* 16: an update may require new entries in summarizing indexes only */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes UpdateIndexesCompat;
#define UPDATE_NEEDS_INDEXES(u) ((u) != TU_None)
#define UPDATE_ONLY_SUMMARIZING(u) ((u) == TU_Summarizing)
#else
typedef bool UpdateIndexesCompat;
#define UPDATE_NEEDS_INDEXES(u) (u)
#define UPDATE_ONLY_SUMMARIZING(u) false
#endif

static inline List *
ExecInsertIndexTuples_compat(ResultRelInfo *rri, TupleTableSlot *slot,
							 EState *estate, bool update, bool noDupErr,
							 bool *specConflict, List *arbiters,
							 bool onlySummarizing)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(rri, slot, estate, update, noDupErr,
								 specConflict, arbiters, onlySummarizing);
#else
	return ExecInsertIndexTuples(rri, slot, estate, update, noDupErr,
								 specConflict, arbiters);
#endif
}

/* 17: an index may keep data between inserts, which must be released */
static inline void
close_inserted_index_compat(Relation index, IndexInfo *info)
{
#if PG_VERSION_NUM >= 170000
	index_insert_cleanup(index, info);
#endif
	index_close(index, NoLock);
}

/* 18: ExecCheckIndexConstraints has an argument for the tuple's own TID */
static inline bool
ExecCheckIndexConstraints_compat(ResultRelInfo *rri, TupleTableSlot *slot,
								 EState *estate, ItemPointer conflict,
								 List *arbiters)
{
#if PG_VERSION_NUM >= 180000
	ItemPointerData none;

	ItemPointerSetInvalid(&none);
	return ExecCheckIndexConstraints(rri, slot, estate, conflict, &none,
									 arbiters);
#else
	return ExecCheckIndexConstraints(rri, slot, estate, conflict, arbiters);
#endif
}

/* 16: renamed, since the argument is not a backend id */
static inline LocalPgBackendStatus *
pgstat_get_local_beentry_compat(int number)
{
#if PG_VERSION_NUM >= 160000
	return pgstat_get_local_beentry_by_index(number);
#else
	return pgstat_fetch_stat_local_beentry(number);
#endif
}

/* 18: the argument execute_once was removed */
static inline void
ExecutorRun_compat(QueryDesc *query)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(query, ForwardScanDirection, 0);
#else
	ExecutorRun(query, ForwardScanDirection, 0, true);
#endif
}

/* 16: DecodeDateTime has an argument for details of errors */
static inline int
DecodeDateTime_compat(char **field, int *ftype, int nf, int *dtype,
					  struct pg_tm *tm, fsec_t *fsec, int *tzp)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tzp, &extra);
#else
	return DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tzp);
#endif
}

/* 18: bytes to be encoded in base64 are unsigned */
static inline int
pg_b64_encode_compat(const uint8 *src, int len, char *dst, int dstlen)
{
#if PG_VERSION_NUM >= 180000
	return pg_b64_encode(src, len, dst, dstlen);
#else
	return pg_b64_encode((const char *) src, len, dst, dstlen);
#endif
}

/* 16: the "extra" data of a check hook is allocated with guc_malloc */
static inline void *
guc_extra_alloc(Size size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

/* 16: the same is true of the values that it replaces */
static inline void
guc_value_free(void *value)
{
#if PG_VERSION_NUM >= 160000
	guc_free(value);
#else
	free(value);
#endif
}

/* 17: a lock has the virtual id of its transaction in one piece */
static inline VirtualTransactionId
lock_vxid_compat(const LockInstanceData *lock)
{
#if PG_VERSION_NUM >= 170000
	return lock->vxid;
#else
	VirtualTransactionId vxid;

	vxid.backendId = lock->backend;
	vxid.localTransactionId = lock->lxid;
	return vxid;
#endif
}

#endif							/* CREDITS_COMPAT_H */
