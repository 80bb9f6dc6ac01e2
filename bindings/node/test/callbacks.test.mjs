// Functions of the user's: however they fail, the process goes on, and so does all else.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { boxFor, program } from './support.mjs';

/** In each of these ways a function fails; `fail()` stands for its body. */
const WAYS = {
  'throws an error': "throw new TypeError('s3cret-c4nary')",
  'throws what is no error': "throw 's3cret-c4nary'",
  'throws undefined': 'throw undefined',
  'throws what cannot be looked at': 'throw new Proxy({}, { get() { throw new Error("s3cret-c4nary"); } })',
  rejects: "return Promise.reject(new TypeError('s3cret-c4nary'))",
  'rejects later': "return new Promise((_, reject) => setTimeout(reject, 5, new TypeError('s3cret-c4nary')))",
  'gives a thenable that fails': "return { then() { throw new Error('s3cret-c4nary'); } }",
  'gives a thenable that cannot be looked at': 'return { get then() { throw new Error("s3cret-c4nary"); } }',
};

/** Returns what a process wrote to standard error besides its warnings that there are no credentials yet. */
const beyondSource = (stderr) =>
  stderr
    .split('\n')
    .filter((line) => !/^$|^\(Use `node |EvertokenWarning: evertoken: nothing from the credential source yet/.test(line));

for (const [name, body] of Object.entries(WAYS)) {
  test(`a logger and a listener that ${name} end nothing`, async (t) => {
    const server = await boxFor(t);
    const code = `
      import { Client } from 'evertoken';
      const fail = () => { ${body}; };
      const logger = { debug: fail, info: fail, warn: fail, error: fail };
      const api = new Client('app', 'secret', { issuer: process.argv[1], logger });
      let renewed = 0;
      for (const kind of ['renewed', 'renewalFailed', 'invalidated', 'closed']) api.on(kind, fail);
      api.on('renewed', () => renewed++);
      const events = api.events();
      const first = await api.token();
      api.invalidate(first);
      while ((await events.next()).value?.kind !== 'invalidated');
      while ((await events.next()).value?.kind !== 'renewed');
      await api.close();
      console.log(renewed);
    `;
    // Something must stay awake for events.
    const { status, stdout, stderr } = await program(`const awake = setInterval(() => {}, 1e9); ${code} clearInterval(awake);`, {
      args: [server.issuer],
    });
    assert.deepEqual([status, stdout], [0, '2\n'], stderr);
    const warnings = stderr.split('\n').filter((line) => line.includes('EvertokenWarning'));
    assert.equal(warnings.length, 2, 'one for each function');
    assert.match(stderr, /EvertokenWarning: a listener of `renewed` failed/);
    assert.match(stderr, /EvertokenWarning: the option `logger\.debug` failed/);
    assert.ok(!stderr.includes('c4nary'), stderr);
  });

  test(`a function for credentials that ${name} ends nothing`, async (t) => {
    const server = await boxFor(t);
    const code = `
      import { Client } from 'evertoken';
      const fail = () => { ${body}; };
      const options = { issuer: process.argv[1], tokenTimeoutMs: 2000 };
      const broken = new Client({ ...options, credentials: fail });
      const error = await broken.token().catch((error) => error);
      console.log(error.code);
      console.log(error.message, error.cause);
      let calls = 0;
      const api = new Client({ ...options, credentials: () => (calls++ === 0 ? fail() : { appId: 'app', appSecret: 'secret' }) });
      await api.token({ signal: AbortSignal.timeout(30_000) }).catch(() => {});
      while (!api.currentToken()) await new Promise((resolve) => setTimeout(resolve, 20));
      console.log('well');
    `;
    const { status, stdout, stderr } = await program(code, { args: [server.issuer] });
    assert.deepEqual([status, beyondSource(stderr)], [0, []], stdout);
    assert.match(stdout, /^ERR_EVERTOKEN_CREDENTIALS_UNAVAILABLE\n[\s\S]*\nwell\n$/);
    assert.ok(!(stdout + stderr).includes('c4nary'), stdout + stderr);
  });
}

test('credentials whose members cannot be read end nothing', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { Client } from 'evertoken';
    const credentials = () => ({ appId: 'app', get appSecret() { throw new RangeError('s3cret-c4nary'); } });
    const api = new Client({ issuer: process.argv[1], tokenTimeoutMs: 1000, credentials });
    console.log((await api.token().catch((error) => error)).message);
  `;
  const { status, stdout, stderr } = await program(code, { args: [server.issuer] });
  assert.deepEqual([status, beyondSource(stderr)], [0, []]);
  assert.match(stdout, /the function for credentials failed: RangeError/);
  assert.ok(!(stdout + stderr).includes('c4nary'), stdout + stderr);
});

test('a handler of undici that throws ends nothing', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { Client, undiciInterceptor } from 'evertoken';
    import { Agent } from 'undici';
    const [issuer, baseUrl] = process.argv.slice(1);
    const wrong = new Client('app', 'wrong', { issuer, baseUrl });
    const { origin, pathname } = new URL(baseUrl + 'orders');
    const agent = new Agent().compose(undiciInterceptor(wrong));
    await new Promise((resolve) => {
      agent.dispatch({ origin, path: pathname, method: 'GET' }, {
        onRequestStart() {},
        onResponseError() { resolve(); throw new Error('mine'); },
      });
    });
    console.log('on it goes');
  `;
  const { status, stdout, stderr } = await program(code, { args: [server.issuer, server.apiUrl] });
  assert.deepEqual([status, stdout], [0, 'on it goes\n'], stderr);
  assert.match(stderr, /EvertokenWarning: a handler of undici failed: Error/);
});
