package CreditsModelDisputes;

# More of the run against the model: spends that are disputed meanwhile.
#
# A dispute that is opened and resolved in one transaction is a request like others,
# which the model plays as the refund that it is.  Others are opened, assigned, rejected
# and withdrawn beside everything else, and some of that is rolled back.  At the end each
# dispute has ended as was acknowledged, once, or waits; and there was one event for each
# step.

use strict;
use warnings FATAL => 'all';

use CreditsModelStaff;
use Test::More;

my %opened;       # disputes that were committed => the account
my %ended;        # those that have ended => how
my %assigned;     # those that were assigned
my %steps;        # those that were committed => kind of event => how many

# What makes the function that disputes a spend and has that resolved.  Its receipt is
# that of the refund, as credits_refund would return it.
sub setup
{
	return q(CREATE FUNCTION resolved_dispute(account text, target bigint, amount bigint, key text) RETURNS credits.receipt LANGUAGE plpgsql AS $$
		DECLARE
			d credits.dispute;
			r credits.receipt;
		BEGIN
			d := credits_open_dispute(account, target, 'other', requested => amount, idempotency_key => key);
			r.replayed := d.replayed;
			d := credits_resolve_dispute(d.dispute_id, d.requested);
			SELECT t.id, a.name, t.kind, d.refunded, f.balance_after, f.held_after, r.replayed, t.created_at INTO r
			FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id, LATERAL (
				SELECT l.balance_after, l.held_after FROM credits.transactions AS l WHERE l.account_id = t.account_id
				AND (l.id = t.id OR l.target_id = t.id AND l.kind IN ('expiration', 'void', 'debt_payment')) ORDER BY l.id DESC LIMIT 1) AS f
			WHERE t.id = d.refund_id;
			RETURN r;
		END $$);
}

# A dispute of a spend, or what becomes of one, committed or not.
sub unit
{
	my ($problem, $account, $spend) = @_;
	my @waiting = grep { !$ended{$_} } sort { $a <=> $b } keys %opened;
	my $id = $waiting[ rand @waiting ];
	my $what = defined $id && rand() < 0.8 ? (qw(assign reject withdraw))[ rand 3 ] : 'open';
	my $call =
		$what eq 'open' ? "credits_open_dispute('$account', $spend, 'unauthorized', 'It was not me.')"
	  : $what eq 'assign' ? "credits_assign_dispute($id, 'staff')"
	  : $what eq 'reject' ? "credits_resolve_dispute($id, 0, 'It was you.')"
	  : "credits_withdraw_dispute('$opened{$id}', $id)";
	my $end = rand() < 0.8 ? 'COMMIT' : 'ROLLBACK';
	my $answered;
	return {
		steps => [ 'BEGIN', "SELECT dispute_id, account, status, refunded, replayed FROM $call", $end ],
		each => sub {
			my ($number, $answer) = @_;
			my $code = $answer->{code};
			# one that has ended meanwhile, a spend that is refunded, disputed or of a closed account; or
			# two others waited for each other, and this was in their way
			$problem->("$call: $code @{$answer->{rows}}") unless $code =~ /^(?:00000|40P01|PT409|PT423)$/
			  || $code eq 'PT404' && CreditsModelStaff::is_erased($what eq 'open' ? $account : $opened{$id});
			$answered = $answer->{rows}[0] if $number == 1;
			return $code eq '00000';
		},
		failed => sub { },
		done => sub { take_in($problem, split /\|/, $answered) if $end eq 'COMMIT'; return },
	};
}

# Takes in what was committed.
sub take_in
{
	my ($problem, $id, $account, $status, $refunded, $replayed) = @_;
	$problem->("dispute $id refunded $refunded") if $refunded ne '0';
	$opened{$id} //= $account;
	$assigned{$id} = 1 if $status eq 'in_review';
	return if $replayed eq 't';
	# assigning to the same person again is a replay
	$steps{$id}{ $status eq 'open' ? 'dispute_opened' : "dispute_$status" }++;
	return unless $status =~ /^(?:rejected|withdrawn)$/;
	$problem->("dispute $id ended twice") if $ended{$id};
	$ended{$id} = $status;
	return;
}

# Compares what is there with what was acknowledged, and with the refunds.
sub compare
{
	my ($session) = @_;
	my (%found, %wrong);
	foreach my $row (split /\n/, $session->value(q(SELECT id, status, assignee FROM credits.disputes WHERE status NOT LIKE 'resolved%')))
	{
		my ($id, $status, $assignee) = split /\|/, $row, -1;
		$found{$id} = $status;
		my $expected = $ended{$id} // ($assigned{$id} ? 'in_review' : 'open');
		$wrong{$id} = "$status, not $expected" if $status ne $expected || ($assigned{$id} && $assignee ne 'staff');
	}
	is_deeply(\%wrong, {}, 'each dispute has ended as was acknowledged, or waits (' . keys(%found) . ')');
	is(join(' ', sort keys %found), join(' ', sort keys %opened), 'and there is no other');
	# events of who was erased are gone
	my %count;
	foreach my $steps (map { $steps{$_} } grep { !CreditsModelStaff::is_erased($opened{$_}) } keys %steps)
	{
		$count{$_} += $steps->{$_} foreach keys %$steps;
	}
	my %told = map { split /\|/ } split /\n/, $session->value(q(SELECT kind, count(*) FROM credits.events
		WHERE kind LIKE 'dispute%' AND account_id NOT IN (SELECT account_id FROM credits.erasures) AND (detail->>'dispute_id')::bigint NOT IN (SELECT id FROM credits.disputes WHERE status LIKE 'resolved%') GROUP BY kind));
	is_deeply(\%told, \%count, 'each step has its event');
	is($session->value(q(SELECT count(*) FROM credits.disputes AS d WHERE d.status LIKE 'resolved%'
		AND d.account_id NOT IN (SELECT account_id FROM credits.erasures) AND 2 <> (
		SELECT count(*) FROM credits.events AS e WHERE e.kind IN ('dispute_opened', 'dispute_resolved') AND e.account_id = d.account_id AND e.detail @> jsonb_build_object('dispute_id', d.id)))),
		'0', 'those that were resolved, too');
	return;
}

1;
