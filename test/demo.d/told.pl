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

	return call('dba', q{SELECT delivery_id, address, kind, detail->'balance' AS balance, attempt, lease_id
	FROM credits_take_deliveries('email')}, $expected);
}

$| = 1;
hide(qw(account held created_at));
begin_story('2030-01-17 21:00+00');

say_step('Ada has 15 credits, an address, and wants no mail at night. A program of ours reads all events.');
call('dba', q{SELECT * FROM credits_open_account('ada', 15)}, 'transaction_id #, kind opening, amount 15, balance 15, replayed f');
call('dba', q{SELECT credits_set_contact('ada', 'email', 'ada@example.org', verified => true)}, '#');
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
take('delivery_id #, address ada@example.org, kind low_balance, balance 9, attempt 1, lease_id #');
take('(no rows)');
set_clock('2030-01-17 21:05+00');
my $lease = take('delivery_id #, address ada@example.org, kind low_balance, balance 9, attempt 2, lease_id #');
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
take('delivery_id #, address ada@example.org, kind low_balance, balance 0, attempt 1, lease_id #');
