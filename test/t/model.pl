# A randomized concurrent run of all operations, with retries, rollbacks,
# cancelled statements and killed connections, against a model.
#
# The model gets nothing but the requests and their acknowledged receipts.
# It plays them over in the order of their transactions, keeps grants, draws,
# expiries and refunds by the documented rules, and has to come to the balance
# of each receipt, to the balances at any instant, and to the final state.
#
# CREDITS_MODEL_SECONDS says how long; CREDITS_SEED repeats the choices.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(min shuffle sum0);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{CREDITS_MODEL_SECONDS} // ($ENV{CI} ? 60 : 12);
my $clients = 10;
my $seed = $ENV{CREDITS_SEED} // time & 0xffffff;
diag "seed $seed, $seconds s";
srand $seed;

# short, so that what is given back in grace runs out within the run
my $grace = 400_000;
my $node = credits_node('model', conf => "credits.refund_grace = '$grace microseconds'");
$node->safe_psql('postgres', q(
	CREATE ROLE admin LOGIN IN ROLE credits_admin;
	SELECT credits_open_account('none')));

my $boss = CreditsTest::Session->new($node);
my $listener = CreditsTest::Session->new($node);
$listener->value('LISTEN low_balance');

# --------------------------------------------------------------------------
# requests

my %priority = (
	promotional => 10, referral => 10, gift => 10, trial => 10, subscription => 30,
	manual => 50, signup => 50, adjustment => 50, purchase => 70);
my @sources = grep { !/signup|adjustment/ } sort keys %priority;

my $number = 0;
my @accounts;      # names, of those to be used
my %deductions;    # account => [ids of committed deductions]
my %grants;        # account => [ids of committed allocations' transactions]
my %statuses;      # rough idea, for the choice only

sub micros { return int(time * 1_000_000) }

sub timestamp
{
	my ($micros) = @_;
	return 'NULL' unless defined $micros;
	return "timestamptz 'epoch' + $micros * interval '1 microsecond'";
}

sub new_account
{
	my $name = 'account:' . ++$number;
	return {
		op => 'open',
		account => $name,
		amount => 100 + int rand 1000,
	};
}

