package CreditsModelCorrections;

# More of the run against the model: corrections of several accounts, previewed and applied
# in one transaction.  The model plays each account's part as the adjustment that it is: all
# of them have it, or none.

use strict;
use warnings FATAL => 'all';

use List::Util qw(min shuffle);

# What makes the function that previews a correction and applies it, unless an account
# would be refused.  It returns what a batch of adjustments would.
sub setup
{
	return q(CREATE FUNCTION corrected(accounts text[], delta bigint) RETURNS SETOF credits.outcome LANGUAGE plpgsql AS $$
		DECLARE
			p record;
			c bigint; n int; s numeric; again boolean;
		BEGIN
			SELECT * INTO p FROM credits_preview_correction(accounts, delta, 'because');
			IF p.refused > 0 THEN
				RAISE EXCEPTION 'an account is refused' USING ERRCODE = (SELECT code FROM credits_correction_items(p.correction_id, true) LIMIT 1);
			END IF;
			CALL credits_apply_correction(p.token, c, n, s, again);
			RETURN QUERY SELECT g.item::int, true, NULL::text, NULL::text, NULL::text, NULL::text,
				ROW(t.id, g.account, t.kind, t.amount, t.balance_after, t.held_after, false, t.created_at)::credits.receipt
			FROM unnest(accounts) WITH ORDINALITY AS g (account, item)
			JOIN credits_correction_items(c, max_rows => 100) AS i USING (account)
			JOIN credits.transactions AS t ON t.id = i.transaction_id ORDER BY g.item;
		END $$);
}

sub ask
{
	my (@accounts) = @_;
	my @few = (shuffle @accounts)[ 0 .. min(4, $#accounts) ];
	my $delta = int(rand 40) - 15 || 1;
	return { items => [ map { { op => 'adjust', account => $_, amount => $delta } } @few ], atomic => 1 };
}

sub call
{
	my @items = @{ $_->{items} };
	return "corrected(ARRAY['" . join("', '", map { $_->{account} } @items) . "'], $items[0]{amount})";
}

1;
