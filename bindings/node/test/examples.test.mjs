import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import { boxFor, FOLDER, IS_WINDOWS } from './support.mjs';

function begin(name, server, flags = []) {
  const env = { ...process.env, PORT: '0', EVERTOKEN_APP_ID: 'app', EVERTOKEN_APP_SECRET: 'secret' };
  if (server) Object.assign(env, { EVERTOKEN_ISSUER: server.issuer, EVERTOKEN_BASE_URL: server.apiUrl });
  delete env.NODE_TEST_CONTEXT;
  return spawn(process.execPath, [...flags, join(FOLDER, 'examples', name)], { env, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function ended(child) {
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
  const [status] = await once(child, 'close');
  return { status, said };
}

for (const name of ['express.mjs', 'fastify.mjs']) {
  test(`the service of ${name}`, async (t) => {
    const server = await boxFor(t);
    const child = begin(name, server);
    t.after(() => child.kill('SIGKILL'));
    const complaint = [];
    child.stderr.on('data', (text) => complaint.push(text));
    let url;
    for await (const line of createInterface(child.stdout)) if ((url = /^http:\S+/.exec(line)?.[0])) break;
    assert.ok(url, String(complaint));
    assert.equal(server.tokenRequests, 1, 'ahead of the first call');
    assert.deepEqual(await (await fetch(`${url}/ready`)).json(), { state: 'fresh' });
    const order = await fetch(`${url}/orders/7%2F8`);
    assert.deepEqual([order.status, (await order.json()).path], [200, '/v1/orders/7%2F8']);
    server.revoke();
    assert.equal((await fetch(`${url}/orders/9`)).status, 200);
    child.kill('SIGTERM');
    const [status] = await once(child, 'exit');
    // On Windows every signal kills.
    if (!IS_WINDOWS) assert.equal(status, 0, String(complaint));
  });
}

test('the script', async (t) => {
  const server = await boxFor(t);
  assert.deepEqual(await ended(begin('script.mjs', server)), { status: 0, said: '200 /v1/orders\n' });
  server.register('app', 'other');
  const { status, said } = await ended(begin('script.mjs', server));
  assert.equal(status, 1);
  assert.match(said, /^ERR_EVERTOKEN_CREDENTIALS_REJECTED the authorization server refused/);
});

test('the worker threads', async (t) => {
  const server = await boxFor(t);
  const { status, said } = await ended(begin('workers.mjs', server));
  assert.deepEqual([status, said], [0, 'worker 0: 200\nworker 1: 200\nworker 2: 200\n']);
  assert.equal(server.tokenRequests, 3);
});

test('the test of ones own code', async () => {
  const { status, said } = await ended(begin('orders.test.mjs', undefined, ['--test-reporter=spec']));
  assert.equal(status, 0, said);
  assert.match(said, /pass 2\b/);
});
