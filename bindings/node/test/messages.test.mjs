// Messages speak the caller's language: what one names can be written as it stands. `bindings/shared` reads all of them in the
// crate's source; here is what comes out, by every way that a text takes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';

import { Client, Preset } from 'evertoken';

import { boxFor, clientFor, FOLDER, IS_WINDOWS, program, stayAwake, until } from './support.mjs';

/** Words of the wire, which are the same in every language. */
const WIRE = ['expires_in', 'private_key_jwt'];

/** Fails where a text names what nobody can write in JavaScript. */
function assertSpelled(text) {
  for (const [, name] of text.matchAll(/`([^`]*)`/g)) {
    const words = name.match(/\w+(::\w+)*/g) ?? [];
    for (const word of words) {
      const isValue = name.includes(`'${word}'`) || WIRE.includes(word);
      assert.ok(isValue || !/[a-z]_[a-z]|::/.test(word), `\`${name}\` in: ${text}`);
    }
  }
  assert.doesNotMatch(text.replace(/`[^`]*`/g, ''), /\b(token_url|base_url|trusted_origin|root_certificate|renew_at)\b/);
}

const issuer = 'https://as.example';
const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const own = { method: 'private_key_jwt', key: keys.privateKey };
const secretJwk = JSON.stringify({ kty: 'oct', k: 'c2VjcmV0' });

/** Mistakes, and what their messages name. */
const MISTAKES = [
  [{}, '`issuer` or `tokenUrl`'],
  [{ issuer: 'as.example' }, '`issuer` is not a URL'],
  [{ issuer: 'https://as.example/?q' }, '`issuer` has a query'],
  [
    { tokenUrl: 'http://as.example/token' },
    '`tokenUrl` is plain http and not loopback: use https (or opt out with `allowInsecureHttp`)',
  ],
  [{ tokenUrl: 'https://u:p@as.example/token' }, '`tokenUrl` holds user information'],
  [{ issuer, baseUrl: 'relative' }, '`baseUrl`'],
  [{ issuer, baseUrl: 'http://api.example/' }, '`baseUrl`'],
  [{ issuer, trustedOrigins: ['ftp://api.example/'] }, '`trustedOrigins` is not an http(s) URL'],
  [{ issuer, audience: '' }, '`audience` is empty'],
  [{ issuer, scope: 'a"b' }, '`scope` "a\\"b" has a character'],
  [{ issuer, resource: 'https://a.example/#b' }, '`resource` "https://a.example/#b"'],
  [{ issuer, tokenParams: { scope: 'x' } }, '`tokenParams` cannot set "scope"'],
  [{ issuer, tokenParams: { client_assertion: 'x' } }, 'set `clientAuth` instead'],
  [{ issuer, tokenParams: { '': 'x' } }, '`tokenParams` cannot set ""'],
  [{ issuer, renewal: { renewAt: 2 } }, '`renewal.renewAt` must lie above 0'],
  [{ issuer, renewal: { jitter: 1 } }, '`renewal.jitter` must lie between 0 and `renewal.renewAt`'],
  [{ issuer, renewal: { backoffBaseMs: 0 } }, '`renewal.backoffBaseMs` must be above zero and at most `renewal.backoffCapMs`'],
  [{ issuer, renewal: { requestTimeoutMs: 0 } }, '`renewal.requestTimeoutMs` must be above zero'],
  [{ issuer, ca: 'c4nary' }, '`ca` holds no certificate'],
  [{ issuer, ca: '-----BEGIN CERTIFICATE-----\nc4nary!\n-----END CERTIFICATE-----\n' }, '`ca` is not valid PEM'],
  [{ issuer, cert: 'c4nary' }, '`cert` holds no certificate'],
  [{ issuer, clientAuth: 'tls_client_auth' }, '`clientAuth` is mutual TLS', 'give it one with `cert`'],
  [{ issuer, proxy: 'ftp://proxy:1' }, '`proxy` is no URL of a proxy'],
  [{ issuer, userAgent: 'a\nb' }, '`userAgent` has a character'],
  [
    { tokenUrl: 'https://as.example/token', revokeOnShutdown: true },
    '`revokeOnShutdown` with `tokenUrl` needs a `revocationUrl`',
  ],
  [{ issuer, revocationUrl: 'relative' }, '`revocationUrl` is not a URL'],
  [{ issuer, clientAuth: { ...own, key: secretJwk } }, "give it as app secret, with `clientAuth: 'client_secret_jwt'`"],
  [{ issuer, clientAuth: { ...own, algorithm: 'RS256' } }, 'cannot sign by RS256'],
  [{ issuer, credentialsFile: '/nowhere' }, 'either app id and app secret'],
];

test('a mistake names options as they are written here', () => {
  for (const [options, ...named] of MISTAKES) {
    const error = caught(options);
    assert.equal(error.code, 'ERR_EVERTOKEN_CONFIGURATION');
    for (const text of named) assert.ok(error.message.includes(text), `${text} in: ${error.message}`);
    assertSpelled(`${error.message} ${error.cause ?? ''}`);
  }
});

function caught(options, ...credentials) {
  try {
    new Client(...(credentials.length > 0 ? credentials : ['app', 'secret']), options);
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}

test('what a mistake advises can be done', async (t) => {
  const server = await boxFor(t);
  for (const server_ of [{ issuer: server.issuer }, { tokenUrl: server.tokenUrl }]) {
    const api = new Client('app', 'secret', server_);
    t.after(() => api.close());
    assert.ok(server.accepts(await api.token()));
  }
  const secretless = caught({ issuer }, 'app', '');
  assert.match(secretless.message, /a `clientAuth` that needs none, such as `\{ method: 'private_key_jwt', key \}`/);
  new Client('app', '', { issuer, clientAuth: own });

  const api = new Client('app', 'secret', { issuer });
  await assert.rejects(api.fetch('orders'), /no `baseUrl`; nothing was sent; does not mend by itself: set `baseUrl`/);
  const trusted = new Client('app', 'secret', { issuer, baseUrl: 'https://api.example/' });
  await assert.rejects(trusted.fetch('https://other.example/'), /allow it by name with `trustedOrigins`/);
  assert.throws(() => new Preset({ keyPrefix: 'acme' }).client('app', 'secret'), /`issuer` or `tokenUrl`/);
  assert.throws(() => Client.fromEnv({ prefix: 'NOWHERE' }), /NOWHERE_APP_ID/);
});

test('a file that others can read', { skip: IS_WINDOWS }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'evertoken-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const credentialsFile = join(folder, 'credentials.json');
  writeFileSync(credentialsFile, '{"app_id":"app","app_secret":"secret"}');
  chmodSync(credentialsFile, 0o644);
  assert.throws(() => new Client({ issuer, credentialsFile }), /or use `fileReadableByOthers`/);
  new Client({ issuer, credentialsFile, fileReadableByOthers: true });
});

/** A token endpoint of this answer, which a client then is asked to use. */
async function endpoint(t, answer) {
  const server = createServer((_, response) => answer(response)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}/token`;
}

