# rewarded.pl - credits for coming back, for a badge, and of a campaign: see Story.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;

$| = 1;
hide(qw(account held created_at));
begin_story('2030-06-01 09:00+00');

say_step('Each day that Ada comes is worth a credit more, up to three. She may miss one day.');
call('dba', q{SELECT credits_set_reward_program('sign-in', '{1,2,3}', 'daily', grace_days => 1, expires_in => '30 days')}, '#');
call('dba', q{SELECT balance FROM credits_open_account('ada')}, '0');
my $come = q{SELECT ok, code, (receipt).amount FROM credits_try_reward('ada', 'sign-in')};
call('shop', $come, 'ok t, code -, amount 1');
call('shop', $come, 'ok f, code PT409, amount -');
set_clock('2030-06-02 09:00+00');
call('shop', $come, 'ok t, code -, amount 2');
set_clock('2030-06-04 09:00+00');
call('shop', $come, 'ok t, code -, amount 3');
set_clock('2030-06-07 09:00+00');
call('shop', $come, 'ok t, code -, amount 1');

say_step('A badge is given once, whatever the application believes.');
call('dba', q{SELECT credits_set_reward_program('badges', '{50}')}, '#');
call('shop', q{SELECT amount, balance FROM credits_reward('ada', 'badges', 'first picture')}, 'amount 50, balance 57');
call('shop', q{SELECT credits_reward('ada', 'badges', 'first picture')}, 'PT409');

say_step('A campaign has 100 credits to give. Of those who ask, nobody gets what is not there.');
call('dba', q{SELECT credits_set_reward_program('launch', '{60}', budget => 100, active_until => '2030-07-01 00:00+00')}, '#');
call('shop', q{SELECT amount FROM credits_reward('ada', 'launch', 'survey')}, '60');
call('shop', q{SELECT credits_reward('ada', 'launch', 'video')}, 'PT410');
call('dba', q{SELECT name, left_over FROM credits.current_reward_programs WHERE budget IS NOT NULL}, 'name launch, left_over 40');
call('shop', q{SELECT count(*), sum(amount) FROM credits_rewards('ada')}, 'count 6, sum 117');
call('dba', q{SELECT count(*) FROM credits_verify()}, '0');
