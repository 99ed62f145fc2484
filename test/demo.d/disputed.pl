# disputed.pl - an account objects to what it was charged, and is heard: see Story.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;

$| = 1;
hide(qw(account held created_at));
begin_story('2030-03-01 09:00+00');

say_step('Ada is charged for two pictures, but has got one. She asks for the credits of the other.');
call('dba', q{SELECT * FROM credits_open_account('ada', 100)}, 'transaction_id #, kind opening, amount 100, balance 100, replayed f');
call('dba', q{SELECT credits_set_contact('ada', 'email', 'ada@example.org', verified => true)}, '#');
call('shop', q{SELECT balance FROM credits_deduct('ada', 40, 'picture:1')}, '60');
my $spend = call('shop', q{SELECT balance, transaction_id FROM credits_deduct('ada', 40, 'picture:2')}, 'balance 20, transaction_id #');
my $open = q{SELECT requested, status, replayed, dispute_id FROM credits_open_dispute('ada', $1, 'not_received', 'There is only one.', idempotency_key => 'form:7')};
my $dispute = call('shop', $open, 'requested 40, status open, replayed f, dispute_id #', undef, $spend);
say_step('She clicks twice. It is the same dispute; a second one of that picture, or one of more than it cost, is not possible.');
call('shop', $open, "requested 40, status open, replayed t, dispute_id $dispute", undef, $spend);
call('shop', q{SELECT credits_open_dispute('ada', $1, 'other')}, 'PT409', undef, $spend);

say_step('The longest waiting is looked at first. Grace takes it.');
call('dba', q{SET credits.actor = 'grace'}, '');
set_clock('2030-03-02 09:00+00');
call('dba', q{SELECT account, reason, description, requested, age FROM credits_dispute_queue()},
	'account ada, reason not_received, description There is only one., requested 40, age 1 day');
call('dba', q{SELECT status, assignee FROM credits_assign_dispute($1)}, 'status in_review, assignee grace', undef, $dispute);

say_step('She knows the beginning of the name, and looks who it is.');
call('dba', q{SELECT account, status, balance, debt FROM credits_find_accounts('ad', status => 'active')},
	'account ada, status active, balance 20, debt 0');

say_step('She finds half a picture, and gives half of the credits back. Decision and refund are one transaction; a retry changes nothing.');
my $resolve = q{SELECT status, refunded, replayed FROM credits_resolve_dispute($1, 20, 'You have got half of it.')};
call('dba', $resolve, 'status resolved_in_part, refunded 20, replayed f', undef, $dispute);
call('dba', $resolve, 'status resolved_in_part, refunded 20, replayed t', undef, $dispute);
call('shop', q{SELECT credits_balance('ada')}, '40');
call('shop', q{SELECT refunded, note FROM credits_disputes('ada')}, 'refunded 20, note You have got half of it.');

say_step('Ada was told of each step by mail. What was written is in none of them.');
call('dba', q{SELECT subject FROM credits_take_deliveries('email') ORDER BY event_id}, qr/We have received your dispute.*being reviewed.*resolved in part/s);

say_step('Another dispute is left lying. Within three days somebody should have decided: that is said once.');
call('shop', q{SELECT status FROM credits_open_dispute('ada', (SELECT transaction_id FROM credits_history('ada') WHERE idempotency_key = 'picture:1'), 'other')}, 'open');
call('dba', q{SET credits.dispute_deadline = '3 days'}, '');
set_clock('2030-03-06 09:00+00');
call('dba', 'CALL credits_warn()', 'warned 1, failed 0');
call('dba', 'CALL credits_warn()', 'warned 0, failed 0');
call('dba', q{SELECT status, overdue, age FROM credits_dispute_queue()}, 'status open, overdue t, age 4 days');
call('shop', q{SELECT status FROM credits_withdraw_dispute('ada', $1)}, 'withdrawn', undef, $dispute + 1);

say_step('Somebody asks who gives credits away, and who has made pictures dearer.');
call('dba', q{SELECT credits_set_operation('picture', 40)}, '#');
call('dba', q{SELECT credits_set_operation('picture', 45)}, '#');
call('dba', q{SELECT account, amount, reason, actor FROM credits_audit(changes => 'credits')}, qr/account ada, amount 20, reason dispute \d+, actor grace/);
call('dba', q{SELECT old_values->'base_cost' AS old, new_values->'base_cost' AS new, actor FROM credits_audit(topic => 'operation', name => 'picture', max_rows => 1)},
	'old 40, new 45, actor grace');

say_step('It was not only Ada: a thousand others are given 5 credits each, and one of them has left. It is shown what that comes to, and it is done as it was shown.');
call('dba', q{SELECT count(credits_open_account('user:' || n, 10)) FROM generate_series(1, 1000) AS n}, '1000');
call('dba', q{SELECT kind FROM credits_close_account('user:7', 'left')}, 'close');
my $token = call('dba', q{SELECT accepted, refused, credits, balance_before, balance_after, token
	FROM credits_preview_correction(ARRAY(SELECT 'user:' || n FROM generate_series(1, 1000) AS n), 5, 'pictures that were lost')},
	qr/\Aaccepted 999, refused 1, credits 4995, balance_before 9990, balance_after 14985, token [0-9a-f]{32}\z/);
call('dba', q{SELECT account, code, message FROM credits_correction_items(1, refused_only => true)}, 'account user:7, code PT423, message account "user:7" is closed');
call('dba', q{CALL credits_apply_correction($1)}, 'correction_id 1, corrected 999, credits 4995, replayed f', undef, $token);
call('dba', q{CALL credits_apply_correction($1)}, 'correction_id 1, corrected 999, credits 4995, replayed t', undef, $token);
call('shop', q{SELECT credits_balance('user:1000')}, '15');

say_step('What became of them, and that the books agree.');
call('dba', q{SELECT disputes, resolved_in_part, withdrawn, share, median_time FROM credits_dispute_statistics() LIMIT 1},
	'disputes 2, resolved_in_part 1, withdrawn 1, share 0.2500, median_time 1 day');
call('dba', q{SELECT count(*) FROM credits_verify()}, '0');
