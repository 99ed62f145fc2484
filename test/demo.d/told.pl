# told.pl - an event on its way to a person, and to a program that must not miss it:
# see Story.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;

# Takes what is due for mail; returns the lease.
sub take
{
	my ($expected) = @_;

	return call('dba', q{SELECT delivery_id, address, subject, attempt, lease_id
	FROM credits_take_deliveries('email')}, $expected);
}

$| = 1;
hide(qw(account held created_at));
begin_story('2030-01-17 21:00+00');

say_step('Ada has 15 credits, an address, and wants no mail at night. We have words of our own for it, and a program that reads all events.');
call('dba', q{SELECT * FROM credits_open_account('ada', 15)}, 'transaction_id #, kind opening, amount 15, balance 15, replayed f');
call('dba', q{SELECT credits_set_contact('ada', 'email', 'ada@example.org', verified => true)}, '#');
call('dba', q{SELECT credits_set_template('low_balance', subject => 'Only {{balance}} credits left, {{account}}',
	body => 'You have {{balance}} credits left.')}, '#');
call('dba', q{SELECT credits_set_quiet_hours('ada', '22:00', '07:00', 'UTC')}, 't');
call('dba', q{SELECT credits_add_consumer('statistics')}, 't');

say_step('Another transaction has spent, and stays open. Ada\'s crosses a level, and commits first.');
call('dba', q{SELECT * FROM credits_open_account('bob', 15)}, 'transaction_id #, kind opening, amount 15, balance 15, replayed f');
open_session('slow', undef);
call('slow', 'BEGIN', '');
call('slow', q{SELECT balance FROM credits_deduct('bob', 6)}, '9');
call('shop', q{SELECT balance FROM credits_deduct('ada', 6)}, '9');

say_step('The program reads hers, and acknowledges it. The other one comes later, with the lower id.');
my $read = q{SELECT event_id, account, credits_ack_events('statistics', token) AS acknowledged
	FROM credits_read_events('statistics')};
call('dba', $read, 'event_id 2, account ada, acknowledged t');
call('slow', 'COMMIT', '');
call('dba', $read, 'event_id 1, account bob, acknowledged t');
call('dba', $read, '(no rows)');

say_step('A worker takes the mail to Ada. It dies. After its lease, the next one takes the same mail.');
take('delivery_id #, address ada@example.org, subject Only 9 credits left, ada, attempt 1, lease_id #');
take('(no rows)');
set_clock('2030-01-17 21:05+00');
my $lease = take('delivery_id #, address ada@example.org, subject Only 9 credits left, ada, attempt 2, lease_id #');
call('dba', q{SELECT credits_delivery_sent(id, $1) FROM credits.deliveries}, 't',
	'SELECT credits_delivery_sent(delivery_id, lease_id)', $lease);

say_step('The balance swings around the level: she is not told again. At 0 she is, but not at night.');
call('dba', q{SELECT * FROM credits_allocate('ada', 5)}, 'transaction_id #, kind allocation, amount 5, balance 14, replayed f');
call('shop', q{SELECT balance FROM credits_deduct('ada', 5)}, '9');
take('(no rows)');
set_clock('2030-01-17 23:00+00');
call('shop', q{SELECT balance FROM credits_deduct('ada', 9)}, '0');
take('(no rows)');
set_clock('2030-01-18 07:00+00');
take('delivery_id #, address ada@example.org, subject Only 0 credits left, ada, attempt 1, lease_id #');

say_step('She has enough of it: one click on the link in the mail, for which nobody has to sign in.');
call('shop', q{SELECT credits_unsubscribe(credits_unsubscribe_token('ada', 'low_balance'))}, 'low_balance');
call('shop', q{SELECT channel, told FROM credits_preferences('ada') WHERE kind = 'low_balance' AND channel = 'email'},
	'channel email, told f');

say_step('Her program wants to know instead. What is sent to it is signed as the Standard Webhooks say, with a secret that is shown once.');
call('shop', q{SELECT credits_set_contact('ada', 'webhook', 'https://ada.example.org/credits')}, '#');
call('shop', q{SELECT left(credits_rotate_webhook_secret('ada', 'https://ada.example.org/credits'), 6)}, 'whsec_');
set_clock('2030-01-19 12:00+00');
call('dba', q{SELECT * FROM credits_allocate('ada', 20)}, 'transaction_id #, kind allocation, amount 20, balance 20, replayed f');
call('shop', q{SELECT balance FROM credits_deduct('ada', 15)}, '5');
take('(no rows)');
call('dba', q{SELECT body::jsonb #>> '{data,balance}' AS balance, headers->>'webhook-id' = message_id AS same_id,
	left(headers->>'webhook-signature', 3) AS signature, credits_delivery_sent(delivery_id, lease_id) AS sent
	FROM credits_take_deliveries('webhook')}, 'balance 5, same_id t, signature v1,, sent t');

say_step('A rule says what is suspicious. The job finds it afterwards, once; here the account is paused until somebody has looked.');
call('dba', q{SELECT credits_set_activity_rule('stubborn', 'refusals', 2, pauses => true)}, 't');
call('shop', q{SELECT count(*) AS refused FROM generate_series(1, 3) AS n, credits_try_deduct('bob', 100 + n) AS t WHERE NOT t.ok}, '3');
call('dba', 'CALL credits_watch()', 'done 2, failed 0');
call('dba', q{SELECT account, detail->>'rule' AS rule, detail->'figure' AS figure FROM credits_read_events('statistics') WHERE kind = 'activity_suspicious'},
	'account bob, rule stubborn, figure 3');
call('shop', q{SELECT balance FROM credits_deduct('bob', 1)}, 'PT423');

say_step('Ada leaves, and wants to know what is held about her, and that it is forgotten. The sums stay, and the chain of the log verifies.');
call('dba', q{SELECT place, count(*) FROM credits_export_person('ada') WHERE item::text LIKE '%example.org%' GROUP BY place ORDER BY place}, "place contacts, count 2");
call('dba', q{CALL credits_erase_person('ada', 'her letter of 19 January')}, 'alias erased:1, erased #, ended t');
call('dba', q{SELECT count(*) FROM credits_export_person('erased:1') WHERE item::text ~ '"ada"|example'}, '0');
call('shop', q{SELECT balance FROM credits_deduct('ada', 1)}, 'PT404');
call('dba', q{SELECT count(*) AS problems FROM credits_verify()}, '0');
