/*
 * settings.c
 *	  Definition of the settings (GUC variables), in alphabetical order.
 */
#include "credits.h"

#include <limits.h>

#include "base/base.h"

#include "utils/guc.h"

char	   *setting_actor;
static char *setting_alert_cooldown;
static char *setting_delivery_max_age;
static char *setting_delivery_retention;
static char *setting_alert_levels;
bool		setting_alert_recovery;
static char *setting_archive_after;
static char *setting_default_channels;
static char *setting_dispute_deadline;
char	   *setting_default_locale;
static char *setting_event_retention;
static char *setting_expiry_warning;
int			setting_initial_balance;
static char *setting_key_retention;
int			setting_max_balance;
int			setting_debt_payment;
int			setting_delivery_attempts;
int			setting_excess;
int			setting_max_spend;
int			setting_max_spend_per_day;
int			setting_max_spend_per_month;
int			setting_min_spend;
int			setting_partition_rows;
int			setting_partitions_ahead;
static char *setting_payload_retention;
char	   *setting_purchase_expiry;
int			setting_redeem_failures;
char	   *setting_referral_account_age;
int			setting_referral_cap;
int			setting_referral_credits;
int			setting_referrer_credits;
char	   *setting_refund_grace;
static char *setting_refund_window;
char	   *setting_refusal_window;
static char *setting_renewal_warning;
int			setting_stripe_foreign;
int			setting_stripe_tolerance;
char	   *setting_test_clock;
static char *setting_unverified_channels;

static const struct config_enum_entry debt_payment_options[] = {
	{"purchase", DEBT_PAYMENT_PURCHASE, false},
	{"any", DEBT_PAYMENT_ANY, false},
	{NULL, 0, false}
};

static const struct config_enum_entry stripe_foreign_options[] = {
	{"list", STRIPE_FOREIGN_LIST, false},
	{"ignore", STRIPE_FOREIGN_IGNORE, false},
	{NULL, 0, false}
};

const char *const excess_names[] = {"refuse", "clip"};

static const struct config_enum_entry excess_options[] = {
	{"refuse", EXCESS_REFUSE, false},
	{"clip", EXCESS_CLIP, false},
	{NULL, 0, false}
};

/*
 * Check hook of credits.actor: limits its length.
 */
static bool
check_actor(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) <= MAX_NAME_BYTES)
		return true;
	GUC_check_errdetail("It has %zu bytes; at most %d are allowed.",
						strlen(*newval), MAX_NAME_BYTES);
	return false;
}

/*
 * Defines all settings.  Called once, when the library is loaded.
 */
