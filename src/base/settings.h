/*
 * settings.h
 *	  The settings (GUC variables) of the extension.
 */
#ifndef CREDITS_BASE_SETTINGS_H
#define CREDITS_BASE_SETTINGS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* credits.excess: what to do with an allocation above the highest balance */
typedef enum Excess
{
	EXCESS_UNKNOWN = -1,		/* somebody has modified the table */
	EXCESS_REFUSE,
	EXCESS_CLIP,
	EXCESS_BY_SETTING			/* of an account that has none of its own */
} Excess;

/* credits.debt_payment: which new grants pay an account's debt */
typedef enum DebtPayment
{
	DEBT_PAYMENT_PURCHASE,
	DEBT_PAYMENT_ANY
} DebtPayment;

/* credits.stripe_foreign: what to do with payments that are none of ours */
typedef enum StripeForeign
{
	STRIPE_FOREIGN_LIST,
	STRIPE_FOREIGN_IGNORE
} StripeForeign;

/* without EXCESS_BY_SETTING, which is NULL */
extern const char *const excess_names[EXCESS_CLIP + 1];

extern char *setting_actor;
extern bool setting_alert_recovery;
extern int	setting_debt_payment;
extern int	setting_delivery_attempts;
extern char *setting_default_locale;
extern int	setting_excess;
extern int	setting_initial_balance;
extern int	setting_max_balance;
extern int	setting_max_spend;
extern int	setting_max_spend_per_day;
extern int	setting_max_spend_per_month;
extern int	setting_min_spend;
extern int	setting_partition_rows;
extern int	setting_partitions_ahead;
extern char *setting_purchase_expiry;
extern int	setting_redeem_failures;
extern char *setting_referral_account_age;
extern int	setting_referral_cap;
extern int	setting_referral_credits;
extern int	setting_referrer_credits;
extern char *setting_refund_grace;
extern char *setting_refusal_window;
extern int	setting_stripe_foreign;
extern int	setting_stripe_tolerance;
extern char *setting_test_clock;

extern void settings_define(void);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_SETTINGS_H */
