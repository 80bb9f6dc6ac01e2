import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';

import { Client, EvertokenError, Preset } from 'evertoken';
import { AuthServer, fixedClient } from 'evertoken/testing';

import { boxFor, clientFor, program, settlesAtOnce, stayAwake, THOROUGH, until } from './support.mjs';

const { APP_ID, APP_SECRET } = AuthServer;
const coded = (code) => (error) => error instanceof EvertokenError && error.code === `ERR_EVERTOKEN_${code}`;

test('a token is fetched once and then read', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  assert.equal(server.tokenRequests, 0, 'nothing is asked before the first read');
  assert.equal(api.currentToken(), null);
  const token = await api.token();
  assert.ok(server.accepts(token));
  assert.equal(api.currentToken(), token);
  assert.equal(await api.authorization(), `Bearer ${token}`);
  assert.deepEqual(await api.headers('GET', `${server.apiUrl}orders`), { authorization: `Bearer ${token}` });
  assert.ok(await settlesAtOnce(api.token()));
  assert.equal(server.tokenRequests, 1);
  const status = api.status();
  assert.equal(status.state, 'fresh');
  assert.ok(status.isReady && status.lastError === null && status.lastRenewal instanceof Date);
  assert.ok(Math.abs(status.expiresAt - Date.now() - status.expiresInMs) < 60_000);
});

test('what clings to pasted values does not count, and is warned of', async (t) => {
  const server = await boxFor(t);
  const [issuer, baseUrl] = [` "${server.issuer}"\r\n`, `'${server.apiUrl}'\n`];
  for (const [appId, appSecret] of [
    [`${APP_ID}\n`, `${APP_SECRET}\r\n`],
    [`\ufeff${APP_ID}`, `${APP_SECRET}\0`],
  ]) {
    const lines = [];
    const logger = { warn: (line) => lines.push(line) };
    const api = new Client(appId, appSecret, { issuer, baseUrl, logger });
    t.after(() => api.close());
    assert.match(lines.join(), /the app id begins or ends with a control character.*it is removed.*the app secret/s);
    assert.ok(server.accepts(await api.token()));
    assert.equal((await api.fetch('orders')).status, 200);
    api.setCredentials(APP_ID, `"${APP_SECRET}"`);
    assert.match(lines.at(-1), /the app secret begins and ends with a quote; it is used as it is/);
    assert.ok(!lines.join().replaceAll('app secret', '').includes(APP_SECRET));
  }
  const credentials = () => ({ appId: `${APP_ID}\r\n`, appSecret: `${APP_SECRET}\n` });
  const api = new Client({ credentials, issuer });
  t.after(() => api.close());
  const warning = once(process, 'warning');
  assert.ok(server.accepts(await api.token()));
  const [{ name, message }] = await warning;
  assert.equal(name, 'EvertokenWarning');
  assert.match(message, /^evertoken: odd credentials: the app (id|secret) begins or ends with a control character/);
});

test('a thousand callers from cold make one request', async (t) => {
  const server = await boxFor(t);
  server.setLatency(100);
  const api = clientFor(t, server);
  const tokens = new Set(await Promise.all(Array.from({ length: 1_000 }, () => api.token())));
  assert.deepEqual([...tokens], [api.currentToken()]);
  assert.equal(server.tokenRequests, 1);
});

test('nobody waits after the first, over lifetimes with a slow endpoint', async (t) => {
  const lives = THOROUGH ? 10 : 3;
  // Renewed after 1.2 s, and of so long a life that a busy machine is in time.
  const server = await boxFor(t, { lifetimeMs: 120_000 });
  server.setLatency(200);
  const api = clientFor(t, server, { renewal: { renewAt: 0.01, jitter: 0 } });
  const seen = new Set([await api.token()]);
  await until(`there are ${lives} more`, async () => {
    const read = api.currentToken();
    assert.ok(read !== null && (await settlesAtOnce(api.token())), `a read waits, after ${seen.size} tokens`);
    assert.ok(server.accepts(read), 'an expired token was read');
    return seen.add(read).size > lives;
  });
  assert.equal(server.maxInFlight, 1);
});

test('without external buffers the word is asked for', async (t) => {
  const { native } = await import('../dist/native.js');
  const { word } = native;
  native.word = () => null;
  t.after(() => (native.word = word));
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const token = await api.token();
  assert.equal(api.currentToken(), token);
  server.revoke(token);
  api.invalidate(token);
  await until('it is renewed', () => ![null, token].includes(api.currentToken()));
});

