# life.pl - the life of credits, step by step: see Story.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;

my $clock = '2030-01-01 09:00+00';

$| = 1;
hide(qw(account held created_at));
open_session('dba', undef);

print "The clock of this demo stands at $clock.\n";

say_step('A DBA installs the extension, and lets the role of an application spend.');
call('dba', 'CREATE EXTENSION credits', '');
call('dba', 'GRANT credits_app TO shop', '');
session('dba')->do("ALTER DATABASE $database SET credits.test_clock = '$clock'");
open_session('dba', undef);
open_session('shop', 'shop');
open_session('listener', 'shop');

say_step('Two accounts are opened, each once: asking again changes nothing.');
call('dba', q{SELECT * FROM credits_open_account('ada', initial_credits => 10)},
	'transaction_id #, kind opening, amount 10, balance 10, replayed f');
call('dba', q{SELECT * FROM credits_open_account('ada', initial_credits => 10)},
	'transaction_id #, kind opening, amount 10, balance 10, replayed t');
call('dba', q{SELECT * FROM credits_open_account('bob', initial_credits => 15)},
	'transaction_id #, kind opening, amount 15, balance 15, replayed f');

say_step('Ada is given 30 credits that last a week, and buys 50 that do not expire.');
call('dba', q{SELECT * FROM credits_allocate('ada', 30, source => 'promotional',
	expires_at => '2030-01-08 09:00+00')},
	'transaction_id #, kind allocation, amount 30, balance 40, replayed f');
call('dba', q{SELECT * FROM credits_allocate('ada', 50, source => 'purchase',
	price => 4.99, currency => 'EUR')},
	'transaction_id #, kind allocation, amount 50, balance 90, replayed f');

say_step('She spends. What is free and perishable goes first.');
my $spend = call('shop', q{SELECT * FROM credits_deduct('ada', 12, idempotency_key => 'job-1')},
	'transaction_id #, kind deduction, amount -12, balance 78, replayed f');
call('dba', qq{SELECT g.source, d.amount
	FROM credits.draws d JOIN credits.grants g ON g.id = d.grant_id
	WHERE d.transaction_id = $spend},
	'source promotional, amount -12');

say_step('The answer was lost, the application asks again: the same receipt, nothing spent.');
call('shop', q{SELECT * FROM credits_deduct('ada', 12, idempotency_key => 'job-1')},
	"transaction_id $spend, kind deduction, amount -12, balance 78, replayed t");
call('shop', q{SELECT * FROM credits_deduct('ada', 99, idempotency_key => 'job-1')}, 'PT409');

say_step('Nobody spends what is not there (an error, or a row). An application cannot give.');
call('shop', q{SELECT * FROM credits_deduct('ada', 1000)}, 'PT402');
call('shop', q{SELECT ok, code, message FROM credits_try_deduct('ada', 1000)},
	qr/\Aok f, code PT402, message \S/);
call('shop', q{SELECT * FROM credits_allocate('ada', 1000)}, '42501');

say_step('Part of the first job failed: 5 credits go back to the grant they came from.');
call('shop', qq{SELECT * FROM credits_refund($spend, 5, reason => 'half the images were blank')},
	'transaction_id #, kind refund, amount 5, balance 83, replayed f');

say_step('Bob falls below 10. A listener hears of it once, and only when it is committed.');
call('listener', 'LISTEN low_balance', '');
session('listener')->do('LISTEN demo_marker');
call('shop', 'BEGIN', '');
call('shop', q{SELECT * FROM credits_deduct('bob', 9)},
	'transaction_id #, kind deduction, amount -9, balance 6, replayed f');
call('shop', 'ROLLBACK', '');
hear('');
my $alerted = call('shop', q{SELECT * FROM credits_deduct('bob', 8)},
	'transaction_id #, kind deduction, amount -8, balance 7, replayed f');
call('shop', q{SELECT * FROM credits_deduct('bob', 1)},
	'transaction_id #, kind deduction, amount -1, balance 6, replayed f');
