// An application of the old kind, through node-postgres: see migrating.pl.
// Usage: old_app.js WRITERS USERS STOPFILE; prints one JSON object at the end.

const fs = require('fs');
const { Client } = require('pg');

const [writers, users] = process.argv.slice(2, 4).map(Number);
const stopFile = process.argv[4];
const told = { done: 0, errors: [], longest: 0 };
const random = (n) => Math.floor(Math.random() * n);

// Statements with names are prepared once for each connection.
const spend = { name: 'spend', text: `
  WITH c AS (UPDATE users SET credits = credits - $2 WHERE id = $1 AND credits >= $2 RETURNING id, credits),
       t AS (INSERT INTO told SELECT id, -$2::integer FROM c)
  SELECT credits FROM c` };
const give = { name: 'give', text: `
  WITH c AS (UPDATE users SET credits = credits + $2 WHERE id = $1 RETURNING id, credits),
       t AS (INSERT INTO told SELECT id, $2::integer FROM c)
  SELECT credits FROM c` };
const read = { name: 'read', text: 'SELECT * FROM users WHERE id = $1' };
const touch = { name: 'touch', text: 'UPDATE users SET seen_at = now() WHERE id = $1' };
const add = { name: 'add', text: 'INSERT INTO users (email) VALUES ($1) RETURNING id, credits' };
const upsert = { name: 'upsert', text: `
  WITH c AS (INSERT INTO users (email, credits) VALUES ($1, 105)
             ON CONFLICT (email) DO UPDATE SET credits = users.credits + 5 RETURNING id, credits),
       t AS (INSERT INTO told SELECT id, 5 FROM c)
  SELECT credits FROM c` };
const lock = { name: 'lock', text: 'SELECT credits FROM users WHERE id = $1 FOR UPDATE' };
const set = { name: 'set', text: `
  WITH c AS (UPDATE users SET credits = $2 WHERE id = $1 RETURNING id)
  INSERT INTO told SELECT id, $3::integer FROM c` };

function expect(what, value) {
  if (!what) throw new Error(`unexpected: ${JSON.stringify(value)}`);
}

async function step(client, writer) {
  const id = 1 + random(users);
  const run = async (statement, values) => (await client.query({ ...statement, values })).rows;
  const choice = random(20);

  if (choice < 6) await run(spend, [id, 1 + random(5)]);
  else if (choice < 10) {
    const [row] = await run(give, [id, 1 + random(5)]);
    expect(Number.isInteger(row.credits), row);
  } else if (choice < 14) {
    const [row] = await run(read, [id]);
    expect(Number.isInteger(row.credits) && row.credits >= 0, row);
  } else if (choice < 15) await run(touch, [id]);
  else if (choice < 16) {
    const [row] = await run(add, [`node-${process.pid}-${writer}-${told.done}@example.com`]);
    expect(row.credits === 100, row);
  } else if (choice < 18) await run(upsert, [`${id}@example.com`]);
  else {
    await client.query('BEGIN');
    const [row] = await run(lock, [id]);
    await run(set, [id, row.credits + 3, 3]);
    await client.query('COMMIT');
  }
}

async function write(writer) {
  const client = new Client();
  await client.connect();
  while (!fs.existsSync(stopFile)) {
    const start = process.hrtime.bigint();
    try {
      await step(client, writer);
    } catch (error) {
      told.errors.push(`${error.code} ${error.message} ${error.detail ?? ''}`);
      await client.query('ROLLBACK');
    }
    told.longest = Math.max(told.longest, Number(process.hrtime.bigint() - start) / 1e9);
    told.done++;
  }
  await client.end();
}

Promise.all([...Array(writers).keys()].map(write)).then(
  () => console.log(JSON.stringify({ ...told, errors: told.errors.length, first: told.errors[0] })));
