// Values of another realm, as a test runner or a plugin host makes them, are what they are here.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { createContext, runInContext } from 'node:vm';

import { Client } from 'evertoken';

import { boxFor, clientFor, FOLDER } from './support.mjs';

/** A URL that is none of the platform's class. */
class ForeignUrl extends URL {}
Object.setPrototypeOf(ForeignUrl.prototype, Object.create(Object.prototype, Object.getOwnPropertyDescriptors(URL.prototype)));

test('options may be of another realm', async (t) => {
  const server = await boxFor(t);
  const realm = createContext({ pem: [...Buffer.from(rootCertificates[0])], issuer: server.issuer });
  const options = runInContext(
    `({
      issuer, ca: [new Uint8Array(pem)], scope: ['a', 'b'], tokenParams: { x: 'y' }, renewal: { renewAt: 0.8 },
      resource: ['https://api.example'], logger: { debug() {} },
    })`,
    realm,
  );
  assert.ok(!(options.ca[0] instanceof Uint8Array));
  const baseUrl = new ForeignUrl(server.apiUrl);
  assert.ok(!(baseUrl instanceof URL));
  const api = clientFor(t, server, { ...options, baseUrl, trustedOrigins: [baseUrl] });
  assert.equal((await api.fetch(new ForeignUrl('orders', server.apiUrl))).status, 200);

  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const bytesOf = runInContext('(bytes) => new Uint8Array(bytes)', realm);
  for (const form of [
    { type: 'pkcs8', format: 'der' },
    { type: 'pkcs8', format: 'pem' },
  ]) {
    const key = bytesOf([...Buffer.from(privateKey.export(form))]);
    new Client('app', '', { issuer: server.issuer, clientAuth: { method: 'private_key_jwt', key }, dpop: { key } });
  }
});

test('the package may be loaded into a realm of its own', async (t) => {
  const server = await boxFor(t);
  const names = ['AbortSignal', 'Buffer', 'Headers', 'Request', 'URL', 'clearInterval', 'clearTimeout', 'fetch', 'process'];
  const timers = { setInterval, setTimeout };
  const realm = createContext({ ...Object.fromEntries(names.map((name) => [name, globalThis[name]])), ...timers });
  const loaded = new Map();
  const load = (file) => {
    const known = loaded.get(file);
    if (known) return known.exports;
    const module = { exports: {} };
    loaded.set(file, module);
    const theirs = createRequire(file);
    const require = (name) => (/^\.\/.*\.js$/.test(name) ? load(theirs.resolve(name)) : theirs(name));
    const code = `(function (module, exports, require, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`;
    runInContext(code, realm)(module, module.exports, require, file, dirname(file));
    return module.exports;
  };
  const theirs = load(join(FOLDER, 'dist/index.js'));
  assert.notEqual(theirs.Client, Client);
  assert.throws(
    () => new theirs.Client('app', 'secret', {}),
    (error) => error instanceof theirs.EvertokenError && error.code === 'ERR_EVERTOKEN_CONFIGURATION',
  );
  const api = new theirs.Client('app', 'secret', { issuer: server.issuer, baseUrl: new URL(server.apiUrl) });
  t.after(() => api.close());
  server.revoke(await api.token());
  const answer = await api.fetch(new URL('orders', server.apiUrl), { method: 'POST', body: new Uint8Array([1]) });
  assert.equal(answer.status, 200);
});
