// Every fault of the box, with one outcome each: the list of `tests/faults.rs` and `tests/outages.rs`.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { AuthServer } from 'evertoken/testing';

import { boxFor, clientFor, LIMIT_MS, settlesAtOnce, until } from './support.mjs';

const SOON_MS = 1_000;
/** The limit of a request: short if it is what ends it, else so long that a busy machine keeps it. */
const limitMs = ({ kind }) => ({ hang: 3 * SOON_MS, endlessBody: 10 * SOON_MS })[kind] ?? LIMIT_MS;
const code = (error) => error.code.replace('ERR_EVERTOKEN_', '');
const oauth = (status, error) => ({ kind: 'oauth', status, error });
const answer = (status, body = '', type = 'text/plain') => ({ kind: 'status', status, body, headers: { 'content-type': type } });

/** By name: the fault, and what the error of the attempt is; null where it is none. */
const FAULTS = {
  'status 500': [answer(500, '<h1>oops</h1>'), 'AUTH_SERVER_UNAVAILABLE'],
  'status 403': [answer(403, '<h1>oops</h1>'), 'REQUEST_REFUSED'],
  'status 429': [answer(429, 'slow down'), 'THROTTLED'],
  'Retry-After in seconds': [{ kind: 'retryAfter', status: 429, afterMs: 2_000 }, 'THROTTLED'],
  'Retry-After as a date': [{ kind: 'retryAfterDate', status: 503, afterMs: SOON_MS }, 'AUTH_SERVER_UNAVAILABLE'],
  hang: [{ kind: 'hang' }, 'AUTH_SERVER_UNAVAILABLE'],
  reset: [{ kind: 'reset' }, 'AUTH_SERVER_UNAVAILABLE'],
  close: [{ kind: 'close' }, 'AUTH_SERVER_UNAVAILABLE'],
  'torn body': [{ kind: 'tornBody' }, 'AUTH_SERVER_UNAVAILABLE'],
  'endless body': [{ kind: 'endlessBody' }, 'INVALID_RESPONSE'],
  garbage: [{ kind: 'garbage' }, 'INVALID_RESPONSE'],
  invalid_client: [oauth(401, 'invalid_client'), 'CREDENTIALS_REJECTED'],
  invalid_scope: [oauth(400, 'invalid_scope'), 'REQUEST_REFUSED'],
  '503 with an OAuth code': [oauth(503, 'invalid_client'), 'AUTH_SERVER_UNAVAILABLE'],
  latency: [{ kind: 'latency', afterMs: SOON_MS / 4 }, null],
};

/** Further ways to fail that last, of `tests/outages.rs`. */
const OUTAGES = {
  ...FAULTS,
  refused: ['outage', 'AUTH_SERVER_UNAVAILABLE'],
  '502 empty': [answer(502), 'AUTH_SERVER_UNAVAILABLE'],
  'bare 401': [answer(401), 'REQUEST_REFUSED'],
  'unknown code': [oauth(400, 'scope_invalid'), 'REQUEST_REFUSED'],
  '200 with an OAuth error': [oauth(200, 'temporarily_unavailable'), 'AUTH_SERVER_UNAVAILABLE'],
  '200 HTML': [answer(200, '<h1>log in</h1>', 'text/html'), 'INVALID_RESPONSE'],
  redirect: [answer(302, '', 'text/html'), 'INVALID_RESPONSE'],
  'a token that is none': [
    answer(200, '{"access_token":"a\\r\\nb","token_type":"Bearer"}', 'application/json'),
    'INVALID_RESPONSE',
  ],
  'another token type': [answer(200, '{"access_token":"abc","token_type":"mac"}', 'application/json'), 'INVALID_RESPONSE'],
};

function begin(server, fault) {
  if (fault === 'outage') server.outage();
  else server.fail(fault, { always: true });
}

for (const held of [true, false]) {
  describe(`at the token endpoint, ${held ? 'with' : 'without'} a token held`, { concurrency: true }, () => {
    for (const [name, [fault, expected]] of Object.entries(FAULTS)) {
      test(name, async (t) => {
        const server = await boxFor(t);
        const renewal = { requestTimeoutMs: limitMs(fault) };
        // If it is not set, a refused secret is sent once more in another way.
        const clientAuth = 'client_secret_basic';
        const api = clientFor(t, server, { tokenUrl: server.tokenUrl, clientAuth, renewal });
        const failures = [];
        api.on('renewalFailed', ({ error }) => failures.push(error));
        const before = held ? await api.token() : null;
        server.fail(fault);
        if (before) api.invalidate(before);
        else api.prefetch();
        if (expected) {
          await until('it fails', () => failures.length > 0);
          const [error] = failures;
          assert.deepEqual([code(error), error.server], [expected, server.tokenUrl]);
          if (before) {
            assert.ok(await settlesAtOnce(api.token()), 'a read waits');
            // On a busy machine the next attempt may have succeeded by now.
            assert.ok(server.issuedTokens.includes(api.currentToken()));
            assert.equal((await api.fetch('orders')).status, 200);
          }
          if (!error.retryable) {
            assert.equal(code(api.status().lastError), expected);
            assert.equal(
              await api.token().then(
                () => true,
                () => false,
              ),
              held,
              'a token serves on, and else the refusal is told at once',
            );
            server.register(AuthServer.APP_ID, 'new');
            api.setCredentials(AuthServer.APP_ID, 'new');
          }
        }
        await until(
          'there is a new token',
          () => ![null, before].includes(api.currentToken()) && api.status().lastError === null,
        );
        assert.equal((await api.fetch('orders')).status, 200);
        assert.equal(server.tokenRequests, 1 + Number(held) + Number(expected !== null));
        assert.equal(server.maxInFlight, 1);
      });
    }
  });
}