# One random request.
sub request
{
	my ($account) = @_;
	$account //= $accounts[ int rand @accounts ];
	my %request = (account => $account);
	$request{key} = 'k' . ++$number if rand() < 0.7;

	my $what = rand;
	if ($what < 0.34)
	{
		$request{op} = rand() < 0.3 ? 'try' : 'deduct';
		$request{amount} = 1 + int rand(rand() < 0.1 ? 400 : 30);
	}
	elsif ($what < 0.56)
	{
		$request{op} = 'allocate';
		$request{amount} = 1 + int rand 80;
		$request{source} = $sources[ int rand @sources ];
		$request{priority} = int rand 100 if rand() < 0.2;
		$request{effective} = micros() + int(rand(600_000) - 100_000) if rand() < 0.3;
		$request{expires} = micros() + 150_000 + int rand(rand() < 0.5 ? 800_000 : 5_000_000)
		  if rand() < 0.6;
	}
	elsif ($what < 0.74)
	{
		my $from = $deductions{$account} // [];
		return request($account) unless @$from;
		$request{op} = 'refund';
		# recent ones rather: their grants may still be there
		$request{target} = $from->[ rand() < 0.7 ? -1 - int rand min(8, scalar @$from) : int rand @$from ];
		$request{amount} = 1 + int rand 20 if rand() < 0.6;
		my $policy = rand;
		$request{expired} = $policy < 0.3 ? 'grace' : $policy < 0.6 ? 'expire' : undef;
	}
	elsif ($what < 0.80)
	{
		$request{op} = 'adjust';
		$request{amount} = int(rand 60) - 30 || 1;
	}
	elsif ($what < 0.86)
	{
		my $from = $grants{$account} // [];
		return request($account) unless @$from;
		$request{op} = 'void';
		$request{grant} = $from->[ -1 - int rand min(20, scalar @$from) ];
	}
	elsif ($what < 0.92)
	{
		$request{op} = ($statuses{$account} // '') eq 'paused' ? 'resume' : rand() < 0.2 ? 'pause' : 'resume';
		delete $request{key};
	}
	elsif ($what < 0.925)
	{
		$request{op} = 'close';
		delete $request{key};
	}
	elsif ($what < 0.95)
	{
		$request{op} = 'threshold';
		$request{amount} = int rand 100;
		delete $request{key};
	}
	else
	{
		$request{op} = 'open';
		$request{amount} = 12345;
		delete $request{key};
	}
	return \%request;
}

my $columns =
	'transaction_id, account, kind, amount, balance, held, replayed, '
  . '(extract(epoch FROM created_at) * 1000000)::bigint';
my $attempt_columns = join ', ', map { "(r.receipt).$_" }
  qw(transaction_id account kind amount balance held replayed);

sub sql_of
{
	my ($r) = @_;
	my $key = defined $r->{key} ? "'$r->{key}'" : 'NULL';
	my $amount = $r->{amount} // 'NULL';
	my $op = $r->{op};
	my $account = "'$r->{account}'";

	if ($op eq 'try')
	{
		return "SELECT $attempt_columns, (extract(epoch FROM (r.receipt).created_at) * 1000000)::bigint, r.ok, r.code "
		  . "FROM credits_try_deduct($account, $amount, $key, 'op') AS r";
	}
	my $call =
		$op eq 'open' ? "credits_open_account($account, $amount)"
	  : $op eq 'deduct' ? "credits_deduct($account, $amount, $key, 'op')"
	  : $op eq 'allocate' ? "credits_allocate($account, $amount, '$r->{source}', idempotency_key => $key, "
		  . 'expires_at => ' . timestamp($r->{expires}) . ', effective_at => ' . timestamp($r->{effective})
		  . ', priority => ' . ($r->{priority} // 'NULL') . ')'
	  : $op eq 'refund' ? "credits_refund($r->{target}, $amount, $key, 'because', "
		  . 'expired => ' . (defined $r->{expired} ? "'$r->{expired}'" : 'NULL') . ", account => $account)"
	  : $op eq 'adjust' ? "credits_adjust($account, $amount, 'because', $key)"
	  : $op eq 'void' ? "credits_void_grant((SELECT id FROM credits.grants WHERE transaction_id = $r->{grant}), 'because', $key)"
	  : $op eq 'threshold' ? "credits_set_low_balance($account, $amount)"
	  : "credits_${op}_account($account, 'because')";
	return "SELECT $columns FROM $call";
}

# --------------------------------------------------------------------------
# what clients do: a unit is a list of steps and what to make of the answers

my @log;              # [request, receipt] of all that was acknowledged
my %receipt_of;       # 'account key' => [request, receipt], to send again
my @keyed;            # its keys
my %codes;            # SQLSTATEs seen, by operation
my $refusals = 0;     # attempts refused and committed
my @problems;
my ($commits, $rollbacks, $replays, $kills, $cancels) = (0) x 5;

sub problem { push @problems, shift if @problems < 20; return }

sub receipt_of
{
	my ($row) = @_;
	my %receipt;
	@receipt{qw(id account kind amount balance held replayed at ok code)} = split /\|/, $row;
	return \%receipt;
}

# Take in what one committed request returned.
sub acknowledged
{
	my ($request, $row) = @_;
	my $receipt = receipt_of($row);
	if ($request->{op} eq 'try' && $receipt->{ok} eq 'f')
	{
		$refusals++;
		$codes{"try $receipt->{code}"}++;
		return;
	}
	if ($receipt->{replayed} eq 't')
	{
		if ($request->{op} eq 'open')
		{
			return;
		}
		# somebody must have had the original, unless the connection was
		# killed before it came through
		my $known = $receipt_of{"$request->{account} $request->{key}"};
		if (defined $known)
		{
			$replays++;
			foreach my $field (qw(id account kind amount balance held at))
			{
				problem("replay of $request->{key}: $field $receipt->{$field}, was $known->[1]{$field}")
				  if $receipt->{$field} ne $known->[1]{$field};
			}
			return;
		}
		problem("replay of $request->{key} that nobody sent before") unless $request->{again};
	}
	push @log, [ $request, $receipt ];
	if (defined $request->{key})
	{
		$receipt_of{"$request->{account} $request->{key}"} = $log[-1];
		push @keyed, "$request->{account} $request->{key}";
	}
	my $account = $request->{account};
	push @{ $deductions{$account} }, $receipt->{id} if $receipt->{kind} eq 'deduction';
	push @{ $grants{$account} }, $receipt->{id} if $receipt->{kind} eq 'allocation';
	push @accounts, $account if $request->{op} eq 'open';
	$statuses{$account} = 'paused' if $request->{op} eq 'pause';
	delete $statuses{$account} if $request->{op} eq 'resume';
	if ($request->{op} eq 'close')
	{
		@accounts = grep { $_ ne $account } @accounts;
	}
	return;
}

# errors that may happen; anything else is a problem
my %allowed = map { $_ => 1 } qw(PT402 PT409 PT423 40P01 57014);

sub check_code
{
	my ($request, $code, $level) = @_;
	$codes{"$request->{op} $code"}++;
	return if $code eq '00000' || $allowed{$code};
	return if $code eq '40001' && ($level // 'READ COMMITTED') ne 'READ COMMITTED';
	# waited too long for its own expiry
	return if $code eq '22023' && $request->{op} eq 'allocate' && defined $request->{expires};
	problem("$request->{op} failed with $code: " . sql_of($request));
	return;
}

# One request on its own.
sub unit_single
{
	my ($request) = @_;
	return {
		steps => [ sql_of($request) ],
		done => sub {
			my ($answer) = @_;
			check_code($request, $answer->{code});
			acknowledged($request, $answer->{rows}[0]) if $answer->{code} eq '00000';
		},
	};
}

# A request sent again after it was acknowledged: as it was, or changed.
sub unit_replay
{
	my $key = $keyed[ int rand @keyed ];
	my ($request) = @{ $receipt_of{$key} };
	if (rand() < 0.3 && $request->{op} =~ /deduct|try|adjust|allocate/)
	{
		my %other = (%$request, amount => $request->{amount} + 1);
		$other{amount} = 99 if $other{amount} == 0;
		return {
			steps => [ sql_of(\%other) ],
			done => sub {
				my ($answer) = @_;
				my $code = $answer->{code};
				if ($other{op} eq 'try' && $code eq '00000')
				{
					$code = receipt_of($answer->{rows}[0])->{code};
					$refusals++;
				}
				problem("key $key for another request: $code") unless $code =~ /^(PT409|40P01)$/;
			},
		};
	}
	return {
		steps => [ sql_of($request) ],
		done => sub {
			my ($answer) = @_;
			if ($answer->{code} ne '00000')
			{
				problem("replay of $key failed with $answer->{code}") unless $answer->{code} eq '40P01';
				return;
			}
			my $receipt = receipt_of($answer->{rows}[0]);
			problem("replay of $key was not one: @{$answer->{rows}}") if $receipt->{replayed} ne 't';
			acknowledged($request, $answer->{rows}[0]);
		},
	};
}

# Several requests in one transaction, some of them within a savepoint.
sub unit_transaction
{
	my ($level) = @_;
	my (@steps, @requests);
	my $end = rand() < 0.65 ? 'COMMIT' : 'ROLLBACK';
	push @steps, "BEGIN ISOLATION LEVEL $level";
	push @requests, undef;
	foreach (1 .. 1 + int rand 4)
	{
		if (rand() < 0.25)
		{
			push @steps, 'SAVEPOINT s';
			push @requests, undef;
			my $inner = request();
			push @steps, sql_of($inner);
			# rolled back: nothing to acknowledge, but errors are forgiven
			push @requests, { %$inner, undone => 1 };
			push @steps, 'ROLLBACK TO s';
			push @requests, undef;
		}
		else
		{
			my $request = request();
			push @steps, sql_of($request);
			push @requests, $request;
		}
	}
	push @steps, $end;
	push @requests, undef;

	my @pending;
	return {
		steps => \@steps,
		each => sub {
			my ($number, $answer) = @_;
			my $request = $requests[$number];
			if (!defined $request)
			{
				return 1 if $answer->{code} eq '00000';
				# a SERIALIZABLE transaction may fail at its end
				problem("$steps[$number]: $answer->{code}") unless $answer->{code} =~ /^40/;
				return 0;
			}
			check_code($request, $answer->{code}, $level);
			if ($request->{undone})
			{
				return $answer->{code} !~ /^(40|gone)/;
			}
			return 0 if $answer->{code} ne '00000';
			push @pending, [ $request, $answer->{rows}[0] ];
			return 1;
		},
		failed => sub { $rollbacks++ },
		done => sub {
			if ($end eq 'ROLLBACK')
			{
				$rollbacks++;
				return;
			}
			$commits++;
			acknowledged(@$_) foreach @pending;
		},
	};
}

# Settle, or read.
sub unit_other
{
	my $account = $accounts[ int rand @accounts ];
	if (rand() < 0.4)
	{
		my $batch = 1 + int rand 5;
		return {
			steps => ["CALL credits_settle(batch_size => $batch)"],
			done => sub {
				my ($answer) = @_;
				$codes{"settle $answer->{code}"}++;
				problem("credits_settle: $answer->{code} @{$answer->{rows}}")
				  unless $answer->{code} eq '00000' && $answer->{rows}[0] =~ /^\d+\|0$/;
			},
		};
	}
	if (rand() < 0.2)
	{
		# true at any moment, whatever the others are doing
		my $which = rand() < 0.1 ? '' : "'$account'";
		return {
			steps => ["SELECT count(*), string_agg(v::text, ' ') FROM credits_verify($which) AS v"],
			done => sub {
				my ($answer) = @_;
				problem("credits_verify: $answer->{code} @{$answer->{rows}}")
				  unless $answer->{code} eq '00000' && $answer->{rows}[0] eq '0|';
			},
		};
	}
	return {
		steps => [
			"SELECT credits_balance('$account'), s.balance, credits_balance_at('$account', clock_timestamp()), "
			  . "(SELECT count(*) FROM credits_history('$account', 10)) FROM credits_summary('$account') AS s"
		],
		done => sub {
			my ($answer) = @_;
			problem("reading: $answer->{code} @{$answer->{rows}}")
			  unless $answer->{code} eq '00000' && $answer->{rows}[0] =~ /^\d+\|\d+\|\d+\|\d+$/;
		},
	};
}

# A request with a key whose statement is cancelled, or whose connection is
# killed, while it runs; sent again until there is an answer.
sub unit_disturbed
{
	my ($session, $kill) = @_;
	my $request;
	do { $request = request() } until defined $request->{key} && $request->{op} ne 'try';
	my $unit = unit_single($request);
	my $done = $unit->{done};
	if ($kill)
	{
		$kills++;
		$unit->{sent} = sub {
			# may come before the effect or after it
			$session->{doomed} = 1;
			$boss->value("SELECT pg_terminate_backend($session->{backend})");
		};
		$unit->{gone} = sub {
			$request->{again} = 1;
			return unit_single($request);
		};
	}
	else
	{
		$cancels++;
		$unit->{sent} = sub { $boss->value("SELECT pg_cancel_backend($session->{backend})") };
		$unit->{done} = sub {
			my ($answer) = @_;
			$done->($answer);
			return unless $answer->{code} eq '57014';
			return unit_single($request);
		};
	}
	return $unit;
}

sub next_unit
{
	my ($session) = @_;
	my $what = rand;
	return unit_single(new_account()) if @accounts < 5;
	return unit_single(request()) if $what < 0.55;
	return unit_transaction('READ COMMITTED') if $what < 0.70;
	return unit_transaction('REPEATABLE READ') if $what < 0.75;
	return unit_transaction('SERIALIZABLE') if $what < 0.77;
	return unit_replay() if $what < 0.87 && @keyed;
	return unit_disturbed($session, rand() < 0.3) if $what < 0.90;
	return unit_other();
}

# --------------------------------------------------------------------------
# the run

sub connect_client
{
	my ($number) = @_;
	my $session = CreditsTest::Session->new($node, $number % 2 ? (user => 'admin') : ());
	$session->{number} = $number;
	$session->{backend} = $session->value('SELECT pg_backend_pid()');
	return $session;
}

sub begin_unit
{
	my ($session, $unit) = @_;
	$session->{unit} = $unit;
	$session->{step} = 0;
	$session->send($unit->{steps}[0]);
	$unit->{sent}->() if $unit->{sent};
	return;
}

# Handle an answer: true if the session has nothing more to do.
sub go_on
{
	my ($session, $answer) = @_;
	my $unit = $session->{unit};
	my $next;
	if ($answer->{code} eq 'gone')
	{
		$next = $unit->{gone} ? $unit->{gone}->() : undef;
		problem("connection lost in $unit->{steps}[$session->{step}]: @{$answer->{messages}}")
		  unless $unit->{gone};
		$session->{replace} = 1;
		$session->{next} = $next;
		return 0;
	}
	if ($unit->{each})
	{
		if (!$unit->{each}->($session->{step}, $answer))
		{
			$unit->{failed}->();
			begin_unit($session, { steps => ['ROLLBACK'], done => sub { } });
			return 0;
		}
		if (++$session->{step} < @{ $unit->{steps} })
		{
			$session->send($unit->{steps}[ $session->{step} ]);
			return 0;
		}
	}
	$next = $unit->{done}->($answer);
	if ($session->{doomed})
	{
		$session->{replace} = 1;
		return 0;
	}
	if (ref $next eq 'HASH')
	{
		begin_unit($session, $next);
		return 0;
	}
	return 1;
}

my %sessions = map { $_ => connect_client($_) } 1 .. $clients;
begin_unit($_, next_unit($_)) foreach values %sessions;
my $end = time + $seconds;
my $units = 0;
while (%sessions)
{
	foreach my $session (wait_any(values %sessions))
	{
		my $idle = go_on($session, $session->take);
		if (delete $session->{replace})
		{
			my $next = delete $session->{next};
			$session->quit;
			my $fresh = $sessions{ $session->{number} } = connect_client($session->{number});
			begin_unit($fresh, $next // { steps => ['SELECT 1'], done => sub { } });
			next;
		}
		next unless $idle;
		$units++;
		if (time < $end)
		{
			begin_unit($session, next_unit($session));
		}
		else
		{
			$session->quit;
			delete $sessions{ $session->{number} };
		}
	}
}

note "$units units, " . @log . " receipts, $commits commits, $rollbacks rollbacks, "
  . "$replays replays, $refusals refusals, $cancels cancels, $kills kills";
note join ', ', map { "$_: $codes{$_}" } sort keys %codes;
is(join("\n", @problems), '', 'no unexpected answer');
cmp_ok(scalar(@log), '>', 50 * $seconds, 'enough was done (' . @log . ' receipts)');

# --------------------------------------------------------------------------
# the model

my (%model, %expected, %found);

sub burn_order
{
	my ($left, $right) = @_;
	return $left->{priority} <=> $right->{priority}
	  || (defined $left->{expires} ? 0 : 1) <=> (defined $right->{expires} ? 0 : 1)
	  || ($left->{expires} // 0) <=> ($right->{expires} // 0)
	  || $left->{effective} <=> $right->{effective}
	  || $left->{id} <=> $right->{id};
}

sub balance_of
{
	my ($account) = @_;
	return sum0 map { $_->{status} eq 'open' ? $_->{remaining} : 0 } values %{ $account->{grants} };
}

# Let the clock pass.
sub settle
{
	my ($account, $at) = @_;
	foreach my $grant (values %{ $account->{grants} })
	{
		if ($grant->{status} eq 'pending' && $grant->{effective} <= $at)
		{
			$grant->{status} = 'open';
		}
		if ($grant->{status} eq 'open' && defined $grant->{expires} && $grant->{expires} <= $at)
		{
			$grant->{status} = 'expired' if $grant->{remaining};
			$account->{expired} += $grant->{remaining};
			$grant->{remaining} = 0;
		}
	}
	return;
}

sub give
{
	my ($account, %grant) = @_;
	$account->{grants}{ $grant{id} } = { status => 'open', remaining => $grant{amount}, %grant };
	$account->{granted} += $grant{amount};
	return;
}

# Take credits in burn order; returns the draws, or nothing if short.
sub burn
{
	my ($account, $amount) = @_;
	my @draws;
	foreach my $grant (sort { burn_order($a, $b) }
		grep { $_->{status} eq 'open' && $_->{remaining} } values %{ $account->{grants} })
	{
		last unless $amount;
		my $part = min($amount, $grant->{remaining});
		$grant->{remaining} -= $part;
		$amount -= $part;
		push @draws, [ $grant, $part ];
	}
	return $amount ? undef : \@draws;
}

# Play one acknowledged request; returns what is wrong.
sub play
{
	my ($request, $receipt) = @_;
	my ($id, $at) = @$receipt{qw(id at)};
	my $op = $request->{op};

	if ($op eq 'open')
	{
		return 'opened twice' if $model{ $request->{account} };
		my $account = $model{ $request->{account} } =
		  { grants => {}, status => 'active', map { $_ => 0 } qw(granted spent refunded expired at) };
		give($account, id => $id, amount => $request->{amount}, priority => 50, effective => $at);
		return '';
	}

	my $account = $model{ $request->{account} } or return 'no account';
	return 'time runs backwards' if $at < $account->{at};
	return "$op on a closed account" if $account->{status} eq 'closed';
	$account->{at} = $at;
	settle($account, $at);

	if ($op eq 'deduct' || $op eq 'try')
	{
		return 'deducted while paused' if $account->{status} eq 'paused';
		my $draws = burn($account, $request->{amount}) or return 'overdrawn';
		$account->{spent} += $request->{amount};
		$account->{spends}{$id} = { draws => $draws, given => 0, amount => $request->{amount} };
		return 'amount' if $receipt->{amount} != -$request->{amount};
	}
	elsif ($op eq 'allocate')
	{
		my $effective = $request->{effective} // $at;
		return 'expired already' if defined $request->{expires} && $request->{expires} <= $at;
		give($account,
			id => $id,
			amount => $request->{amount},
			priority => $request->{priority} // $priority{ $request->{source} },
			effective => $effective,
			expires => $request->{expires},
			status => $effective > $at ? 'pending' : 'open');
		return 'amount' if $receipt->{amount} != ($effective > $at ? 0 : $request->{amount});
	}
	elsif ($op eq 'refund')
	{
		my $spend = $account->{spends}{ $request->{target} } or return 'no such spend';
		my $amount = $request->{amount} // $spend->{amount} - $spend->{given};
		return 'refunded above what was spent' if $amount <= 0 || $spend->{given} + $amount > $spend->{amount};
		return 'amount' if $receipt->{amount} != $amount;
		# last drawn first, past what was given back before
		my $skip = $spend->{given};
		my $left = $amount;
		foreach my $draw (reverse @{ $spend->{draws} })
		{
			my ($grant, $drawn) = @$draw;
			my $skipped = min($skip, $drawn);
			$skip -= $skipped;
			my $part = min($left, $drawn - $skipped) or next;
			$left -= $part;
			if ($grant->{status} eq 'voided')
			{
				next;
			}
			if (defined $grant->{expires} && $grant->{expires} <= $at)
			{
				if (($request->{expired} // 'grace') eq 'expire')
				{
					$account->{expired} += $part;
					next;
				}
				$grant->{expires} = $at + $grace;
			}
			$grant->{status} = 'open';
			$grant->{remaining} += $part;
		}
		$spend->{given} += $amount;
		$account->{refunded} += $amount;
	}
	elsif ($op eq 'adjust')
	{
		return 'amount' if $receipt->{amount} != $request->{amount};
		if ($request->{amount} > 0)
		{
			give($account, id => $id, amount => $request->{amount}, priority => 50, effective => $at);
		}
		else
		{
			burn($account, -$request->{amount}) or return 'overdrawn';
		}
	}
	elsif ($op eq 'void')
	{
		my $grant = $account->{grants}{ $request->{grant} } or return 'no such grant';
		return 'nothing left of it' unless $grant->{remaining};
		return 'amount' if $receipt->{amount} != ($grant->{status} eq 'open' ? -$grant->{remaining} : 0);
		@$grant{qw(status remaining)} = ('voided', 0);
	}
	elsif ($op eq 'pause')
	{
		return 'paused twice' if $account->{status} ne 'active';
		$account->{status} = 'paused';
	}
	elsif ($op eq 'resume')
	{
		return 'resumed while active' if $account->{status} ne 'paused';
		$account->{status} = 'active';
	}
	elsif ($op eq 'close')
	{
		$account->{status} = 'closed';
	}
	return '';
}

# Say all about some accounts that differ.
sub tell_of
{
	foreach my $name (splice @_, 0, 2)
	{
		diag "$name: $expected{$name}, found $found{$name}";
		diag $node->safe_psql('postgres', qq(
			SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint, kind, amount, balance_after, draws, target_id
			FROM credits.transactions WHERE account_id = credits.account_id('$name') ORDER BY id;
			SELECT to_jsonb(g) FROM credits.grants AS g WHERE account_id = credits.account_id('$name') ORDER BY id));
		diag explain $model{$name};
	}
	return;
}

my (@wrong, %at);
foreach my $entry (sort { $a->[1]{id} <=> $b->[1]{id} } @log)
{
	my ($request, $receipt) = @$entry;
	my $wrong = play($request, $receipt);
	my $balance = $model{ $request->{account} } ? balance_of($model{ $request->{account} }) : '?';
	$wrong ||= "balance $receipt->{balance}, not $balance" if $receipt->{balance} ne $balance;
	$at{ $request->{account} }{ $receipt->{at} } = $balance;
	push @wrong, "transaction $receipt->{id}: $wrong: " . sql_of($request) if $wrong;
	last if @wrong > 5;
}
is(join("\n", @wrong), '', 'the model comes to the balance of every receipt');

# the final state, at one instant of the clock
$node->safe_psql('postgres', 'CALL credits_settle()');
my $now = $node->safe_psql('postgres', 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint');
foreach my $name (sort keys %model)
{
	my $account = $model{$name};
	settle($account, $now);
	$expected{$name} = join '|', $account->{status}, balance_of($account), @$account{qw(granted spent refunded expired)};
}
$boss->value("SELECT set_config('credits.test_clock', (" . timestamp($now) . ")::text, false)");
foreach my $row (split /\n/, $boss->value(q(
	SELECT a.name, s.status, s.balance, s.granted, s.spent, s.refunded, s.expired
	FROM credits.accounts AS a, credits_summary(a.name) AS s WHERE a.name <> 'none')))
{
	my ($name, $state) = split /\|/, $row, 2;
	$found{$name} = $state;
}
is_deeply(\%found, \%expected, 'status, balance and lifetime totals of every account')
  or tell_of(grep { ($found{$_} // '') ne $expected{$_} } sort keys %expected);

# any instant in between
my (@instants, @differences);
foreach my $name (keys %at)
{
	push @instants, [ $name, $_, $at{$name}{$_} ] foreach keys %{ $at{$name} };
}
@instants = (shuffle @instants)[ 0 .. min(1000, scalar @instants) - 1 ];
my $values = join ', ', map { "('$_->[0]', $_->[1]::bigint, $_->[2])" } @instants;
is($node->safe_psql('postgres', qq(
	SELECT count(*) FROM (VALUES $values) AS v (name, at, balance)
	WHERE credits_balance_at(name, timestamptz 'epoch' + at * interval '1 microsecond') IS DISTINCT FROM balance)),
	'0', 'credits_balance_at the instant of ' . @instants . ' receipts');

# the log holds what was acknowledged, and what the clock did
my %logged = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q(
	SELECT t.id FROM credits.transactions AS t
	WHERE t.kind NOT IN ('expiration', 'activation')
	  AND NOT (t.kind = 'void' AND EXISTS (
			SELECT FROM credits.transactions AS r WHERE r.id = t.target_id AND r.kind = 'refund'))
	  AND t.account_id <> credits.account_id('none')));
my @unlogged = grep { !delete $logged{ $_->[1]{id} } } @log;
is(scalar(@unlogged), 0, 'every receipt is in the log');
is(join(' ', sort keys %logged), '', 'and nothing else is');

# what was refused, and who was alerted
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.events WHERE kind = 'deduction_refused')),
	$refusals, 'an event for each refused attempt');
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.events WHERE kind = 'settle_failed')),
	'0', 'settling never failed');
my $heard = $listener->query('SELECT 1');
is(scalar(@{ $heard->{notifications} }),
	$node->safe_psql('postgres', q(SELECT count(*) FROM credits.events WHERE kind = 'low_balance')),
	'a notification for each alert, and no more');
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM credits.events AS e JOIN credits.transactions AS t ON t.id = e.transaction_id
	WHERE e.kind = 'low_balance' AND ((e.detail->>'balance')::bigint <> t.balance_after
		OR t.balance_after >= (e.detail->>'threshold')::bigint
		OR (t.balance_after = 0) <> (e.detail ? 'depleted') OR e.account_id <> t.account_id))),
	'0', 'each alert tells of its transaction');
problems_are($node, '', 'verify');

$_->quit foreach $boss, $listener;
$node->stop;
done_testing();
