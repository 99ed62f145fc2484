package CreditsModelStaff;

# More of the run against the model: what the staff does meanwhile.
#
# The service is paused, all of it or some operations or kinds, and resumed.  What is sent
# when a pause has begun and answered before it ends must be refused if the pause stops
# it, and nothing else may be; replays, refunds, releases and all the rest go on.
#
# Persons are erased.  For the model that is a close; what others know of the account by
# its name is gone, old keys included.

use strict;
use warnings FATAL => 'all';

use Test::More;
use Time::HiRes qw(time);

# Pauses, each with when its call was sent and answered, and the same of its end; and how
# long one lasts.
my @pauses;
my $lasts;
my $calling = 0;

my %erased;      # name => when the erasure was sent
my %done;        # name => when its call had returned
my %alias;       # name => what it is called since
my %name_of;     # the reverse

my ($stopped, $refused) = (0, 0);

# --------------------------------------------------------------------------
# pauses

my %kinds = (
	deduct => 'deduction',
	try => 'deduction',
	charge => 'deduction',
	hold => 'hold',
	capture => 'hold',
	transfer => 'transfer',
	create_gift => 'gift',
	gift => 'gift',
	redeem_promo => 'redemption',
	redeem_gift => 'redemption',
	redeem_referral => 'redemption',
);

