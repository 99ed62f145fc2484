/*
 * codec.c
 *	  Conversion of rows between tables and the structs that hold them.
 *
 * The conversion is driven by the description of the table (see tables.h).  It
 * runs several times in each spend, so it is one loop over the columns with a
 * single switch, and int64 columns, the most frequent, are handled before it.
 */
#include "credits.h"

#include "store/codec.h"

#include "common/sha2.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/*
 * Returns whether a column is an int64 that is not NULL, the most frequent case:
 * it is read and written without a switch.
 */
static inline bool
is_plain(const StoreColumn *column)
{
	StaticAssertStmt(FORM_INT64 == 0 && NULLS_NOT == 0, "both are tested at once");
	return (column->form | column->nulls) == 0;
}

/*
 * Returns the index of a text in the list of a column's names, or -1 if it is
 * not one of them.
 */
static int
position_of(const StoreColumn *column, Datum value)
{
	text	   *t = DatumGetTextPP(value);
	const char *s = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	int			i;

	for (i = 0; i < column->nnames; i++)
	{
		const char *name = column->names[i];

		if (len > 0 && name[0] == s[0] && strncmp(name, s, len) == 0 &&
			name[len] == '\0')
			return i;
	}
	return -1;
}

/*
 * Returns the index of a code in the list of a column's codes, or -1 if it is not
 * one of them.
 */
static int
index_of_code(const StoreColumn *column, char code)
{
	const char *found = memchr(column->codes, code, column->nnames);

	return found ? found - column->codes : -1;
}

/*
 * Reads an array into a field and its count.  Returns false if the array has a
 * different shape than expected, which only a manual change of the table can
 * cause; the caller then leaves the field empty.
 *
 * The array must have one dimension, or two, of which the second has two
 * elements.
 */
static bool
read_array(const StoreColumn *column, Datum value, int ndims, char *field,
		   int *count)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Size		size;
	char	   *elements;

	if (ARR_NDIM(array) == 0 && ndims == 1)
	{
		*count = 0;
		*(void **) field = NULL;
		return true;
	}
	if (ARR_NDIM(array) != ndims || ARR_HASNULL(array) ||
		ARR_LBOUND(array)[0] != 1 ||
		(ndims == 2 && (ARR_LBOUND(array)[1] != 1 ||
						ARR_DIMS(array)[1] != 2)))
		return false;
	*count = ARR_DIMS(array)[0];
	size = *count * ndims * sizeof(int64);
	elements = palloc(size);
	memcpy(elements, (char *) array + ARR_OVERHEAD_NONULLS(ndims), size);
	*(void **) field = elements;
	return true;
}

/*
 * Makes an array of one or two dimensions.  This does not use
 * construct_md_array, because the elements are already stored one after
 * another as the array needs them.
 */
static Datum
array_datum(const int64 *elements, int count, int ndims)
{
	Size		data = (Size) count * ndims * sizeof(int64);
	Size		size;
	ArrayType  *array;

	if (count == 0)
		return PointerGetDatum(construct_empty_array(INT8OID));
	size = ARR_OVERHEAD_NONULLS(ndims) + data;
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = ndims;
	array->dataoffset = 0;
	array->elemtype = INT8OID;
	ARR_DIMS(array)[0] = count;
	ARR_LBOUND(array)[0] = 1;
	if (ndims == 2)
	{
		ARR_DIMS(array)[1] = 2;
		ARR_LBOUND(array)[1] = 1;
	}
	memcpy((char *) array + ARR_OVERHEAD_NONULLS(ndims), elements, data);
	return PointerGetDatum(array);
}

/* the most bytes that an int64 is packed into, seven bits each */
#define MAX_PACKED_INT64 10

/*
 * Packs an int64: seven bits a byte, the low ones first, with the high bit set in
 * all bytes but the last.  The sign is the lowest bit, so that small numbers are
 * short whatever their sign.  Returns the place after it.
 */
static uint8 *
pack_int64(uint8 *place, int64 value)
{
	uint64		bits = ((uint64) value << 1) ^ (uint64) (value >> 63);

	while (bits >= 0x80)
	{
		*place++ = (uint8) (bits | 0x80);
		bits >>= 7;
	}
	*place++ = (uint8) bits;
	return place;
}

