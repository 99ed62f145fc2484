/*
 * args.h
 *	  Reading and checking the arguments of SQL functions.
 */
#ifndef CREDITS_BASE_ARGS_H
#define CREDITS_BASE_ARGS_H

#include "base/errors.h"
#include "base/names.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

/* the value of an enum that an argument names; it must be given */
#define ARG_CHOICE(n, name, names) \
	arg_choice(fcinfo, n, name, names, lengthof(names))

extern bool refuse_null(Refusal *refusal, const char *name);
NORETURN_COMPAT extern void raise_null(const char *name);
extern bool has_control_character(const char *text, int len);
extern bool same_text(const text *a, const text *b);
extern bool valid_text(Refusal *refusal, text *value, const char *name,
					   int max_bytes);
extern bool valid_name(Refusal *refusal, text *value, const char *name,
					   int max_bytes);
extern bool valid_amount(Refusal *refusal, int64 amount, const char *name);
extern bool valid_metadata(Refusal *refusal, Jsonb *metadata);
extern bool valid_span(Refusal *refusal, const Interval *value,
					   const char *name);
extern void check_account_name(text *name);
extern text *arg_account(FunctionCallInfo fcinfo, int n);
extern int64 arg_id(FunctionCallInfo fcinfo, int n, const char *name);
extern int64 arg_amount(FunctionCallInfo fcinfo, int n, const char *name);
extern text *arg_name(FunctionCallInfo fcinfo, int n, const char *name);
extern text *arg_text(FunctionCallInfo fcinfo, int n, const char *name,
					  int max_bytes);
extern bool arg_bool(FunctionCallInfo fcinfo, int n, const char *name);
extern char *show_value(const char *value);
extern bool refuse_choice(Refusal *refusal, const char *value,
						  const char *name, const char *const *names,
						  int nnames);
extern int	arg_choice(FunctionCallInfo fcinfo, int n, const char *name,
					   const char *const *names, int nnames);
extern Interval *arg_interval(FunctionCallInfo fcinfo, int n,
							  const char *name);
extern TimestampTz arg_active_from(FunctionCallInfo fcinfo, int n,
								   const char *name);
extern TimestampTz arg_active_until(FunctionCallInfo fcinfo, int n,
									TimestampTz from);
extern int	arg_max_rows(FunctionCallInfo fcinfo, int n, int most,
						 const char *null_hint, const char *hint);
extern int	arg_page_rows(FunctionCallInfo fcinfo, int n);
extern text *arg_timezone(FunctionCallInfo fcinfo, int n);
extern text *arg_reason(FunctionCallInfo fcinfo, int n);
extern Jsonb *arg_metadata(FunctionCallInfo fcinfo, int n);
extern void check_initial_credits(int64 credits);
extern void check_unit(text *unit);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_ARGS_H */