const refusal = (error, description) => (response) =>
  response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error, error_description: description }));
const granted = (fields) => (response) =>
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ access_token: 'x', ...fields }));

/** What a server may answer, and what the advice names. */
const ANSWERS = [
  [refusal('invalid_scope'), 'check `scope`'],
  [refusal('invalid_target'), 'check `resource` and `audience`'],
  [refusal('unsupported_grant_type'), 'check `tokenUrl`'],
  [refusal('invalid_request'), 'see `audience`, `scope`, `tokenParams`'],
  [refusal('invalid_client'), '(`clientAuth`)'],
  [refusal('invalid_dpop_proof'), '`dpop`'],
  [(response) => response.writeHead(404).end(), 'check `tokenUrl` or `issuer`'],
  [(response) => response.writeHead(308, { location: '/there' }).end(), 'set `tokenUrl` to it'],
  [(response) => response.writeHead(307, { location: '/there' }).end(), 'check `tokenUrl`'],
  [granted({ token_type: 'DPoP', expires_in: 60 }), 'set `dpop`'],
  [refusal('invalid_scope', 'what is `token_url`?'), 'what is `token_url`?', 'check `scope`'],
];

test('so do errors, the status, events and the log', async (t) => {
  stayAwake(t);
  for (const [answer, ...named] of ANSWERS) {
    const lines = [];
    const log = (line) => lines.push(line);
    const logger = { debug: log, info: log, warn: log, error: log };
    const tokenUrl = await endpoint(t, answer);
    const api = new Client('app', 'secret', { tokenUrl, tokenTimeoutMs: 300, logger });
    t.after(() => api.close());
    const events = api.events();
    const error = await api.token().then(assert.fail, (error) => error);
    const { value } = await events.next();
    for (const text of [error.message, api.status().lastError.message, value.error.message]) {
      for (const part of named) assert.ok(text.includes(part), `${part} in: ${text}`);
      // What the server says stays as the server says it.
      assertSpelled(error.description ? text.replace(error.description, '') : text);
    }
    await until('it is logged', () => lines.length > 0);
    for (const part of named) assert.ok(lines[0].includes(part), lines[0]);
  }
});

test('so does the log on standard error', async (t) => {
  const tokenUrl = await endpoint(t, (response) => response.writeHead(404).end());
  const code = `
    import { Client } from 'evertoken';
    const api = new Client('app', 'secret', { tokenUrl: process.argv[1], tokenTimeoutMs: 300 });
    await api.token().catch(() => {});`;
  const { stderr } = await program(code, { args: [tokenUrl], env: { NODE_DEBUG: 'evertoken' } });
  assert.match(stderr, /ERROR renewal failed.*check `tokenUrl` or `issuer`/);
  assertSpelled(stderr);
});

test('so does `check`', async (t) => {
  const tokenUrl = await endpoint(t, (response) => response.writeHead(404).end());
  const run = async (env) => {
    const options = { env: { ...process.env, EVERTOKEN_APP_ID: 'app', EVERTOKEN_APP_SECRET: 'secret', ...env } };
    const bin = spawn(process.execPath, [join(FOLDER, 'dist/bin.js'), 'check'], options);
    return text(bin.stdout);
  };
  const stdout = await run({ EVERTOKEN_TOKEN_URL: tokenUrl });
  assert.match(stdout, /the token endpoint is given by EVERTOKEN_TOKEN_URL/);
  assert.match(stdout, /check EVERTOKEN_TOKEN_URL or EVERTOKEN_ISSUER/);
  assertSpelled(stdout);
  // A server that takes id and secret only as they are.
  let asked = 0;
  const raw = await endpoint(t, (response) =>
    (asked++ === 0 ? refusal('invalid_client') : granted({ token_type: 'Bearer' }))(response),
  );
  const second = await run({ EVERTOKEN_TOKEN_URL: raw, EVERTOKEN_APP_SECRET: 's:+%' });
  assert.match(second, /set `clientAuth: 'client_secret_basic_raw'`/);
  assertSpelled(second);
});

test('a client of the test kit does, too', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server, { dpop: true });
  await assert.rejects(api.authorization(), /use `headers\(method, url\)`/);
});
