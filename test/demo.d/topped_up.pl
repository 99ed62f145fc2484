# topped_up.pl - credits that are bought before they run out: see Story.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;

$| = 1;
hide(qw(account held created_at));
begin_story('2030-05-01 09:00+00');

say_step('Below 100 credits, Ada has 1000 bought, twice a day at most. The price list is that of everybody.');
call('dba', q{SELECT credits_set_package('refill', 1000, 9.99, 'EUR')}, '#');
call('dba', q{SELECT balance FROM credits_open_account('ada', 120)}, '120');
call('shop', q{SELECT kind FROM credits_set_topup('ada', 100, package => 'refill', max_requests => 2)}, 'topup_rule');

say_step('She falls below it. The spend writes an event; the worker, which looks every second, starts a purchase: once.');
call('shop', q{SELECT balance FROM credits_deduct('ada', 40)}, '80');
my $request = q{SELECT credits, price, currency, stripe_amount, purchase_id FROM credits_request_topups()};
my $purchase = call('dba', $request, 'credits 1000, price 9.99, currency EUR, stripe_amount 999, purchase_id #');
call('shop', q{SELECT balance FROM credits_deduct('ada', 30)}, '50');
call('dba', $request, '(no rows)');

say_step('It charges her card, and is paid.');
call('dba', q{SELECT outcome, (receipt).balance FROM credits_complete_purchase($1, 'pi_1', 9.99)}, 'outcome delivered, balance 1050', undef, $purchase);
call('dba', $request, '(no rows)');

say_step('The next time, her card is declined. It is tried again in an hour, then in a day, then not until she has another one.');
call('shop', q{SELECT balance FROM credits_deduct('ada', 1000)}, '50');
my $second = call('dba', $request, 'credits 1000, price 9.99, currency EUR, stripe_amount 999, purchase_id #');
call('dba', q{SELECT credits_fail_purchase($1, 'card_declined')}, 't', undef, $second);
call('dba', $request, '(no rows)');
call('shop', q{SELECT state, message, due_at FROM credits_topup('ada')}, 'state waiting, message the last payment was declined, due_at 2030-05-01 10:00:00+00');
call('shop', q{SELECT credits_resume_topup('ada')}, 't');
my $third = call('dba', $request, 'credits 1000, price 9.99, currency EUR, stripe_amount 999, purchase_id #');
call('dba', q{SELECT outcome, (receipt).balance FROM credits_complete_purchase($1, 'pi_3', 9.99)}, 'outcome delivered, balance 1050', undef, $third);
call('dba', $request, '(no rows)');

say_step('That were two of them. What she spends faster than that is hers to buy.');
call('shop', q{SELECT balance FROM credits_deduct('ada', 1000)}, '50');
call('dba', $request, '(no rows)');
call('shop', q{SELECT state, message FROM credits_topup('ada')}, 'state limited, message there have been as many top-ups as max_requests allows, 2');
set_clock('2030-05-02 09:00+00');
call('dba', $request, 'credits 1000, price 9.99, currency EUR, stripe_amount 999, purchase_id #');

say_step('What became of them, and that the books agree.');
call('dba', q{SELECT string_agg(status, ', ' ORDER BY topup_id) FROM credits.topup_list}, 'completed, failed, completed, pending');
call('dba', q{SELECT count(*) FROM credits_verify()}, '0');