hear(qr/\Alow_balance \{"account":"bob","at":"2030-01-01T09:00:00[^"]*","balance":7,"base":\d+,"level":"10","threshold":10,"transaction_id":$alerted\}\z/);

say_step('Eight days pass. Expired credits are gone, whether or not any job has run.');
call('dba', q{SELECT balance, expiring_amount, expiring_at FROM credits_summary('ada')},
	'balance 83, expiring_amount 23, expiring_at 2030-01-08 09:00:00+00');
call('dba', q{SET credits.test_clock = '2030-01-09 09:00+00'}, '');
call('dba', q{SELECT credits_balance('ada')}, '60');
call('dba', q{CALL credits_settle()}, 'settled 1, failed 0');
call('dba', q{SELECT credits_balance_at('ada', '2030-01-08 08:59:59+00') AS before,
	credits_balance_at('ada', '2030-01-08 09:00+00') AS after},
	'before 83, after 60');

say_step('What she has, and how it came about.');
call('dba', q{SELECT balance, granted, spent, refunded, expired, status FROM credits_summary('ada')},
	'balance 60, granted 90, spent 12, refunded 5, expired 23, status active');
call('dba', q{SELECT transaction_id AS id, created_at, kind, amount, balance, reason
	FROM credits_history('ada')},
	qr/(?:.*\n){6}.*/);

say_step('Even a superuser changes no balance and no history by hand.');
call('dba', q{UPDATE credits.accounts SET balance = 1000 WHERE name = 'ada'}, '42501');
call('dba', qq{DELETE FROM credits.log_default WHERE id = $spend}, '42501');

say_step('One who disables the triggers to change the past is found out. Otherwise all is well.');
call('dba', 'BEGIN', '');
call('dba', 'ALTER TABLE credits.log_default DISABLE TRIGGER ALL', '');
call('dba', qq{UPDATE credits.log_default SET reason = 'a gift' WHERE id = $spend}, '');
call('dba', 'SELECT account, transaction_id, problem FROM credits_verify()', qr/chain/);
call('dba', 'ROLLBACK', '');
call('dba', 'SELECT * FROM credits_verify()', '(no rows)');

print "\n\nMore that moves credits\n";
hide(qw(replayed created_at));
session('dba')->do('GRANT SET ON PARAMETER credits.test_clock TO shop');
set_clock('2030-01-09 09:00+00');

say_step('The cost of a job is not known yet: 20 credits are held. It took 14, the rest goes back.');
my $hold = call('shop', q{SELECT * FROM credits_hold('ada', 20, idempotency_key => 'job-2')},
	'transaction_id #, account ada, kind hold, amount -20, balance 40, held 20');
call('shop', qq{SELECT * FROM credits_capture($hold, 14)},
	'transaction_id #, account ada, kind capture, amount 0, balance 46, held 0');

say_step('Another job is never heard of again. Its hold times out, whether or not any job has run.');
$hold = call('shop', q{SELECT * FROM credits_hold('ada', 30, expires_in => '15 minutes')},
	'transaction_id #, account ada, kind hold, amount -30, balance 16, held 30');
set_clock('2030-01-09 09:15+00');
call('shop', q{SELECT credits_balance('ada')}, '46');
call('shop', qq{SELECT * FROM credits_capture($hold)}, 'PT410');

say_step('The service is paused. Nobody spends, and nothing is on its way any more; what was done can be asked for and undone.');
call('dba', q{CALL credits_pause_service('moving to a larger server', until => '2030-01-09 10:00+00')}, '');
call('shop', q{SELECT * FROM credits_deduct('ada', 1)}, 'PT503');
call('shop', q{SELECT paused, reason, until FROM credits_service()},
	'paused t, reason moving to a larger server, until 2030-01-09 10:00:00+00');
call('shop', q{SELECT * FROM credits_deduct('ada', 12, idempotency_key => 'job-1')},
	"transaction_id $spend, account ada, kind deduction, amount -12, balance 78, held 0");
call('dba', q{SELECT credits_resume_service()}, 't');

say_step('Ada sends Bob credits. They expire when they would have: sending makes nothing last.');
call('dba', q{SELECT * FROM credits_allocate('ada', 15, source => 'trial', expires_at => '2030-02-01')},
	'transaction_id #, account ada, kind allocation, amount 15, balance 61, held 0');
call('shop', q{SELECT * FROM credits_transfer('ada', 'bob', 20, reason => 'lunch')},
	'transaction_id #, account ada, kind transfer, amount -20, balance 41, held 0');
call('dba', q{SELECT g.source, g.amount, g.expires_at
	FROM credits.grants g JOIN credits.accounts a ON a.id = g.account_id
	WHERE a.name = 'bob' ORDER BY g.id},
	"source    amount  expires_at\n"
	. "signup        15  -\n"
	. "trial         15  2030-02-01 00:00:00+00\n"
	. "purchase       5  -");

say_step('A team has a pool. Ada may spend 100 of it a day, and not one more.');
call('dba', q{SELECT * FROM credits_open_account('team', initial_credits => 1000)},
	'transaction_id #, account team, kind opening, amount 1000, balance 1000, held 0');
call('dba', q{SELECT * FROM credits_add_member('team', 'ada', cap => 100, per => 'day')},
	'transaction_id #, account team, kind membership, amount 0, balance 1000, held 0');
call('shop', q{SELECT * FROM credits_deduct('ada', 80, pool => 'team')},
	'transaction_id #, account team, kind deduction, amount -80, balance 920, held 0');
call('shop', q{SELECT * FROM credits_deduct('ada', 30, pool => 'team')}, 'PT403');

say_step('One spend of 50: her own 41 first, the rest from the pool. Its refund undoes both.');
$spend = call('shop', q{SELECT * FROM credits_deduct('ada', 50, pool => 'team', mode => 'own_first')},
	'transaction_id #, account ada, kind deduction, amount -50, balance 0, held 0');
my $usage = q{SELECT credits_balance('ada') AS own, credits_balance('team') AS pool, m.used, m.cap
	FROM credits.pool_members m WHERE m.account = 'ada'};
call('dba', $usage, 'own 0, pool 911, used 89, cap 100');
call('shop', qq{SELECT * FROM credits_refund($spend)},
	'transaction_id #, account team, kind refund, amount 50, balance 920, held 0');
call('dba', $usage, 'own 41, pool 920, used 80, cap 100');

say_step('Bob asked not to be able to spend more than 10 at once.');
call('dba', q{SELECT * FROM credits_set_limits('bob', max_spend => 10, reason => 'his wish')},
	'transaction_id #, account bob, kind limits, amount 0, balance 26, held 0');
call('shop', q{SELECT * FROM credits_deduct('bob', 12)}, 'PT403');

say_step('A code of a campaign gives 50, in whatever letters it is typed, once per account.');
call('dba', q{SELECT credits_create_promo_code('WELCOME', 50, max_uses => 1000)}, 'WELCOME');
call('shop', q{SELECT * FROM credits_redeem('ada', ' welcome ')},
	'transaction_id #, account ada, kind redemption, amount 50, balance 91, held 0');
call('shop', q{SELECT ok, code, message FROM credits_try_redeem('ada', 'WELCOME')},
	qr/\Aok f, code PT409, message \S/);

say_step('Ada gives 25 away: who has the code has them, once.');
my $code = call('shop', q{SELECT code FROM credits_create_gift('ada', 25, message => 'get well')},
	qr/\A\S+\z/);
call('shop', qq{SELECT * FROM credits_redeem('bob', '$code')},
	'transaction_id #, account bob, kind gift, amount 25, balance 51, held 0');
call('dba', q{SELECT account, credits, status, redeemed_by, message FROM credits.gifts},
	'account ada, credits 25, status redeemed, redeemed_by bob, message get well');

say_step('Carl comes with the referral code of Ada. Both get something for it.');
call('dba', qq{ALTER DATABASE $database SET credits.referral_credits = 20}, '');
call('dba', qq{ALTER DATABASE $database SET credits.referrer_credits = 30}, '');
open_session('shop', 'shop');
set_clock('2030-01-09 09:20+00');
call('dba', q{SELECT * FROM credits_open_account('carl')},
	'transaction_id #, account carl, kind opening, amount 0, balance 0, held 0');
$code = call('shop', q{SELECT credits_referral_code('ada')}, qr/\A\S+\z/);
call('shop', qq{SELECT * FROM credits_redeem('carl', '$code')},
	'transaction_id #, account carl, kind referral, amount 20, balance 20, held 0');
call('dba', q{SELECT referrer, referrer_credits, referee, referee_credits FROM credits.referrals},
	'referrer ada, referrer_credits 30, referee carl, referee_credits 20');

say_step('What a chat costs is set once. Another price is another version: the log stays explained.');
call('dba', q{SELECT credits_set_operation('chat', base_cost => 1, unit_cost => 0.002, unit_name => 'token')},
	'1');
call('dba', q{SELECT * FROM credits_open_account('dora', initial_credits => 100)},
	'transaction_id #, account dora, kind opening, amount 100, balance 100, held 0');
call('shop', q{SELECT cost, sufficient, remaining FROM credits_quote('dora', 'chat', 3400)},
	'cost 8, sufficient t, remaining 92');
call('shop', q{SELECT * FROM credits_charge('dora', 'chat', 3400)},
	'transaction_id #, account dora, kind deduction, amount -8, balance 92, held 0');
call('dba', q{SELECT credits_set_operation('chat', unit_cost => 0.001)},
	'2');
call('dba', q{SELECT c.operation, c.quantity, c.cost, o.unit_cost
	FROM credits.charges c JOIN credits.operations o ON o.id = c.price_id},
	'operation chat, quantity 3400, cost 8, unit_cost 0.002');

say_step('A night of usage in one call, with one spend too many and one sent twice; a bonus in another.');
call('shop', q{SELECT item, ok, code, (receipt).account, (receipt).balance
	FROM credits_deduct_many(ARRAY[
	('dora', 30, 'use-1', 'export', NULL, NULL),
	('team', 100, 'use-2', 'export', NULL, NULL),
	('dora', 70, 'use-3', 'export', NULL, NULL),
	('dora', 30, 'use-1', 'export', NULL, NULL)]::credits.deduction[])},
	"item  ok  code   account  balance\n"
	. "   1  t   -      dora          62\n"
	. "   2  t   -      team         820\n"
	. "   3  f   PT402  -        -\n"
	. "   4  t   -      dora          62");
call('dba', q{SELECT count(*), sum((receipt).amount), bool_and(ok) AS ok
	FROM credits_allocate_many(ARRAY(
	SELECT (name, 5, 'bonus-2030', NULL, NULL, NULL, 'promotional', NULL, NULL, NULL, NULL, NULL, NULL)::credits.allocation
	FROM credits.accounts WHERE name IN ('ada', 'bob', 'dora')), atomic => true)},
	'count 3, sum 15, ok t');

say_step('What there is, up to an amount, instead of a balance read first; payouts in one call, as JSON.');
call('shop', q{SELECT amount, balance FROM credits_deduct_up_to('dora', 100, 'stream-1')},
	'amount -67, balance 0');
call('shop', q{SELECT amount, balance FROM credits_deduct_up_to('dora', 100, 'stream-2')},
	'amount 0, balance 0');
call('shop', q{SELECT item, ok, (receipt).account, (receipt).balance FROM credits_transfer_many('[
	{"from_account": "team", "to_account": "dora", "amount": 20, "idempotency_key": "payout-1"},
	{"from_account": "dora", "to_account": "ada", "amount": 5, "idempotency_key": "payout-2"}]'::jsonb)},
	"item  ok  account  balance\n"
	. "   1  t   team         800\n"
	. "   2  t   dora          15");

say_step('All of it is in the log, and all is well.');
call('dba', q{SELECT * FROM credits_verify()}, '(no rows)');
