// The package as others get it: both kinds of modules, one class of each name; runtimes that it does not run on; the command.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

import * as evertoken from 'evertoken';
import * as testing from 'evertoken/testing';

import { boxFor, FOLDER, npm, program } from './support.mjs';

const require = createRequire(import.meta.url);
/** What Node adds to the names of a CommonJS module. */
const named = (key) => !['default', 'module.exports', '__esModule'].includes(key);
const manifest = require('../package.json');

test('import and require give the same', () => {
  for (const [name, imported] of [
    ['evertoken', evertoken],
    ['evertoken/testing', testing],
  ]) {
    const required = require(name);
    const names = Object.keys(required).filter(named).sort();
    assert.deepEqual(Object.keys(imported).filter(named).sort(), names);
    for (const key of names) assert.equal(imported[key], required[key], key);
  }
  assert.deepEqual(Object.keys(evertoken).filter(named).sort(), [
    'Client',
    'Events',
    'EvertokenError',
    'Preset',
    'axiosInterceptor',
    'undiciInterceptor',
  ]);
});

test('where it cannot run, it says so by name', async () => {
  for (const condition of ['browser', 'edge-light', 'workerd', 'react-native']) {
    for (const name of ['evertoken', 'evertoken/testing']) {
      const code = `await import('${name}').catch((error) => console.log(error.name, error.code));`;
      const { stdout } = await program(code, { flags: [`--conditions=${condition}`] });
      assert.equal(stdout, 'UnsupportedRuntimeError ERR_EVERTOKEN_UNSUPPORTED_RUNTIME\n');
    }
  }
});

test('to be loaded it looks at no socket', { skip: process.platform !== 'linux' }, async () => {
  const code = `
    const { report } = process;
    const { getReport } = report;
    const before = report.excludeNetwork;
    let excluded;
    report.getReport = () => ((excluded = report.excludeNetwork), getReport.call(report));
    await import('evertoken');
    console.log(excluded, report.excludeNetwork === before);
  `;
  assert.equal((await program(code)).stdout, 'true true\n');
});

test('the oldest Node.js is that which has what is used', () => {
  // `AbortSignal.any` came with 20.3, `Symbol.asyncDispose` with 20.4.
  assert.equal(manifest.engines.node, '>=20.4');
  assert.deepEqual(require('../package-lock.json').packages[''].engines, manifest.engines);
  assert.match(readFileSync(join(FOLDER, 'README.md'), 'utf8'), /^Node\.js 20\.4 and newer/m);
});

test('nothing but what is needed is published', () => {
  const packed = npm(['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=error'], FOLDER);
  const [{ files }] = Object.values(JSON.parse(packed));
  const paths = files.map(({ path }) => path);
  const odd = paths.filter(
    (path) => !/^(dist\/([a-z]+\.(d\.)?m?[tj]s|evertoken\.[a-z0-9-]+\.node)|README\.md|LICENSE-[A-Z]+|package\.json)$/.test(path),
  );
  assert.deepEqual(odd, []);
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
    assert.ok(paths.includes(name), name);
    assert.deepEqual(readFileSync(join(FOLDER, name)), readFileSync(join(FOLDER, '../..', name)));
  }
  assert.equal(manifest.dependencies, undefined);
});

test('the lock file names no host', () => {
  for (const lock of ['package-lock.json', 'bench/package-lock.json', 'runtimes/package-lock.json']) {
    assert.doesNotMatch(readFileSync(join(FOLDER, lock), 'utf8'), /"resolved": "(?!\.\.")/);
  }
});

test('`evertoken check` tells whether all is well', async (t) => {
  const server = await boxFor(t);
  const check = (env, args = ['check']) =>
    promisify(execFile)(process.execPath, [join(FOLDER, manifest.bin.evertoken), ...args], {
      env: { ...process.env, ...env },
    }).then(
      ({ stdout }) => [0, stdout],
      ({ code, stdout, stderr }) => [code, stdout + stderr],
    );
  const good = { EVERTOKEN_APP_ID: 'app', EVERTOKEN_APP_SECRET: 'secret', EVERTOKEN_ISSUER: server.issuer };
  const [status, said] = await check(good);
  assert.deepEqual([status, /all is well/.test(said)], [0, true], said);
  const [bad, why] = await check({ ...good, EVERTOKEN_APP_SECRET: 'wr0ng-c4nary' });
  assert.ok(bad === 1 && /invalid_client/.test(why) && !why.includes('c4nary'), why);
  const [missing, what] = await check({ EVERTOKEN_ISSUER: server.issuer });
  assert.ok(missing === 1 && /EVERTOKEN_APP_ID is not set/.test(what), what);
  const acme = Object.fromEntries(Object.entries(good).map(([name, value]) => [name.replace('EVERTOKEN', 'ACME'), value]));
  assert.equal((await check(acme, ['check', '--env-prefix', 'ACME']))[0], 0);
  assert.equal((await check({}, ['chekc']))[0], 2);
  assert.equal((await check({}, ['check', '--nonsense']))[0], 2);
});

test('NODE_DEBUG=evertoken tells what happens, without a secret', async (t) => {
  const server = await boxFor(t);
  const code = `import { Client } from 'evertoken'; await new Client('app', 's3cret-c4nary', { issuer: process.argv[1] }).token();`;
  server.register('app', 's3cret-c4nary');
  const { status, stderr } = await program(code, { args: [server.issuer], env: { NODE_DEBUG: 'evertoken' } });
  assert.equal(status, 0);
  assert.match(stderr, /^EVERTOKEN \d+: DEBUG token renewed .*server=/m);
  assert.doesNotMatch(stderr, /c4nary|eyJ/);
});

test('a key is taken in each of its forms', async (t) => {
  const server = await boxFor(t);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const forms = {
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    buffer: Buffer.from(privateKey.export({ type: 'sec1', format: 'pem' })),
    der: privateKey.export({ type: 'pkcs8', format: 'der' }),
    jwk: privateKey.export({ format: 'jwk' }),
    KeyObject: privateKey,
  };
  const thumbprints = new Set();
  for (const [form, key] of Object.entries(forms)) {
    const api = server.client({ dpop: { key } });
    const { dpop } = await api.headers('GET', server.apiUrl);
    const { jwk } = JSON.parse(Buffer.from(dpop.split('.')[0], 'base64url'));
    thumbprints.add(createHash('sha256').update(`${jwk.x}.${jwk.y}`).digest('hex'));
    await api.close();
    assert.equal(thumbprints.size, 1, form);
  }
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  assert.throws(() => server.client({ dpop: { key: rsa } }), { code: 'ERR_EVERTOKEN_CONFIGURATION' });
});