test('a wall clock that was set back prolongs nothing', async (t) => {
  // Of 1.2 s it is handed out for 0.78 s; the renewal, which hangs, takes a second to fail, so that no event tells of the end.
  const server = await boxFor(t, { lifetimeMs: 1_200 });
  const { native } = await import('../dist/native.js');
  const { held } = native;
  // As if the wall clock were behind by a day from now on: by it the time is never up. Only Rust's mark in the word tells.
  native.held = (handle) => {
    const answer = held(handle);
    return answer && { ...answer, until: answer.until + 86_400_000 };
  };
  t.after(() => (native.held = held));
  const api = clientFor(t, server);
  const token = await api.token();
  server.fail({ kind: 'hang' }, { always: true });
  await until('its time is up', () => {
    const isLive = server.accepts(token);
    const read = api.currentToken();
    assert.ok(read === null || isLive, 'an expired token was read');
    return read === null;
  });
});

test('a renewed token is read from the moment on in which it is told of', async (t) => {
  const server = await boxFor(t, { lifetimeMs: 4_000 });
  const api = clientFor(t, server);
  const read = [];
  api.on('renewed', () => read.push(api.currentToken()));
  await api.token();
  await until('there are two', () => read.length > 1);
  assert.deepEqual(read.slice(0, 2), server.issuedTokens.slice(0, 2));
});

test('a suspend of the machine is seen by the next read', async (t) => {
  const server = await boxFor(t);
  const code = `
    const { now } = Date;
    let ahead = 0;
    Date.now = () => now() + ahead;
    const { Client } = await import('evertoken');
    const { native } = await import('./dist/native.js');
    const api = new Client('app', 'secret', { issuer: process.argv[1] });
    await api.token();
    api.currentToken();
    const { held } = native;
    let asked = 0;
    native.held = (handle) => (asked++, held(handle));
    const before = [api.currentToken() !== null, asked];
    ahead = 7_200_000;
    api.currentToken();
    console.log(JSON.stringify([before, asked]));
  `;
  const { stdout, stderr } = await program(code, { args: [server.issuer] });
  // Till then it was read without a question; from then on Rust is asked, whose clock is the system's.
  assert.deepEqual([JSON.parse(stdout || 'null'), stderr], [[[true, 0], 1], '']);
});

test('an outage costs nothing while a token is held', async (t) => {
  const server = await boxFor(t, { lifetimeMs: 4_000 });
  const api = clientFor(t, server);
  const events = api.events();
  const token = await api.token();
  stayAwake(t);
  server.outage();
  for await (const event of events) {
    assert.ok(['renewed', 'renewalFailed'].includes(event.kind), event.kind);
    if (event.kind === 'renewalFailed') {
      assert.equal(event.error.code, 'ERR_EVERTOKEN_AUTH_SERVER_UNAVAILABLE');
      break;
    }
  }
  assert.equal(api.currentToken(), token);
  assert.ok((await settlesAtOnce(api.token())) && api.status().isReady);
  assert.equal(api.status().state, 'degraded');
  server.recover();
  await until('it is renewed', () => ![null, token].includes(api.currentToken()));
});

test('errors say what and where', async (t) => {
  const server = await boxFor(t);
  const api = new Client(APP_ID, 'wr0ng-s3cret', { issuer: server.issuer });
  const error = await api.token().then(assert.fail, (error) => error);
  assert.ok(coded('CREDENTIALS_REJECTED')(error));
  assert.deepEqual(
    [error.oauthError, error.server, error.status, error.retryable],
    ['invalid_client', server.tokenUrl, 401, false],
  );
  assert.ok(error.retryAfterMs > 1_000 && error.description.includes('unknown client'));
  assert.match(error.stack, /client\.test\.mjs/, 'the stack is that of who asked');
  // Known to be refused: told at once, and the server is left alone.
  await assert.rejects(api.token(), coded('CREDENTIALS_REJECTED'));
  assert.equal(server.tokenRequests, 2, 'the secret in the header, and once in the body');
  await api.close();
  await assert.rejects(api.token(), coded('CLOSED'));
  await assert.rejects(api.fetch(server.apiUrl), coded('UNTRUSTED_ORIGIN'));
  assert.equal(api.currentToken(), null);
  assert.equal(api.status().state, 'closed');
  await api.close();

  const down = new Client(APP_ID, APP_SECRET, { tokenUrl: 'http://127.0.0.1:9/token', tokenTimeoutMs: 300 });
  t.after(() => down.close());
  const refused = await down.token().then(assert.fail, (error) => error);
  assert.ok(coded('AUTH_SERVER_UNAVAILABLE')(refused) && refused.retryable);
  assert.match(String(refused.cause), /refused/i);
});