void
settings_define(void)
{
	DefineCustomStringVariable("credits.actor",
							   "Who acts, in the application's own terms; recorded with each transaction.",
							   NULL,
							   &setting_actor,
							   "",
							   PGC_USERSET,
							   0,
							   check_actor,
							   NULL,
							   NULL);
	DefineCustomStringVariable("credits.alert_cooldown",
							   "How long people are told of an alert at one level only once; 0 means always.",
							   NULL,
							   &setting_alert_cooldown,
							   "1 day",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_alert_cooldown,
							   NULL);
	DefineCustomStringVariable("credits.alert_levels",
							   "Balances at which an account alerts unless it has levels of its own, as a list of credits or percentages of its base; empty means never.",
							   NULL,
							   &setting_alert_levels,
							   "10",
							   PGC_SUSET,
							   0,
							   levels_check,
							   levels_assign,
							   NULL);
	DefineCustomBoolVariable("credits.alert_recovery",
							 "Whether an account also alerts when its balance rises to a level.",
							 NULL,
							 &setting_alert_recovery,
							 false,
							 PGC_SUSET,
							 0,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomStringVariable("credits.archive_after",
							   "How old the rows are that credits_archive archives unless told otherwise; 0 means never.",
							   NULL,
							   &setting_archive_after,
							   "0",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_archive_after,
							   NULL);
	DefineCustomEnumVariable("credits.debt_payment",
							 "Which new grants pay an account's debt: those of source purchase, or any.",
							 NULL,
							 &setting_debt_payment,
							 DEBT_PAYMENT_PURCHASE,
							 debt_payment_options,
							 PGC_SUSET,
							 0,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomStringVariable("credits.default_channels",
							   "Channels by which people are told of events unless they want it otherwise, for all kinds of events or for single ones.",
							   NULL,
							   &setting_default_channels,
							   "email, push, webhook, inbox",
							   PGC_SUSET,
							   0,
							   channels_check_default,
							   channels_assign_default,
							   NULL);
	DefineCustomStringVariable("credits.default_locale",
							   "Language of messages to people whose contacts have none, or one without a template.",
							   NULL,
							   &setting_default_locale,
							   "en",
							   PGC_SUSET,
							   0,
							   locales_check,
							   NULL,
							   NULL);
	DefineCustomIntVariable("credits.delivery_attempts",
							"How often a message is tried to be sent before it is given up.",
							NULL,
							&setting_delivery_attempts,
							10,
							1,
							100,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomStringVariable("credits.delivery_max_age",
							   "How long a message may wait to be sent before it is of no use any more; 0 means forever.",
							   NULL,
							   &setting_delivery_max_age,
							   "7 days",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_delivery_max_age,
							   NULL);
	DefineCustomStringVariable("credits.delivery_retention",
							   "How long deliveries that have ended are kept; 0 means as long as their events.",
							   NULL,
							   &setting_delivery_retention,
							   "0",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_delivery_retention,
							   NULL);
	DefineCustomStringVariable("credits.dispute_deadline",
							   "How long after a dispute was opened an event says that it is overdue; 0 means never.",
							   NULL,
							   &setting_dispute_deadline,
							   "0",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_dispute_deadline,
							   NULL);
	DefineCustomStringVariable("credits.event_retention",
							   "How long events are kept; 0 means forever.",
							   NULL,
							   &setting_event_retention,
							   "90 days",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_event_retention,
							   NULL);
	DefineCustomEnumVariable("credits.excess",
							 "What happens to an allocation that exceeds the highest balance, unless the account has a limit of its own.",
							 NULL,
							 &setting_excess,
							 EXCESS_REFUSE,
							 excess_options,
							 PGC_SUSET,
							 0,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomStringVariable("credits.expiry_warning",
							   "How long before a grant expires events announce it, as a list; empty means never.",
							   NULL,
							   &setting_expiry_warning,
							   "7 days, 1 day",
							   PGC_SUSET,
							   0,
							   clock_check_intervals,
							   clock_assign_expiry_warning,
							   NULL);
	DefineCustomIntVariable("credits.initial_balance",
							"Credits that a new account gets unless the call says otherwise.",
							NULL,
							&setting_initial_balance,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomStringVariable("credits.key_retention",
							   "How long idempotency keys are promised once the log is partitioned; 0 means forever.",
							   NULL,
							   &setting_key_retention,
							   "0",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_key_retention,
							   NULL);
	DefineCustomIntVariable("credits.max_balance",
							"Highest balance that an account may be given unless it has a limit of its own; 0 means no limit.",
							NULL,
							&setting_max_balance,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.max_spend",
							"Largest single spend of an account unless it has a limit of its own; 0 means no limit.",
							NULL,
							&setting_max_spend,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.max_spend_per_day",
							"Most that an account may spend in a day unless it has a limit of its own; 0 means no limit.",
							NULL,
							&setting_max_spend_per_day,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.max_spend_per_month",
							"Most that an account may spend in a month unless it has a limit of its own; 0 means no limit.",
							NULL,
							&setting_max_spend_per_month,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.min_spend",
							"Smallest single spend of an account unless it has a limit of its own; 0 means no limit.",
							NULL,
							&setting_min_spend,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.partition_rows",
							"How many ids a partition of the log has; 0 means that none are made.",
							NULL,
							&setting_partition_rows,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.partitions_ahead",
							"How many partitions of the log are made before they are needed.",
							NULL,
							&setting_partitions_ahead,
							2,
							1,
							100,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomStringVariable("credits.payload_retention",
							   "How long the payloads of Stripe's events are kept; 0 means forever.",
							   NULL,
							   &setting_payload_retention,
							   "0",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_payload_retention,
							   NULL);
	DefineCustomStringVariable("credits.purchase_expiry",
							   "How long a purchase waits for its payment; 0 means forever.",
							   NULL,
							   &setting_purchase_expiry,
							   "24 hours",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_purchase_expiry,
							   NULL);
	DefineCustomIntVariable("credits.redeem_failures",
							"How many codes an account may fail to redeem in one credits.refusal_window; 0 means any number.",
							NULL,
							&setting_redeem_failures,
							10,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomStringVariable("credits.referral_account_age",
							   "Age from which an account can no longer redeem a referral code; 0 means no limit.",
							   NULL,
							   &setting_referral_account_age,
							   "30 days",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_referral_account_age,
							   NULL);
	DefineCustomIntVariable("credits.referral_cap",
							"How often the referral code of one account can be redeemed; 0 means no limit.",
							NULL,
							&setting_referral_cap,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.referral_credits",
							"Credits for an account that redeems a referral code.",
							NULL,
							&setting_referral_credits,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomIntVariable("credits.referrer_credits",
							"Credits for the account whose referral code is redeemed.",
							NULL,
							&setting_referrer_credits,
							0,
							0,
							INT_MAX,
							PGC_SUSET,
							0,
							NULL,
							NULL,
							NULL);
	DefineCustomStringVariable("credits.refund_grace",
							   "How long credits can be spent that a refund gives back to an expired grant; with 0, they expire immediately.",
							   NULL,
							   &setting_refund_grace,
							   "7 days",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_refund_grace,
							   NULL);
	DefineCustomStringVariable("credits.refund_window",
							   "How long a spend can be refunded and a transfer reversed; 0 means forever.",
							   NULL,
							   &setting_refund_window,
							   "0",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_refund_window,
							   NULL);
	DefineCustomStringVariable("credits.refusal_window",
							   "Refusals that an account meets within this time are one event; 0 means that each is one.",
							   NULL,
							   &setting_refusal_window,
							   "1 hour",
							   PGC_SUSET,
							   0,
							   clock_check_interval,
							   clock_assign_refusal_window,
							   NULL);
	DefineCustomStringVariable("credits.renewal_warning",
							   "How long before a subscription is renewed events announce it, as a list; empty means never.",
							   NULL,
							   &setting_renewal_warning,
							   "3 days",
							   PGC_SUSET,
							   0,
							   clock_check_intervals,
							   clock_assign_renewal_warning,
							   NULL);
	DefineCustomEnumVariable("credits.stripe_foreign",
							 "What to do with payments at Stripe that nothing connects with an account or a purchase here.",
							 NULL,
							 &setting_stripe_foreign,
							 STRIPE_FOREIGN_LIST,
							 stripe_foreign_options,
							 PGC_SUSET,
							 0,
							 NULL,
							 NULL,
							 NULL);
	DefineCustomIntVariable("credits.stripe_tolerance",
							"How old the signature of a webhook may be, or how far in the future.",
							NULL,
							&setting_stripe_tolerance,
							300,
							1,
							SECS_PER_DAY,
							PGC_SUSET,
							GUC_UNIT_S,
							NULL,
							NULL,
							NULL);
	DefineCustomStringVariable("credits.test_clock",
							   "Instant that replaces the current time, for tests; empty means the current time.",
							   NULL,
							   &setting_test_clock,
							   "",
							   PGC_SUSET,
							   GUC_NOT_IN_SAMPLE,
							   clock_check_test_clock,
							   clock_assign_test_clock,
							   NULL);
	DefineCustomStringVariable("credits.unverified_channels",
							   "Channels by which messages also go to addresses that are not verified.",
							   NULL,
							   &setting_unverified_channels,
							   "push, webhook, inbox",
							   PGC_SUSET,
							   0,
							   channels_check_unverified,
							   channels_assign_unverified,
							   NULL);
	MarkGUCPrefixReserved("credits");
}
