/*
 * clock.h
 *	  The current time, and settings that are spans of time.
 */
#ifndef CREDITS_BASE_CLOCK_H
#define CREDITS_BASE_CLOCK_H

#include "credits.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

#define MAX_INTERVALS 16

/* longest span of time that an argument or a setting may give */
#define MAX_SPAN_YEARS 1000

/* The value of a setting that is a list of spans of time */
typedef struct Intervals
{
	int			n;
	Interval	spans[MAX_INTERVALS];
} Intervals;

extern TimestampTz clock_now(void);
extern char *clock_show(TimestampTz at);
extern TimestampTz clock_after(TimestampTz from, Interval *span);
extern TimestampTz clock_before(TimestampTz until, Interval *span);
extern TimestampTz clock_refund_grace(TimestampTz from);
extern Interval *clock_alert_cooldown(void);
extern Interval *clock_delivery_max_age(void);
extern Interval *clock_dispute_deadline(void);
extern Interval *clock_archive_after(void);
extern Interval *clock_delivery_retention(void);
extern Interval *clock_event_retention(void);
extern Intervals *clock_expiry_warning(void);
extern Interval *clock_key_retention(void);
extern Interval *clock_payload_retention(void);
extern Intervals *clock_renewal_warning(void);
extern TimestampTz clock_purchase_expiry(TimestampTz from);
extern Interval *clock_refusal_window(void);
extern Interval *clock_refund_window(void);
extern Interval *clock_referral_account_age(void);
extern bool clock_check_test_clock(char **newval, void **extra,
								   GucSource source);
extern void clock_assign_test_clock(const char *newval, void *extra);
extern bool clock_check_interval(char **newval, void **extra,
								 GucSource source);
extern bool clock_check_intervals(char **newval, void **extra,
								  GucSource source);
extern void clock_assign_alert_cooldown(const char *newval, void *extra);
extern void clock_assign_delivery_max_age(const char *newval, void *extra);
extern void clock_assign_dispute_deadline(const char *newval, void *extra);
extern void clock_assign_archive_after(const char *newval, void *extra);
extern void clock_assign_delivery_retention(const char *newval, void *extra);
extern void clock_assign_event_retention(const char *newval, void *extra);
extern void clock_assign_expiry_warning(const char *newval, void *extra);
extern void clock_assign_renewal_warning(const char *newval, void *extra);
extern void clock_assign_key_retention(const char *newval, void *extra);
extern void clock_assign_payload_retention(const char *newval, void *extra);
extern void clock_assign_purchase_expiry(const char *newval, void *extra);
extern void clock_assign_refund_grace(const char *newval, void *extra);
extern void clock_assign_refund_window(const char *newval, void *extra);
extern void clock_assign_refusal_window(const char *newval, void *extra);
extern void clock_assign_referral_account_age(const char *newval,
											  void *extra);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_CLOCK_H */