test('mistakes in the options are named', () => {
  const issuer = 'https://as.example';
  for (const [options, named] of [
    [{}, /`issuer` or `tokenUrl`/],
    [{ issuer, tokenUrl: `${issuer}/token` }, /`issuer` and `tokenUrl` are both set/],
    [{ isuer: issuer }, /unknown option `isuer`: did you mean `issuer`\?/],
    [{ token_url: issuer }, /unknown option `token_url`: did you mean `tokenUrl`\?/],
    [{ issuer, colour: 'red' }, /unknown option `colour`$/],
    [{ issuer: 7 }, /`issuer` must be a string, not number/],
    [{ issuer, scope: ['a', 1] }, /`scope` must be a string or a list of strings/],
    [{ issuer, tokenTimeoutMs: -1 }, /`tokenTimeoutMs` must be a number of milliseconds/],
    [{ issuer, tokenTimeoutMs: '10s' }, /`tokenTimeoutMs` must be a number of milliseconds, 0 or more, not string/],
    [{ issuer, renewal: { renewAtt: 1 } }, /`renewal.renewAtt`: did you mean `renewal.renewAt`/],
    [{ issuer, renewal: { renewAt: 2 } }, /`renewal.renewAt` must lie above 0/],
    [{ issuer, clientAuth: 'basic' }, /`clientAuth.method` "basic" is not known/],
    [{ issuer, clientAuth: { method: 'private_key_jwt' } }, /`clientAuth.key` is missing/],
    [{ issuer, clientAuth: { method: 'private_key_jwt', key: 'nonsense' } }, /private key/i],
    [{ issuer, clientAuth: { method: 'client_secret_jwt', algorithm: 'HS1' } }, /must be HS256, HS384 or HS512, not "HS1"/],
    [{ issuer, dpop: 'yes' }, /`dpop` must be true or an object with `key`, not string/],
    [{ issuer, logger: { warn: true } }, /`logger.warn` must be a function/],
    [{ issuer, baseUrl: 'http://api.example/' }, /plain http/],
    [{ issuer, credentials: async () => ({}) }, /either app id and app secret, or one other/],
    [null, /must be an object/],
  ]) {
    assert.throws(
      () => new Client(APP_ID, APP_SECRET, options),
      (error) => coded('CONFIGURATION')(error) && named.test(error.message),
      String(named),
    );
  }
  assert.throws(() => new Client(APP_ID), coded('CONFIGURATION'));
  assert.throws(() => new Client({ issuer }), /needs `credentials`, `credentialsFile`/);
  assert.throws(() => new Client(undefined, undefined, { issuer }), /the app id must be a string/);
});