/*
 * Packs int64s into a bytea.
 */
static Datum
packed_datum(const int64 *elements, int count)
{
	bytea	   *b = palloc(VARHDRSZ + (Size) count * MAX_PACKED_INT64);
	uint8	   *place = (uint8 *) VARDATA(b);
	int			i;

	for (i = 0; i < count; i++)
		place = pack_int64(place, elements[i]);
	SET_VARSIZE(b, place - (uint8 *) b);
	return PointerGetDatum(b);
}

/*
 * Unpacks pairs of int64s, and sets how many there are.  Returns NULL if that is
 * not what the bytea has, which only a manual change of the table can cause.
 */
static int64 *
unpack_pairs(const bytea *b, int *count)
{
	const uint8 *place = (const uint8 *) VARDATA_ANY(b);
	const uint8 *end = place + VARSIZE_ANY_EXHDR(b);
	int64	   *elements = palloc((end - place + 1) * sizeof(int64));
	int			n = 0;

	while (place < end)
	{
		uint64		bits = 0;
		int			shift = 0;

		for (;; shift += 7)
		{
			if (place == end || shift >= 7 * MAX_PACKED_INT64)
				return NULL;
			bits |= (uint64) (*place & 0x7f) << shift;
			if ((*place++ & 0x80) == 0)
				break;
		}
		elements[n++] = (int64) (bits >> 1) ^ -(int64) (bits & 1);
	}
	*count = n / 2;
	return n % 2 == 0 ? elements : NULL;
}

/*
 * Reads packed pairs into a field and its count.  Returns false if they are
 * damaged; the caller then leaves the field empty.
 */
static bool
read_packed(Datum value, char *field, int *count)
{
	int64	   *elements = unpack_pairs(DatumGetByteaPP(value), count);

	if (elements == NULL)
		*count = 0;
	*(void **) field = elements;
	return elements != NULL;
}

/*
 * Returns packed pairs as an array of two dimensions, 0 if they are damaged.
 */
Datum
codec_unpacked(const bytea *b)
{
	int			count;
	int64	   *elements = unpack_pairs(b, &count);

	return elements ? array_datum(elements, count, 2) : (Datum) 0;
}

/*
 * Makes a bytea.
 */
static Datum
bytea_datum(const uint8 *bytes, int n)
{
	bytea	   *b = palloc(VARHDRSZ + n);

	SET_VARSIZE(b, VARHDRSZ + n);
	memcpy(VARDATA(b), bytes, n);
	return PointerGetDatum(b);
}

/*
 * Sets a field from a column that is NULL.  All fields are zero before.
 */
static void
read_null(const StoreTable *table, const StoreColumn *column, char *field)
{
	switch ((StoreNull) column->nulls)
	{
		case NULLS_NOT:
			if (column->form != FORM_NONE)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a row of table \"credits.%s\" is damaged",
								table->name),
						 errdetail("Its column \"%s\" is null.",
								   column_name(column)),
						 errhint("Restore the row, and the column's NOT NULL.")));
			break;
		case NULLS_VALUE:
			if (column->form == FORM_INT64)
				*(int64 *) field = column->null;
			else
				*(int32 *) field = (int32) column->null;
			break;
		case NULLS_ZERO:
		case NULLS_FLAG:
		case NULLS_OTHER:
			break;
	}
}

/*
 * Sets a field from a column that is not NULL.  Returns false if the value is
 * to be treated as NULL.
 *
 * "copy" says whether values of variable length are copied, or may point into
 * the slot.
 */
