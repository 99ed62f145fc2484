package CreditsModelRewards;

# More of the run against the model: rewards, and accounts that are topped up.
#
# A reward is a request like others, which the model plays as the grant that it is: each
# award once, no more of them than an account may have, and no more credits than the
# budget.  Accounts get rules for top-ups, and somebody asks for top-ups beside everything
# else, and now and then rolls that back.  Nobody pays, so that the model need not know of
# it.  At the end, whoever is below the threshold has one open request, and nobody more
# than one.

use strict;
use warnings FATAL => 'all';

use CreditsModel;
use List::Util qw(min);
use Test::More;

my @amounts = (5, 3, 1);
my $per_account = 6;
my $budget = 1500;
my @awards = map { "award $_" } 1 .. 12;

CreditsModel::add_plays(
	reward => [ \&play_reward, 'allocation' ],
	topup => [ \&CreditsModel::play_nothing, 'topup_rule' ]);

# What makes the program, and the package that is bought.
sub setup
{
	return "SELECT credits_set_reward_program('program', '{@{[ join ',', @amounts ]}}', per_account => $per_account, budget => $budget),
		credits_set_package('refill', 100, 1, 'EUR')";
}

sub ask_reward { return { award => $awards[ rand @awards ] } }

sub reward_call { return "credits_reward($_[0], 'program', '$_->{award}', $_[2])" }

sub ask_topup { return { amount => 1 + int rand 400 } }

sub topup_call { return "credits_set_topup($_[0], $_[1], package => 'refill', max_requests => 1000000)" }

sub play_reward
{
	my ($model, $request, $receipt) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	my $awarded = $account->{awarded} //= {};
	my $number = keys(%$awarded) + 1;

	CreditsModel::wrong("rewarded again for $request->{award}") if $awarded->{ $request->{award} }++;
	CreditsModel::wrong('has too many rewards') if $number > $per_account;
	my $amount = CreditsModel::room($account, $amounts[ min($number, scalar @amounts) - 1 ], 1);
	CreditsModel::wrong('exceeds the budget') if ($model->{rewarded} += $amount) > $budget;
	$model->give($account, amount => $amount, priority => 10);
	return ($account, $amount);
}

# Somebody asks for top-ups.
sub unit
{
	my ($problem) = @_;
	my $work = 'SELECT count(*) FROM credits_request_topups()';
	return {
		steps => [ 'BEGIN', $work, rand() < 0.9 ? 'COMMIT' : 'ROLLBACK' ],
		each => sub {
			my ($number, $answer) = @_;
			$problem->("$work: $answer->{code} @{$answer->{rows}}") if $answer->{code} ne '00000';
			return $answer->{code} eq '00000';
		},
		failed => sub { },
		done => sub { },
	};
}

# Compares at the end.
sub compare
{
	my ($session, $model) = @_;
	is($session->value('SELECT given FROM credits.reward_totals'), $model->{rewarded} // 0, 'the budget has given what the model has');
	my $asked = 0;
	$asked++ while $session->value('SELECT count(*) FROM credits_request_topups(100)') > 0 && $asked < 100;
	is($session->value(q(
		SELECT string_agg(a.name || ' ' || a.balance || ' ' || COALESCE(t.state, '-'), ', ') FROM credits.accounts AS a LEFT JOIN credits.topups AS t ON t.account_id = a.id
		WHERE a.status = 'active' AND a.debt = 0 AND credits_balance(a.name) < a.topup_below
		AND 1 <> (SELECT count(*) FROM credits.topup_requests AS r WHERE r.account_id = a.id AND r.ended_at IS NULL))),
		'', 'whoever is below the threshold has one open request (' . $session->value('SELECT count(*) FROM credits.topup_requests') . ')');
	return;
}

1;