test('a wait ends with its signal or its limit, and the renewal goes on', async (t) => {
  const server = await boxFor(t);
  server.setLatency(200);
  const api = clientFor(t, server);
  const reason = new Error('no more');
  const abort = new AbortController();
  const first = api.token({ signal: abort.signal });
  const second = api.token();
  abort.abort(reason);
  await assert.rejects(first, (error) => error === reason);
  assert.ok(server.accepts(await second));
  assert.equal(server.tokenRequests, 1);
  await assert.rejects(api.token({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
  await assert.rejects(api.fetch('orders', { signal: AbortSignal.abort(reason) }), (error) => error === reason);

  const hanging = await boxFor(t);
  hanging.fail({ kind: 'hang' }, { always: true });
  const waiting = clientFor(t, hanging, { tokenTimeoutMs: 200 });
  await assert.rejects(waiting.token(), coded('TIMEOUT'));
  await assert.rejects(waiting.token({ signal: AbortSignal.timeout(20) }), { name: 'TimeoutError' });
  const limited = clientFor(t, hanging, { timeoutMs: 50 });
  await assert.rejects(limited.fetch('orders'), { name: 'TimeoutError' });
  // What `AbortSignal.timeout` does not take, or takes for 1 ms.
  const split = clientFor(t, hanging, { timeoutMs: 0.5 });
  await assert.rejects(split.fetch('orders'), { name: 'TimeoutError' });
  for (const timeoutMs of [2 ** 31, 1e12]) {
    assert.equal((await clientFor(t, server, { timeoutMs }).fetch('orders')).status, 200);
  }
});

test('any number of waits by one signal leave it with one listener, and then with none', async (t) => {
  const server = await boxFor(t);
  const hanging = await boxFor(t);
  hanging.fail({ kind: 'hang' }, { always: true });
  const code = `
    import { getEventListeners } from 'node:events';
    import { Client } from 'evertoken';
    const [issuer, baseUrl, hanging] = process.argv.slice(1);
    const open = (at = issuer) => new Client('app', 'secret', { issuer: at, baseUrl });
    const waitsOf = (api, signal) =>
      Array.from({ length: 30 }, (_, i) =>
        [() => api.token({ signal }), () => api.authorization({ signal }), () => api.headers('GET', baseUrl, { signal })][i % 3](),
      );
    const counts = [];
    const count = (signal) => counts.push(getEventListeners(signal, 'abort').length);
    // Waits that end with a token.
    const kept = new AbortController();
    const api = open();
    await Promise.all([...waitsOf(api, kept.signal), ...waitsOf(open(), kept.signal)]);
    count(kept.signal);
    // Aborted ones end with the reason, all of them, and later ones at once.
    const { signal } = kept;
    const late = [open(hanging), open(hanging)].flatMap((api) => waitsOf(api, signal));
    count(signal);
    const reason = new Error('no more');
    kept.abort(reason);
    count(signal);
    const outcomes = await Promise.allSettled([...late, api.token({ signal })]);
    counts.push(outcomes.filter((outcome) => outcome.reason === reason).length);
    console.log(counts.join(' '));
  `;
  const { status, stdout, stderr } = await program(code, { args: [server.issuer, server.apiUrl, hanging.issuer] });
  assert.deepEqual([status, stdout, stderr], [0, '0 1 0 61\n', '']);
});

test('a refused token is renewed, once', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const token = await api.token();
  server.revoke(token);
  api.invalidate(token);
  await until('there is another', () => ![null, token].includes(api.currentToken()));
  api.invalidate(token);
  api.invalidate('some other token');
  assert.equal(server.tokenRequests, 2);
});

test('a rotated secret is taken, and another app id drops the token', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const token = await api.token();
  server.register(APP_ID, 'new');
  api.setCredentials(APP_ID, 'new');
  assert.equal(api.currentToken(), token, 'it serves on');
  server.register('other', 's');
  api.setCredentials('other', 's');
  assert.equal(api.currentToken(), null);
  assert.ok(server.accepts(await api.token()));
  assert.throws(() => api.setCredentials('', ''), coded('CONFIGURATION'));
});

test('a function gives the credentials', async (t) => {
  const server = await boxFor(t);
  const kinds = {
    sync: () => ({ appId: APP_ID, appSecret: APP_SECRET }),
    async: async () => ({ appId: APP_ID, appSecret: 'old', nextAppSecret: APP_SECRET }),
  };
  for (const credentials of Object.values(kinds)) {
    const api = new Client({ credentials, issuer: server.issuer });
    t.after(() => api.close());
    assert.ok(server.accepts(await api.token()));
    // For its relatives, too.
    assert.ok(server.accepts(await api.with({ audience: server.audience, scope: 'read' }).token()));
  }
  for (const [credentials, told] of [
    [
      () => {
        throw new RangeError('the vault said s3cret-c4nary');
      },
      /RangeError/,
    ],
    [async () => 's3cret-c4nary', /gave no \{ appId, appSecret \}/],
  ]) {
    const api = new Client({ credentials, issuer: server.issuer, tokenTimeoutMs: 300 });
    t.after(() => api.close());
    await assert.rejects(api.token(), (error) => {
      assert.doesNotMatch(`${error.stack} ${JSON.stringify(error)} ${error.cause?.stack}`, /c4nary/);
      return coded('CREDENTIALS_UNAVAILABLE')(error) && told.test(`${error.message} ${error.cause}`);
    });
  }
});

test('the environment, keys and presets', async (t) => {
  const server = await boxFor(t);
  const set = { ACME_APP_ID: APP_ID, ACME_APP_SECRET: APP_SECRET, ACME_ISSUER: server.issuer, ACME_BASE_URL: server.apiUrl };
  Object.assign(process.env, set);
  t.after(() => {
    for (const name of Object.keys(set)) delete process.env[name];
  });
  const preset = new Preset({ envPrefix: 'ACME', keyPrefix: 'acme_live', issuer: 'https://unreachable.invalid/' });
  for (const api of [
    Client.fromEnv({ prefix: 'ACME' }),
    new Preset({ envPrefix: 'ACME' }).fromEnv(),
    preset.client(APP_ID, APP_SECRET, { tokenUrl: server.tokenUrl }),
  ]) {
    assert.ok(server.accepts(await api.token()));
    await api.close();
  }
  assert.throws(() => Client.fromEnv(), /EVERTOKEN_APP_ID is not set/);
  assert.throws(() => preset.fromApiKey('acme_test_x'), /acme_live/);
  assert.throws(() => Client.fromApiKey('acme_live_typo', { issuer: server.issuer }), coded('CONFIGURATION'));
  assert.throws(() => new Preset({ isuer: 'x' }), /isuer/);
});

test('the environment goes before a preset, and options before both', async (t) => {
  const server = await boxFor(t);
  const other = await boxFor(t);
  const issuer = 'https://unreachable.invalid/';
  const preset = new Preset({ envPrefix: 'ACME', issuer, audience: 'preset', scope: 'preset', baseUrl: other.apiUrl });
  const names = ['APP_ID', 'APP_SECRET', 'ISSUER', 'TOKEN_URL', 'AUDIENCE', 'SCOPE', 'BASE_URL'].map((name) => `ACME_${name}`);
  const before = { ...process.env };
  t.after(() => {
    for (const name of names) delete process.env[name];
    Object.assign(process.env, before);
  });
  const asked = async (env, options) => {
    for (const name of names) delete process.env[name];
    Object.assign(process.env, { ACME_APP_ID: APP_ID, ACME_APP_SECRET: APP_SECRET }, env);
    const api = preset.fromEnv(options);
    t.after(() => api.close());
    const { aud, scope } = JSON.parse(Buffer.from((await api.token()).split('.')[1], 'base64url'));
    // Where the token may go is told without a call.
    const { origin } = new URL(
      await api.headers('GET', server.apiUrl).then(
        () => server.apiUrl,
        () => other.apiUrl,
      ),
    );
    return [aud, scope, origin];
  };
  const [here, there] = [server, other].map(({ apiUrl }) => new URL(apiUrl).origin);
  const env = { ACME_ISSUER: server.issuer, ACME_AUDIENCE: 'env', ACME_SCOPE: 'env', ACME_BASE_URL: server.apiUrl };
  assert.deepEqual(await asked(env), ['env', 'env', here]);
  assert.deepEqual(await asked({ ACME_TOKEN_URL: server.tokenUrl }), ['preset', 'preset', there]);
  assert.deepEqual(await asked(env, { audience: 'own', scope: undefined, baseUrl: other.apiUrl }), ['own', 'env', there]);
  const wrong = { ...env, ACME_ISSUER: issuer, ACME_AUDIENCE: '' };
  assert.deepEqual(await asked(wrong, { tokenUrl: server.tokenUrl, audience: undefined }), ['preset', 'env', here]);
  assert.throws(() => preset.fromEnv(null), coded('CONFIGURATION'));
});

test('relatives have tokens of their own, and end with the family', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const other = api.with({ audience: 'https://other.example', scope: 'read write' });
  assert.equal(api.with({ audience: 'https://other.example', scope: ['read', 'write'] }), other);
  assert.notEqual(await other.token(), await api.token());
  assert.equal(server.tokenRequests, 2);
  await api.close();
  assert.equal(other.currentToken(), null);
  await assert.rejects(other.token(), coded('CLOSED'));
});