static inline bool
read_column(const StoreColumn *column, Datum value, char *row, bool copy)
{
	char	   *field = row + column->offset;
	bytea	   *b;
	int			n;

	switch ((StoreForm) column->form)
	{
		case FORM_INT64:
			*(int64 *) field = DatumGetInt64(value);
			break;
		case FORM_INT32:
			*(int32 *) field = DatumGetInt32(value);
			break;
		case FORM_BOOL:
			*(bool *) field = DatumGetBool(value);
			break;
		case FORM_ENUM:
			*(int *) field = n = position_of(column, value);
			if (n < 0 && column->beside != 0)
				*(char **) (row + column->beside) = TextDatumGetCString(value);
			break;
		case FORM_CODE:
			*(int *) field = n = index_of_code(column, DatumGetChar(value));
			if (n < 0)
				*(row + column->beside) = DatumGetChar(value);
			break;
		case FORM_EITHER:
			*(bool *) field = position_of(column, value) == 1;
			break;
		case FORM_TEXT:
			*(text **) field = copy ? DatumGetTextPCopy(value) :
				DatumGetTextPP(value);
			break;
		case FORM_CSTRING:
			*(char **) field = TextDatumGetCString(value);
			break;
		case FORM_JSONB:
			*(Jsonb **) field = copy ? DatumGetJsonbPCopy(value) :
				DatumGetJsonbP(value);
			break;
		case FORM_NUMERIC:
			*(Datum *) field = NumericGetDatum(copy ? DatumGetNumericCopy(value) :
											   DatumGetNumeric(value));
			break;
		case FORM_INTERVAL:
			{
				Interval   *span = palloc(sizeof(Interval));

				*span = *DatumGetIntervalP(value);
				*(Interval **) field = span;
			}
			break;
		case FORM_TOASTED:
			*(Datum *) field = copy ? datumCopy(value, false, -1) : value;
			break;
		case FORM_BYTES:
			b = copy ? DatumGetByteaPCopy(value) : DatumGetByteaPP(value);
			*(uint8 **) field = (uint8 *) VARDATA_ANY(b);
			*(int *) (row + column->beside) = VARSIZE_ANY_EXHDR(b);
			break;
		case FORM_DIGEST:
			b = DatumGetByteaPP(value);
			n = Min(VARSIZE_ANY_EXHDR(b), PG_SHA256_DIGEST_LENGTH);
			memcpy(field, VARDATA_ANY(b), n);
			if (column->beside != 0)
				*(int *) (row + column->beside) = n;
			break;
		case FORM_INT64S:
			return read_array(column, value, 1, field,
							  (int *) (row + column->beside));
		case FORM_PAIRS:
			return read_array(column, value, 2, field,
							  (int *) (row + column->beside));
		case FORM_PACKED:
			return read_packed(value, field, (int *) (row + column->beside));
		case FORM_NONE:
			break;
	}
	return true;
}

/*
 * Reads a row from a slot.  Fields of the struct that are not columns are set
 * to zero, except the row's TID.
 */
static inline void
read_row(const StoreTable *table, TupleTableSlot *slot, void *row, bool copy)
{
	const StoreColumn *column = table->columns;
	const StoreColumn *end = column + table->ncolumns;
	const Datum *value;
	const bool *isnull;

	slot_getsomeattrs(slot, table->ncolumns);
	value = slot->tts_values;
	isnull = slot->tts_isnull;
	memset(row, 0, table->row_size);
	*(ItemPointer) ((char *) row + table->tid) = slot->tts_tid;
	for (; column < end; column++, value++, isnull++)
	{
		if (*isnull)
			read_null(table, column, (char *) row + column->offset);
		else if (is_plain(column))
			*(int64 *) ((char *) row + column->offset) = DatumGetInt64(*value);
		else if (read_column(column, *value, row, copy) &&
				 column->nulls == NULLS_FLAG)
			*((bool *) row + column->other) = true;
	}
}

/*
 * Reads a row from a slot, and copies everything into the current memory
 * context.
 */
void
codec_read(const StoreTable *table, TupleTableSlot *slot, void *row)
{
	read_row(table, slot, row, true);
}

/*
 * Reads a row from a slot.  Values of variable length may still point into the
 * slot, and are valid only as long as it holds the row.
 */
void
codec_peek(const StoreTable *table, TupleTableSlot *slot, void *row)
{
	read_row(table, slot, row, false);
}

/*
 * Returns whether a column is NULL according to the struct.
 */
