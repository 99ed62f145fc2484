# subscription.pl - a year of a subscription, from trial to cancellation: see
# Story.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;

# What she has now.
sub balance_is
{
	my ($expected) = @_;

	call('shop', q{SELECT credits_balance('ada')}, $expected);
	return;
}

# Runs the job that renews what is due.
sub renew
{
	my ($expected) = @_;

	call('dba', 'CALL credits_renew()', $expected);
	return;
}

$| = 1;
hide(qw(account held created_at));
begin_story('2030-01-17 09:00+00');

say_step('Two plans: 100 credits a month, of which up to 50 roll over; and 1,000 a month.');
call('dba', q{SELECT credits_set_plan('basic', 100, price => 9, currency => 'EUR',
	rollover => 'maximum', rollover_maximum => 50, trial => '14 days', trial_credits => 20)}, '#');
call('dba', q{SELECT credits_set_plan('pro', 1000, price => 49, currency => 'EUR')}, '#');

say_step('Ada tries the first one for two weeks, in her own time zone.');
call('dba', q{SELECT * FROM credits_open_account('ada')},
	'transaction_id #, kind opening, amount 0, balance 0, replayed f');
my $id = call('dba', q{SELECT status, period_start, period_end, balance, subscription_id
	FROM credits_subscribe('ada', 'basic', timezone => 'America/New_York', idempotency_key => 'sign-up')},
	'status trialing, period_start 2030-01-17 09:00:00+00, period_end 2030-01-31 09:00:00+00, balance 20, subscription_id #');

say_step('The trial ends, and what was left of it. From now on she has 100 a month.');
set_clock('2030-01-31 09:00+00');
renew('renewed 1, failed 0');
balance_is(100);

say_step('Months begin on the 31st, or on the last day that there is: and at 4 in the morning, in summer too.');
call('dba', q{SELECT n, credits.period_start('2030-01-31 09:00+00', 'America/New_York', 'month', 1, n)
	FROM generate_series(0, 3) AS n},
	"n  period_start\n"
	. "0  2030-01-31 09:00:00+00\n"
	. "1  2030-02-28 09:00:00+00\n"
	. "2  2030-03-31 08:00:00+00\n"
	. "3  2030-04-30 08:00:00+00");

say_step('She uses 70. Of the 30 left all roll over, as a grant of their own for one more month.');
call('shop', q{SELECT * FROM credits_deduct('ada', 70)},
	'transaction_id #, kind deduction, amount -70, balance 30, replayed f');
set_clock('2030-02-28 09:00+00');
renew('renewed 1, failed 0');
renew('renewed 0, failed 0');
balance_is(130);
call('dba', q{SELECT source, remaining, expires_at FROM credits.grants WHERE status = 'open' ORDER BY remaining DESC},
	"source        remaining  expires_at\n"
	. "subscription        100  2030-03-31 08:00:00+00\n"
	. "subscription         30  2030-03-31 08:00:00+00");

say_step('Half of March is over. What would the larger plan give for the rest of it? She takes it.');
set_clock('2030-03-15 20:30+00');
my $preview = call('dba', qq{SELECT * FROM credits_preview_plan_change($id, 'pro')}, qr/\S/);
call('dba', qq{SELECT * FROM credits_change_plan($id, 'pro')}, qr/\S/);
balance_is(580);

say_step('The server is off for three months. Each month gets its due when it is back, once.');
set_clock('2030-06-30 12:00+00');
renew(qr/\Arenewed \d+, failed 0\z/);
renew('renewed 0, failed 0');
balance_is(1000);
call('dba', qq{SELECT starts_at, status, credits, rolled FROM credits.periods
	WHERE subscription_id = $id ORDER BY starts_at}, qr/2030-06-30 08:00:00/);

say_step('Back to the smaller plan, from the next month on: a step down takes nothing away.');
call('dba', qq{SELECT * FROM credits_change_plan($id, 'basic')}, qr/\S/);
balance_is(1000);
set_clock('2030-07-31 08:00+00');
renew('renewed 1, failed 0');
balance_is(100);

say_step('A payment fails: nothing is renewed until she pays.');
call('dba', qq{SELECT status FROM credits_mark_unpaid($id)}, 'past_due');
set_clock('2030-08-31 09:00+00');
renew(qr/\Arenewed 0, failed 0\z/);
balance_is(0);
call('dba', qq{SELECT status FROM credits_mark_paid($id)}, 'active');
balance_is(qr/\A1[05]0\z/);

say_step('In December she cancels. What is given stays until the month is over.');
set_clock('2030-12-05 12:00+00');
renew(qr/failed 0/);
call('dba', qq{SELECT status, cancel_at FROM credits_cancel_subscription($id)},
	'status active, cancel_at 2030-12-31 09:00:00+00');
set_clock('2031-01-17 09:00+00');
renew(qr/failed 0/);
balance_is(0);
call('dba', q{SELECT status, ended_at FROM credits.subscription_list},
	'status canceled, ended_at 2030-12-31 09:00:00+00');

say_step('What was announced to those who listen, and the proof.');
call('dba', q{SELECT kind, count(*) FROM credits.events GROUP BY kind ORDER BY kind}, qr/subscription_renewed/);
call('dba', q{SELECT * FROM credits_verify()}, '(no rows)');
