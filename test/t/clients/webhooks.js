// Verifies webhooks with the package standardwebhooks of npm.  Each line of the input is
// a JSON object with the secret, the headers and the body; for each, it prints what
// became of it.
const { Webhook } = require('standardwebhooks');
require('readline').createInterface({ input: process.stdin }).on('line', line => {
	const { secret, headers, body } = JSON.parse(line);
	try {
		const event = new Webhook(secret).verify(body, headers);
		console.log(`ok ${event.type}`);
	} catch (error) {
		console.log(`refused: ${error.message}`);
	}
});
