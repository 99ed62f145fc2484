package CreditsModelTold;

# More of the run against the model: who is told of what happens meanwhile, and what is
# found suspicious.
#
# Accounts are opened with a contact, some with a preference.  A consumer reads the
# feed, and workers take and end deliveries, beside everything else; some of what they
# do is rolled back.  At the end each event was acknowledged once, and there is a
# delivery for each event that is to be told, and for no other.  What credits_watch has
# counted is what the log says, and whoever is suspicious by that was found so.

use strict;
use warnings FATAL => 'all';

use Test::More;

# within which an alert at one level is told once
my $cooldown = 300_000;

# what is refunded of what is spent in an hour, from which on it is suspicious
my $refunded_share = 0.05;

my %acknowledged;    # event => how often
my %message_of;      # delivery => the id of its message
my %attempts;        # delivery => attempt => how often it was taken so
my %sent;            # delivery => the attempt that ended it

sub settings
{
	return <<"CONF";
credits.alert_cooldown = '$cooldown microseconds'
credits.alert_recovery = on
credits.delivery_attempts = 100
credits.delivery_max_age = 0
CONF
}

# Makes what there has to be before anything else happens.
sub begin
{
	my ($session) = @_;
	$session->value(q(SELECT credits_add_consumer('reader')));
	$session->value(qq(SELECT credits_set_activity_rule('refunds', 'refunds', $refunded_share, minimum => 1)));
	return;
}

# Does an account want no alerts?
sub wants_none
{
	my ($account) = @_;
	return $account =~ /(\d+)$/ && $1 % 3 == 0;
}