test('events are told to listeners and iterators, and never as an error', async (t) => {
  const server = await boxFor(t);
  const lines = [];
  const logger = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [level, (text) => lines.push(`${level} ${text}`)]),
  );
  const api = clientFor(t, server, { logger });
  const seen = [];
  const listener = (event) => seen.push(event.kind);
  api.on('renewed', listener).on('renewalFailed', listener).on('invalidated', listener).on('closed', listener);
  const events = api.events();
  server.fail({ kind: 'status', status: 500 });
  const token = await api.token();
  api.invalidate(token);
  await until('it is renewed', () => seen.filter((kind) => kind === 'renewed').length === 2);
  api.off('renewed', listener);
  await api.close();
  assert.deepEqual(seen, ['renewalFailed', 'renewed', 'invalidated', 'renewed', 'closed']);
  const read = [];
  for await (const event of events) read.push(event.kind);
  assert.deepEqual(read, seen);
  assert.deepEqual(await api.events().next(), { done: true, value: undefined });
  for (const line of [
    /^error evertoken: renewal failed; no token is held: the authorization server failed/,
    /^debug evertoken: token renewed; it lives 3600 s$/,
    /^info evertoken: token refused/,
  ]) {
    assert.ok(
      lines.some((text) => line.test(text)),
      `${line} in ${lines}`,
    );
  }
});