describe('outages in the last part of a valid token', { concurrency: true }, () => {
  for (const [name, [fault, expected]] of Object.entries(OUTAGES)) {
    if (expected === null) continue;
    test(name, async (t) => {
      // Renewed so late that a busy machine has begun the outage by then.
      const server = await boxFor(t, { lifetimeMs: 10_000 });
      const api = clientFor(t, server, { renewal: { renewAt: 0.75, jitter: 0 } });
      const token = await api.token();
      begin(server, fault);
      const end = performance.now() + api.status().expiresInMs - 150;
      let requests = 0;
      for (;;) {
        const [seen, isRead] = [server.tokenRequests, await settlesAtOnce(api.token())];
        const [held, isAccepted] = [api.currentToken(), server.accepts(token)];
        // Looked at afterwards: a machine that stood still for so long has reached the token's end.
        if (performance.now() >= end) break;
        assert.ok(isRead, 'a read waits');
        assert.equal(held, token);
        assert.ok(isAccepted);
        requests = seen;
        await sleep(20);
      }
      assert.ok(server.maxInFlight <= 1);
      // An attempt over a connection that is closed makes two. A hot loop would make hundreds.
      assert.ok(requests <= 10, `${requests} requests`);
    });
  }
});

describe('outages without a token', { concurrency: true }, () => {
  for (const [name, [fault, expected]] of Object.entries(OUTAGES)) {
    if (expected === null) continue;
    test(name, async (t) => {
      const server = await boxFor(t);
      begin(server, fault);
      const api = clientFor(t, server, { tokenUrl: server.tokenUrl, tokenTimeoutMs: 2_500 });
      if (name !== 'hang') {
        // Whoever comes then is told of it, however short the wait.
        api.prefetch();
        await until('it fails', () => api.status().consecutiveFailures > 0);
      }
      const error = await api.token().then(assert.fail, (error) => error);
      assert.equal(code(error), name === 'hang' ? 'TIMEOUT' : expected);
      assert.equal(error.server, server.tokenUrl);
      assert.match(error.message, /mend|tried again in/);
    });
  }
});

describe('at the API, where a fault says nothing about the token', { concurrency: true }, () => {
  const FAILS = 'fails';
  const SPOILT = 'spoilt';
  for (const [name, fault, expected, tokens] of [
    ['status 500', answer(500), 500, 1],
    ['status 403', answer(403), 403, 1],
    ['Retry-After in seconds', { kind: 'retryAfter', status: 429, afterMs: 1_000 }, 429, 1],
    ['Retry-After as a date', { kind: 'retryAfterDate', status: 503, afterMs: 1_000 }, 503, 1],
    ['hang', { kind: 'hang' }, FAILS, 1],
    ['reset', { kind: 'reset' }, FAILS, 1],
    ['close', { kind: 'close' }, FAILS, 1],
    ['torn body', { kind: 'tornBody' }, SPOILT, 1],
    ['endless body', { kind: 'endlessBody' }, SPOILT, 1],
    ['garbage', { kind: 'garbage' }, SPOILT, 1],
    ['invalid_token', oauth(401, 'invalid_token'), 200, 2],
    ['latency', { kind: 'latency', afterMs: SOON_MS / 4 }, 200, 1],
  ]) {
    test(name, async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server);
      await api.prefetch();
      server.fail(fault, { at: 'api' });
      const limit = AbortSignal.timeout(limitMs(fault));
      const call = api.fetch('orders', { signal: limit });
      if (expected === FAILS) await assert.rejects(call);
      else if (expected === SPOILT) await assert.rejects((await call).json());
      else assert.equal((await call).status, expected);
      assert.equal((await api.fetch('orders')).status, 200);
      assert.equal(server.tokenRequests, tokens);
      assert.equal(api.status().lastError, null);
    });
  }
});

describe('at the revocation endpoint', { concurrency: true }, () => {
  for (const [name, fault, fails, requests] of [
    ['status 500', answer(500), true, 1],
    ['status 403', answer(403), true, 1],
    ['Retry-After in seconds', { kind: 'retryAfter', status: 503, afterMs: 1_000 }, false, 2],
    ['Retry-After as a date', { kind: 'retryAfterDate', status: 503, afterMs: 1_000 }, false, 2],
    ['hang', { kind: 'hang' }, true, 1],
    ['reset', { kind: 'reset' }, true, 1],
    ['close', { kind: 'close' }, true, 1],
    ['torn body', { kind: 'tornBody' }, true, 1],
    ['endless body', { kind: 'endlessBody' }, true, 1],
    ['garbage', { kind: 'garbage' }, false, 1],
    ['unsupported_token_type', oauth(400, 'unsupported_token_type'), true, 1],
    ['latency', { kind: 'latency', afterMs: SOON_MS / 4 }, false, 1],
  ]) {
    test(name, async (t) => {
      const server = await boxFor(t);
      const warnings = [];
      const warn = (text) => text.includes('could not be revoked') && warnings.push(text);
      const api = server.client({ revokeOnShutdown: true, tokenTimeoutMs: 10_000, logger: { warn } });
      const token = await api.token();
      server.fail(fault, { at: 'revocation' });
      await api.close();
      assert.equal(warnings.length, fails ? 1 : 0);
      assert.ok(warnings.every((text) => text.includes(server.issuer)));
      assert.equal(server.revocations, requests);
      // What the body of a 200 says is no matter (RFC 7009 2.2).
      assert.equal(server.accepts(token), fails || name === 'garbage');
      await assert.rejects(api.token(), { code: 'ERR_EVERTOKEN_CLOSED' });
    });
  }
});
