// Signs bodies of webhooks with Stripe's own library: one a line, and prints the header
// for each.  With a number as the second argument, that is the time of the signature.
const Stripe = require('stripe');

const [, , secret, timestamp] = process.argv;
const { webhooks } = new Stripe('sk_test_0123456789');

require('readline').createInterface({ input: process.stdin }).on('line', (payload) => {
  const header = webhooks.generateTestHeaderString({ payload, secret, timestamp: Number(timestamp) });
  // what it signs it accepts, and reads as an event
  const event = webhooks.constructEvent(payload, header, secret, 1e9);
  console.log(`${event.type} ${header}`);
});
