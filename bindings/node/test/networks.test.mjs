// Certificates of one's own, mutual TLS and a proxy, for token requests; and credentials in a file.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Client } from 'evertoken';
import { generate } from 'selfsigned';

import { boxFor, clientFor, IS_WINDOWS, program, startProvider, until } from './support.mjs';

const certificate = (name) =>
  generate([{ name: 'commonName', value: name }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: name }] }],
  });

test('TLS with an authority of ones own, and with a certificate for the client', async (t) => {
  const [server, own] = [await certificate('localhost'), await certificate('client.test')];
  const folder = mkdtempSync(join(tmpdir(), 'evertoken-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const TLS = JSON.stringify({ key: server.private, cert: server.cert, ca: server.cert, own: own.cert });
  const { child, issuer, basic } = await startProvider({ TLS });
  t.after(() => child.stdin.end());

  const trusting = new Client(basic.client_id, basic.client_secret, { issuer, ca: server.cert });
  t.after(() => trusting.close());
  assert.ok(await trusting.token());

  const mutual = { issuer, ca: [Buffer.from(server.cert)], clientAuth: 'self_signed_tls_client_auth' };
  for (const shown of [{ cert: own.cert, key: own.private }, { cert: Buffer.from(`${own.cert}\n${own.private}`) }]) {
    const api = new Client('shop-self', '', { ...mutual, ...shown });
    t.after(() => api.close());
    assert.ok(await api.token());
  }
  assert.throws(() => new Client('shop-self', '', mutual), /certificate/);

  // By the environment alone.
  const file = join(folder, 'ca.pem');
  writeFileSync(file, server.cert);
  const code = `
    import { Client } from 'evertoken';
    const { issuer, id, secret } = JSON.parse(process.argv[1]);
    const api = new Client(id, secret, { issuer, tokenTimeoutMs: 3_000 });
    console.log(await api.token().then(() => 'a token', (error) => error.code));
  `;
  const args = [JSON.stringify({ issuer, id: basic.client_id, secret: basic.client_secret })];
  assert.equal((await program(code, { args, env: { NODE_EXTRA_CA_CERTS: file } })).stdout, 'a token\n');
  assert.equal((await program(code, { args })).stdout, 'ERR_EVERTOKEN_AUTH_SERVER_UNAVAILABLE\n');
});

test('token requests go through the proxy, but for plain http on loopback', async (t) => {
  const server = await boxFor(t);
  const tokenUrl = 'http://as.example/token';
  const seen = [];
  const proxy = createServer((incoming, answer) => {
    seen.push(`${incoming.method} ${incoming.url}`);
    const { method, headers } = incoming;
    incoming.pipe(
      request(server.tokenUrl, { method, headers }, (from) => from.pipe(answer.writeHead(from.statusCode, from.headers))),
    );
  }).listen(0, '127.0.0.1');
  t.after(() => proxy.close());
  await once(proxy, 'listening');
  const through = { proxy: `http://127.0.0.1:${proxy.address().port}` };
  const api = new Client('app', 'secret', { tokenUrl, allowInsecureHttp: true, ...through });
  t.after(() => api.close());
  assert.ok(server.accepts(await api.token()));
  assert.deepEqual(seen, [`POST ${tokenUrl}`]);
  const local = new Client('app', 'secret', { tokenUrl: server.tokenUrl, ...through });
  t.after(() => local.close());
  assert.ok(server.accepts(await local.token()));
  assert.equal(seen.length, 1);
});

test('credentials are read from a file, and again when it changes', async (t) => {
  const server = await boxFor(t);
  const folder = mkdtempSync(join(tmpdir(), 'evertoken-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const credentialsFile = join(folder, 'credentials.json');
  const write = (secret) =>
    writeFileSync(credentialsFile, JSON.stringify({ app_id: 'app', app_secret: secret }), { mode: 0o600 });
  write('secret');
  const api = server.client({ credentialsFile });
  t.after(() => api.close());
  const token = await api.token();
  server.register('app', 'rotated');
  let seen = false;
  api.on('credentialsRotated', () => (seen = true));
  write('rotated');
  await until('the change is seen', () => seen);
  api.invalidate(token);
  await until('it is renewed', () => ![null, token].includes(api.currentToken()));
  assert.equal(api.status().lastError, null);
});

const MINE = { mode: 0o600 };

test('credentials are in a file each, and waited for', async (t) => {
  const server = await boxFor(t);
  const folder = mkdtempSync(join(tmpdir(), 'evertoken-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [appIdFile, appSecretFile] = ['client_id', 'client_secret'].map((name) => join(folder, name));
  const each = clientFor(t, server, { appIdFile, appSecretFile, tokenTimeoutMs: 100 });
  const whole = clientFor(t, server, { credentialsDirectory: folder });
  await assert.rejects(
    each.token(),
    (error) => error.code === 'ERR_EVERTOKEN_CREDENTIALS_UNAVAILABLE' && error.message.includes(appIdFile),
  );
  writeFileSync(appIdFile, 'app\n', MINE);
  writeFileSync(appSecretFile, 'secret\r\n', MINE);
  await until('the files are found', () => each.currentToken() !== null && whole.currentToken() !== null);
  chmodSync(appSecretFile, 0o644);
  const options = { issuer: server.issuer, appIdFile, appSecretFile };
  if (!IS_WINDOWS) assert.throws(() => new Client(options), /use `fileReadableByOthers`/);
  await new Client({ ...options, fileReadableByOthers: true }).close();
  for (const [wrong, said] of [
    [{ appIdFile }, '`appIdFile` needs `appSecretFile`'],
    [{ appSecretFile }, '`appSecretFile` is set without `appIdFile`'],
    [{ credentialsFile: appIdFile, nextAppSecretFile: appIdFile }, '`nextAppSecretFile` is set without `appIdFile`'],
    [{ credentialsFile: appIdFile, credentialsDirectory: folder }, '`credentialsFile` and `credentialsDirectory` are set'],
  ])
    assert.throws(
      () => new Client({ issuer: server.issuer, ...wrong }),
      (error) => error.message.includes(said),
      said,
    );
});

test('the environment says all that a deployment needs', async (t) => {
  const server = await boxFor(t);
  const folder = mkdtempSync(join(tmpdir(), 'evertoken-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = (name, text) => {
    writeFileSync(join(folder, name), text, MINE);
    return join(folder, name);
  };
  const env = {
    ACME_APP_ID_FILE: file('client_id', 'app'),
    ACME_APP_SECRET_FILE: file('client_secret', 'secret'),
    ACME_ISSUER: server.issuer,
    ACME_BASE_URL: ` "${server.apiUrl}"`,
    ACME_CLIENT_AUTH: 'client_secret_post',
    ACME_RESOURCE: 'https://api.example https://two.example',
  };
  const code = `
    import { Client, Preset } from 'evertoken';
    const api = process.argv[1] ? new Preset(JSON.parse(process.argv[1])).fromEnv() : Client.fromEnv({ prefix: 'ACME' });
    const { status } = await api.fetch('orders');
    console.log(status, api.toJSON().server);
    await api.close();
  `;
  const preset = {
    envPrefix: 'ACME',
    tokenUrl: 'https://as.example/token',
    baseUrl: 'https://api.example',
    resource: 'https://other.example',
  };
  for (const args of [[], [JSON.stringify(preset)]]) {
    const { stdout, stderr } = await program(code, { env, args });
    assert.equal(stdout, `200 ${new URL(server.issuer).origin}\n`, stderr);
    assert.match(stderr, /^$/);
  }
  assert.equal(server.tokenRequests, 2);
  for (const [variable, value, said] of [
    ['CLIENT_AUTH', 'h1dden', /ACME_CLIENT_AUTH is not known/],
    ['PROXY', 'h1dden', /ACME_PROXY is not a URL/],
    ['ROOT_CERTIFICATE', '/h1dden', /ACME_ROOT_CERTIFICATE names a file that cannot be read/],
    ['BASE_URL', 'h1dden', /ACME_BASE_URL/],
    ['ISSUER', '', /did you mean that by ACME_ISUER/],
  ]) {
    const { stderr } = await program(code, { env: { ...env, ACME_ISUER: 'h1dden', [`ACME_${variable}`]: value } });
    assert.match(stderr, said);
    assert.doesNotMatch(stderr, /h1dden/);
  }
});