test('a slow reader of events is told how many it missed', async () => {
  const { Events, Listeners } = await import('../dist/events.js');
  const listeners = new Listeners(() => {});
  const events = new Events(listeners);
  for (let i = 0; i < 70; i++) listeners.emit({ kind: 'invalidated' });
  assert.deepEqual((await events.next()).value, { kind: 'missed', missed: 6 });
  assert.deepEqual((await events.next()).value, { kind: 'invalidated' });
  listeners.emit({ kind: 'closed' });
  for (let i = 0; i < 63; i++) await events.next();
  assert.deepEqual((await events.next()).value, { kind: 'closed' });
  assert.equal((await events.next()).done, true);
});

test('a prefetch is awaited or not', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  await api.prefetch();
  assert.ok(api.currentToken());
  const wrong = new Client(APP_ID, 'wrong', { issuer: server.issuer });
  t.after(() => wrong.close());
  wrong.prefetch();
  await assert.rejects(wrong.prefetch(), coded('CREDENTIALS_REJECTED'));
});

test('close revokes if it was told to, and warns if it could not', async (t) => {
  const server = await boxFor(t);
  const api = server.client({ revokeOnShutdown: true });
  const token = await api.token();
  await api.close();
  assert.equal(server.accepts(token), false);
  const other = server.client({ revokeOnShutdown: true });
  await other.token();
  server.fail({ kind: 'status', status: 403 }, { at: 'revocation' });
  const warned = once(process, 'warning');
  await other.close();
  assert.match((await warned)[0].message, /^evertoken: 1 of 1 tokens could not be revoked/);
  await assert.rejects(other.token(), coded('CLOSED'));
});

test('await using keeps the error of its block, and warns of a revocation that failed', async (t) => {
  const server = await boxFor(t);
  const lines = [];
  const warn = async (text) => {
    lines.push(text);
    throw new Error('the log');
  };
  for (const logger of [{ warn }, undefined]) {
    const api = server.client({ revokeOnShutdown: true, logger });
    await api.token();
    server.fail({ kind: 'status', status: 403 }, { at: 'revocation' });
    const warned = once(process, 'warning');
    // What `await using` does; the syntax is newer than Node 20.
    await assert.rejects(
      async () => {
        try {
          throw new RangeError('of the block');
        } finally {
          await api[Symbol.asyncDispose]();
        }
      },
      { name: 'RangeError', message: 'of the block' },
    );
    // The log that fails is told of, once.
    const [{ message }] = await warned;
    const text = logger ? lines.at(-1) : message;
    if (logger) assert.match(message, /`logger.warn` failed/);
    assert.match(text, /^evertoken: 1 of 1 tokens could not be revoked/);
    await assert.rejects(api.token(), coded('CLOSED'));
  }
});

test('a fixed client asks nobody', async (t) => {
  const server = await boxFor(t);
  const api = fixedClient('t0ken', server.apiUrl);
  t.after(() => api.close());
  assert.equal(await api.token(), 't0ken');
  assert.equal((await api.fetch('orders')).status, 401);
  assert.equal(api.currentToken(), 't0ken');
  assert.equal(server.tokenRequests, 0);
  assert.throws(() => fixedClient('no token', server.apiUrl), coded('CONFIGURATION'));
});

test('a subclass, disposed of', async (t) => {
  const server = await boxFor(t);
  class Acme extends Client {
    constructor(appId, appSecret) {
      super(appId, appSecret, { issuer: server.issuer });
    }
  }
  const api = new Acme(APP_ID, APP_SECRET);
  assert.ok(server.accepts(await api.token()));
  // What `await using` calls, which Node.js 20 does not know by itself.
  await api[Symbol.asyncDispose]();
  await assert.rejects(api.token(), coded('CLOSED'));
});