# What a request is, for a pause; the same of an item of a batch.
sub op_of { return $_[0]{op} =~ s/_many$//r }

# Does a pause stop a request?
sub stops
{
	my ($pause, $request) = @_;
	my $op = op_of($request);
	my $kind = $kinds{$op} or return 0;

	# only what it takes beyond the hold
	return 0 if $op eq 'capture' && (!$request->{more} || !defined $request->{amount});
	return $kind ne 'redemption' unless $pause->{kinds} || $pause->{operations};
	return 1 if grep { $_ eq $kind } @{ $pause->{kinds} // [] };
	my $operation = $op eq 'charge' ? $request->{operation} : $kind =~ /^(deduction|hold)$/ ? 'op' : '';
	return grep { $_ eq $operation } @{ $pause->{operations} // [] };
}

sub stops_any
{
	my ($pause, $request) = @_;
	return grep { stops($pause, { %$_, op => $request->{op} }) } @{ $request->{items} // [$request] };
}

# Says whether a refusal that was answered now may be, because of a pause that may have been
# seen.
sub may_refuse
{
	my ($request) = @_;
	$refused++;
	return grep { ($_->{resumed} // 9e15) >= $request->{sent} && stops_any($_, $request) } @pauses;
}

# Takes in that something was done whose transaction was to be committed from one instant on,
# and says so if it must have been refused.
sub took
{
	my ($problem, $request, $committing) = @_;
	# what it captures beyond the hold is for the model to know
	return if op_of($request) eq 'capture';
	foreach my $pause (grep { defined $_->{begun} && $_->{begun} < $committing } @pauses)
	{
		next unless stops($pause, $request) && time < ($pause->{ending} // 9e15);
		$problem->("$request->{op} of $request->{account} was committed though the service was paused for " . $pause->{what});
	}
	return;
}

# Begins or ends a pause, if it is time to.
sub pause_or_resume
{
	my ($problem) = @_;
	my $pause = $pauses[-1];

	return undef if $calling;
	if (!$pause || defined $pause->{resumed})
	{
		return undef unless rand() < 0.01;
		my $which = rand;
		my %new = $which < 0.3 ? () : $which < 0.6
		  ? (kinds => [ grep { rand() < 0.5 } qw(deduction hold transfer gift redemption) ])
		  : (operations => [ grep { rand() < 0.5 } CreditsModelCodes::operations(), 'op' ]);
		delete $new{$_} foreach grep { !@{ $new{$_} } } keys %new;
		my $what = join ', ', map { "$_ => '{" . join(',', @{ $new{$_} }) . "}'" } keys %new;
		push @pauses, $pause = { %new, what => $what || 'all', sent => time };
		$lasts = 0.02 + rand 0.2;
		$calling = 1;
		return {
			steps => [ "CALL credits_pause_service('because'" . ($what ? ", $what)" : ')') ],
			done => sub {
				my ($answer) = @_;
				$problem->("credits_pause_service: $answer->{code}") if $answer->{code} ne '00000';
				$pause->{begun} = time;
				$stopped++;
				$calling = 0;
				return;
			},
		};
	}
	return undef if time < $pause->{begun} + $lasts;
	return resume($problem, $pause);
}

sub resume
{
	my ($problem, $pause) = @_;
	$calling = 1;
	$pause->{ending} = time;
	return {
		steps => ['SELECT credits_resume_service()'],
		done => sub {
			my ($answer) = @_;
			$problem->("credits_resume_service: $answer->{code} @{$answer->{rows}}") if "@{$answer->{rows}}" ne 't';
			$pause->{resumed} = time;
			$calling = 0;
			return;
		},
	};
}

# --------------------------------------------------------------------------
# persons

# What an account was called that may have an alias, which accounts are of persons who may
# be erased, and whether one has been or is being.
sub original { return $_[0] =~ s/(erased:\d+)/$name_of{$1} \/\/ $1/ger }
sub alias { return $alias{ $_[0] } // $_[0] }
sub may_leave { return $_[0] =~ /^account:\d*[13579]$/ }
sub is_erased { return exists $erased{ $_[0] // '' } }
sub erased { return sort keys %erased }

# The same of any account that a request names.
sub names_erased
{
	my ($request) = @_;
	return grep { is_erased($_) }
	  map { (@$_{qw(account pool to member giver referrer)}, @{ $_->{to_many} // [] }) } $request, @{ $request->{items} // [] };
}

# Whether the keys of an account must be unknown to a request that was sent then.
sub was_erased
{
	my ($account, $sent) = @_;
	return defined $done{$account} && $done{$account} < $sent;
}

# Erases a person.  The row of the log is taken in as the receipt of a request.
sub erase
{
	my ($problem, $account, $take_in, $deadlock) = @_;
	my $sent = $erased{$account} = time;
	my $batch = 1 + int rand 100;
	my $unit;
	my $row = {
		done => sub {
			my ($answer) = @_;
			$take_in->({ op => 'erase', account => $account, sent => $sent }, original($answer->{rows}[0]));
			undef $unit;
			return;
		},
	};
	$unit = {
		steps => ["CALL credits_erase_person('$account', 'because', $batch)"],
		done => sub {
			my ($answer) = @_;
			# it goes on where it was
			return $unit if $answer->{code} eq '40P01' && $deadlock->();
			return $problem->("credits_erase_person: $answer->{code} @{$answer->{rows}}") if $answer->{code} ne '00000';
			my ($alias) = split /\|/, $answer->{rows}[0];
			$done{$account} = time;
			$alias{$account} = $alias;
			$name_of{$alias} = $account;
			$row->{steps} = [
				"SELECT t.id, a.name, t.kind, t.amount, t.balance_after, t.held_after, false, "
				  . "(extract(epoch FROM t.created_at) * 1000000)::bigint FROM credits.transactions AS t "
				  . "JOIN credits.accounts AS a ON a.id = t.account_id WHERE t.kind = 'erasure' AND a.name = '$alias'" ];
			return $row;
		},
	};
	return $unit;
}

# Has the erasures ended, and says what is left of them.
sub compare
{
	my ($session) = @_;
	$session->value('SELECT credits_resume_service()');
	$session->value('CALL credits_housekeep()') foreach 1, 2;
	cmp_ok($stopped, '>', 0, "the service was paused $stopped times, and $refused calls were refused");
	is($session->value(q(SELECT string_agg(a.name, ' ' ORDER BY a.name COLLATE "C") FROM credits.erasures AS e
		JOIN credits.accounts AS a ON a.id = e.account_id WHERE e.ended_at IS NOT NULL)),
		join(' ', sort values %alias), 'each erasure has ended (' . keys(%alias) . ')');
	my $names = join ', ', map { "'$_'" } erased(), 'nobody';
	is($session->value("SELECT count(*) FROM credits.accounts WHERE name IN ($names)"), '0', 'and no account has the name any more');
	is($session->value(q(SELECT count(*) FROM credits.log AS l JOIN credits.erasures AS e USING (account_id)
		WHERE octet_length(l.salt) <> 32 AND l.id <> e.transaction_id)), '0', 'their rows have no texts');
	# events of what became of an account since have its alias
	is($session->value(q(SELECT (SELECT count(*) FROM credits.contacts JOIN credits.erasures USING (account_id))
		+ (SELECT count(*) FROM credits.deliveries JOIN credits.erasures USING (account_id))
		+ (SELECT count(*) FROM credits.events JOIN credits.erasures USING (account_id)
			WHERE detail->>'account' NOT LIKE 'erased:%'))),
		'0', 'nor contacts, events or deliveries');
	return;
}

1;