static inline bool
is_null(const StoreColumn *column, const char *row)
{
	const char *field = row + column->offset;

	switch ((StoreNull) column->nulls)
	{
		case NULLS_NOT:
			break;
		case NULLS_VALUE:
			return column->form == FORM_INT64 ?
				*(const int64 *) field == column->null :
				*(const int32 *) field == column->null;
		case NULLS_ZERO:
			if (column->form == FORM_INT64)
				return *(const int64 *) field == 0;
			if (column->form == FORM_INT64S || column->form == FORM_PAIRS)
				return *(const int *) (row + column->beside) == 0;
			if (column->form == FORM_BOOL)
				return !*(const bool *) field;
			return *(const Datum *) field == 0;
		case NULLS_FLAG:
			return !*((const bool *) row + column->other);
		case NULLS_OTHER:
			return *(const int64 *) (row + column->other) == column->null;
	}
	return column->form == FORM_NONE;
}

/*
 * Returns the name of an enum value, as the table has it.  A value of -1
 * stands for a name that was unknown when the row was read; the struct may
 * have kept it.
 */
static const char *
enum_name(const StoreColumn *column, int value, const char *row)
{
	if (value == -1 && column->beside != 0)
		return *(char *const *) (row + column->beside);
	if (value < 0 || value >= column->nnames)
		elog(ERROR, "column \"%s\" has no name for %d", column_name(column),
			 value);
	return column->names[value];
}

/*
 * Returns the value of a column that is not NULL.
 */
static inline Datum
write_column(const StoreColumn *column, const char *row)
{
	const char *field = row + column->offset;

	switch ((StoreForm) column->form)
	{
		case FORM_INT64:
			return Int64GetDatum(*(const int64 *) field);
		case FORM_INT32:
			return Int32GetDatum(*(const int32 *) field);
		case FORM_BOOL:
			return BoolGetDatum(*(const bool *) field);
		case FORM_ENUM:
			return CStringGetTextDatum(enum_name(column, *(const int *) field,
												 row));
		case FORM_CODE:
			return CharGetDatum(*(const int *) field < 0 ? row[column->beside] :
								column->codes[*(const int *) field]);
		case FORM_EITHER:
			return CStringGetTextDatum(column->names[*(const bool *) field]);
		case FORM_CSTRING:
			return CStringGetTextDatum(*(char *const *) field);
		case FORM_TEXT:
		case FORM_JSONB:
		case FORM_INTERVAL:
			return PointerGetDatum(*(void *const *) field);
		case FORM_NUMERIC:
		case FORM_TOASTED:
			return *(const Datum *) field;
		case FORM_BYTES:
			return bytea_datum(*(uint8 *const *) field,
							   *(const int *) (row + column->beside));
		case FORM_DIGEST:
			return bytea_datum((const uint8 *) field,
							   column->beside == 0 ? PG_SHA256_DIGEST_LENGTH :
							   *(const int *) (row + column->beside));
		case FORM_INT64S:
			return array_datum(*(int64 *const *) field,
							   *(const int *) (row + column->beside), 1);
		case FORM_PAIRS:
			return array_datum(*(int64 *const *) field,
							   *(const int *) (row + column->beside), 2);
		case FORM_PACKED:
			return packed_datum(*(int64 *const *) field,
								2 * *(const int *) (row + column->beside));
		case FORM_NONE:
			break;
	}
	return (Datum) 0;
}

/*
 * Converts a row to the values of its columns.  The arrays must have space for
 * the columns that are described.
 */
void
codec_write(const StoreTable *table, const void *row, Datum *values,
			bool *isnull)
{
	const StoreColumn *column = table->columns;
	const StoreColumn *end = column + table->ncolumns;

	for (; column < end; column++, values++, isnull++)
	{
		if (is_plain(column))
		{
			*isnull = false;
			*values = Int64GetDatum(*(const int64 *) ((const char *) row +
													  column->offset));
		}
		else if (is_null(column, row))
		{
			*isnull = true;
			*values = (Datum) 0;
		}
		else
		{
			*isnull = false;
			*values = write_column(column, row);
		}
	}
}

/*
 * Returns the name and value of a row's first column, for error messages.
 */
char *
codec_name(const StoreTable *table, const void *row)
{
	const StoreColumn *column = &table->columns[0];
	const char *field = (const char *) row + column->offset;

	return column->form == FORM_INT64 ?
		psprintf("%s " INT64_FORMAT, column_name(column),
				 *(const int64 *) field) :
		psprintf("%s \"%s\"", column_name(column),
				 column->form == FORM_CSTRING ? *(char *const *) field :
				 text_to_cstring(*(text *const *) field));
}