# What opens an account that is to be told: there is no instant at which it exists
# without its contact.
sub open_call
{
	my ($account, $credits) = @_;
	my $enabled = wants_none($account =~ s/'//gr) ? 'false' : 'true';
	return "credits_open_account($account, $credits), LATERAL (SELECT "
	  . "credits_set_contact(account, 'email', replace(account, ':', '') || '\@example.org', verified => true), "
	  . "credits_set_preference(account, 'low_balance', 'email', $enabled)) AS told";
}

# Looks for suspicious activity.
sub watch
{
	my ($problem) = @_;
	my $batch = 1 + int rand 50;
	return {
		steps => ["CALL credits_watch(batch_size => $batch)"],
		done => sub {
			my ($answer) = @_;
			$problem->("credits_watch: $answer->{code} @{$answer->{rows}}")
			  unless $answer->{code} eq '00000' && $answer->{rows}[0] =~ /^\d+\|0$/;
			return;
		},
	};
}

# Reads some events, or takes some messages, and commits that or not; or looks for
# suspicious activity.
sub unit
{
	my ($problem) = @_;
	return watch($problem) if rand() < 0.2;
	my $reads = rand() < 0.5;
	my $most = 1 + int rand 20;
	my $work = $reads
	  ? "SELECT event_id, credits_ack_events('reader', token) FROM credits_read_events('reader', $most)"
	  : 'SELECT delivery_id, message_id, attempt, CASE floor(random() * 4)::integer '
	  . "WHEN 0 THEN 'failed ' || credits_delivery_failed(delivery_id, lease_id, 'connection refused') "
	  . "WHEN 1 THEN 'nothing' ELSE 'sent ' || credits_delivery_sent(delivery_id, lease_id) END "
	  . "FROM credits_take_deliveries('email', $most, '100 milliseconds')";
	my $end = rand() < 0.8 ? 'COMMIT' : 'ROLLBACK';
	my @rows;
	return {
		steps => [ 'BEGIN', $work, $end ],
		each => sub {
			my ($number, $answer) = @_;
			$problem->("$work: $answer->{code} @{$answer->{rows}}") if $answer->{code} ne '00000';
			@rows = @{ $answer->{rows} } if $number == 1;
			return $answer->{code} eq '00000';
		},
		failed => sub { },
		done => sub {
			return if $end eq 'ROLLBACK';
			take_in($problem, $reads, @rows);
			return;
		},
	};
}

# Take in what was committed.  Answers do not come in the order of the commits.
sub take_in
{
	my ($problem, $reads, @rows) = @_;
	foreach my $row (map { [ split /\|/, $_, -1 ] } @rows)
	{
		my ($id, @more) = @$row;
		if ($reads)
		{
			$acknowledged{$id}++ if $more[0] eq 't';
			next;
		}
		$problem->("delivery $id has message $more[0], and had $message_of{$id}")
		  if ($message_of{$id} //= $more[0]) ne $more[0];
		$attempts{$id}{ $more[1] }++;
		$problem->("what was done about delivery $id was refused: $more[2]") if $more[2] =~ /false/;
		$sent{$id} = $more[1] if $more[2] eq 'sent true';
	}
	return;
}

# Compares what was counted, and who was found suspicious, with the log.
sub compare_activity
{
	my ($session) = @_;
	$session->value('CALL credits_watch()') foreach 1 .. 3;
	$session->value(q(
		CREATE TEMPORARY VIEW hours AS
		SELECT account_id, date_trunc('hour', created_at, 'UTC') AS hour,
			   -COALESCE(sum(amount) FILTER (WHERE amount < 0 AND kind IN ('deduction', 'hold', 'transfer', 'gift')
					OR amount > 0 AND kind IN ('release', 'reversal')), 0) AS spent,
			   COALESCE(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded
		FROM credits.transactions GROUP BY 1, 2));
	is($session->value(q(
		SELECT string_agg(concat_ws(' ', account_id, hour, h.spent, l.spent, h.refunded, l.refunded), ', ')
		FROM credits.activity_hours AS h FULL JOIN hours AS l USING (account_id, hour)
		WHERE (COALESCE(h.spent, 0), COALESCE(h.refunded, 0)) <> (l.spent, l.refunded) OR l.hour IS NULL)),
		'', 'what was counted as spent and refunded');
	is($session->value(qq(
		SELECT string_agg(concat_ws(' ', account_id, hour, spent, refunded), ', ') FROM hours
		WHERE refunded >= 1 AND refunded > $refunded_share * greatest(spent, 0)
			AND NOT EXISTS (SELECT FROM credits.activity_hits AS h WHERE h.account_id = hours.account_id AND h.starts_at = hours.hour))),
		'', 'who is suspicious was found so');
	# events of who was erased are gone
	my $gone = 'account_id IN (SELECT account_id FROM credits.erasures)';
	my ($hits, $events) = split /\|/, $session->value(qq(
		SELECT (SELECT count(*) FROM credits.activity_hits WHERE NOT $gone),
			   (SELECT count(DISTINCT account_id || (detail->>'starts_at')) FROM credits.events
				WHERE kind = 'activity_suspicious' AND NOT $gone AND (detail->>'figure')::numeric > (detail->>'limit')::numeric)));
	cmp_ok($hits, '>', 0, 'some are');
	is($events, $hits, "once, with an event ($hits)");
	is($session->value("SELECT count(*) FROM credits.events WHERE kind = 'activity_suspicious' AND NOT $gone"), $hits, 'and no other');
	return;
}

# Reads and sends what is left, much later, and compares.
sub compare
{
	my ($session) = @_;
	compare_activity($session);
	my $problem = sub { fail(shift) };
	$session->value("SET credits.test_clock = '2100-01-01 00:00:00+00'");
	while (1)
	{
		my $answer = $session->query("SELECT event_id, credits_ack_events('reader', token) FROM credits_read_events('reader', 1000)");
		last if !@{ $answer->{rows} };
		take_in($problem, 1, @{ $answer->{rows} });
	}
	while ($session->value(q(SELECT (SELECT COALESCE(sum(unread), 0) FROM credits.consumer_list WHERE consumer <> 'topups')
		+ (SELECT count(*) FROM credits.deliveries WHERE status = 'waiting'))) > 0)
	{
		$session->query(q(SELECT credits_delivery_sent(delivery_id, lease_id) FROM credits_take_deliveries('email', 1000)));
	}

	foreach my $id (keys %attempts)
	{
		fail("delivery $id was taken twice as attempt $_") foreach grep { $attempts{$id}{$_} > 1 } keys %{ $attempts{$id} };
		next if !defined $sent{$id};
		fail("delivery $id was taken as attempt $_, and sent at $sent{$id}") foreach grep { $_ > $sent{$id} } keys %{ $attempts{$id} };
	}

	my %once = map { $_ => 1 } split /\n/, $session->value('SELECT id FROM credits.events');
	# events of who was erased are gone, acknowledged or not
	if ($session->value('SELECT count(*) FROM credits.erasures') > 0)
	{
		delete @acknowledged{ grep { $acknowledged{$_} == 1 && !$once{$_} } keys %acknowledged };
	}
	is_deeply(\%acknowledged, \%once, 'the consumer has acknowledged each event once (' . keys(%once) . ')');

	my (@expected, %last);
	foreach my $event (split /\n/, $session->value(q(
		SELECT e.id, a.name, e.kind, e.detail->>'level', (extract(epoch FROM e.created_at) * 1000000)::bigint
		FROM credits.events AS e JOIN credits.accounts AS a ON a.id = e.account_id
		WHERE (e.kind IN ('low_balance', 'balance_recovered') OR e.kind LIKE 'dispute%' OR e.kind = 'topup_requested') AND a.name <> 'none'
			AND a.id NOT IN (SELECT account_id FROM credits.erasures) ORDER BY e.id)))
	{
		my ($id, $account, $kind, $level, $at) = split /\|/, $event;
		next if $kind eq 'low_balance' && wants_none($account);
		# told each time
		if ($kind =~ /^(dispute|topup)/)
		{
			push @expected, $id;
			next;
		}
		my $last = \$last{"$account $kind $level"};
		next if defined $$last && $$last > $at - $cooldown;
		$$last = $at;
		push @expected, $id;
	}
	is($session->value("SELECT string_agg(event_id::text, ' ' ORDER BY event_id) FROM credits.deliveries"),
		join(' ', @expected), 'each event that is to be told has a delivery, and no other has (' . @expected . ')');
	is($session->value(q(SELECT count(*) FROM credits.deliveries WHERE status <> 'sent')), '0', 'and each was sent');
	return;
}

1;
