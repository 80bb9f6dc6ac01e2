// `npm pack`: what it makes works in another project, or it says why it makes nothing.
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { FOLDER, folderFor, installInto, npm, program } from './support.mjs';

const { PLATFORMS, platformName } = createRequire(import.meta.url)('../dist/platform.js');
const ADDON = `dist/evertoken.${platformName()}.node`;
const CODE = `
  import { AuthServer } from 'evertoken/testing';
  const server = await AuthServer.start();
  console.log((await server.client().fetch('orders')).status);
  await server.stop();
`;

test('another project uses the package as it is packed, and as it lies here', async (t) => {
  const readme = readFileSync(join(FOLDER, 'README.md'), 'utf8');
  for (const [command, install] of [
    [/^npm pack .*\nnpm install \S+evertoken-0\.1\.0\.tgz/m, installInto],
    [
      /npm install \S+bindings\/node`/,
      (folder) => npm(['install', '--offline', '--no-audit', '--no-fund', '--loglevel=error', FOLDER], folder),
    ],
  ]) {
    assert.match(readme, command);
    const folder = folderFor(t);
    install(folder);
    const ended = await program(CODE, { cwd: folder });
    assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, '200\n', '']);
  }
});

describe('npm pack', { concurrency: 2 }, () => {
  /** What it says in a copy of this folder that `change` has made something of. */
  function pack(t, change, command = 'pack') {
    const copy = folderFor(t);
    for (const name of [
      'lib',
      'dist',
      'scripts',
      ...readdirSync(FOLDER).filter((name) => /^(package.json|LICENSE-.*)$/.test(name)),
    ])
      cpSync(join(FOLDER, name), join(copy, name), { recursive: true });
    change(copy);
    try {
      return npm([command, '--dry-run', '--json'], copy, 'pipe');
    } catch (error) {
      return error.stderr;
    }
  }
  const release = (copy, platforms = PLATFORMS) => {
    rmSync(join(copy, ADDON));
    const manifest = JSON.parse(readFileSync(join(copy, 'package.json')));
    manifest.optionalDependencies = Object.fromEntries(platforms.map((name) => [`evertoken-${name}`, manifest.version]));
    writeFileSync(join(copy, 'package.json'), JSON.stringify(manifest));
  };

  test('takes a package with the native half for this machine', (t) => {
    const [{ files }] = Object.values(JSON.parse(pack(t, () => {})));
    assert.deepEqual(
      files.map(({ path }) => path).filter((path) => path.endsWith('.node')),
      [ADDON],
    );
  });

  test('takes a package that names those of all platforms', (t) => {
    const [{ files }] = Object.values(JSON.parse(pack(t, release)));
    assert.ok(files.every(({ path }) => !path.endsWith('.node')));
  });

  const refusals = {
    'what is not compiled': [(copy) => rmSync(join(copy, 'dist'), { recursive: true }), /run `npm run compile` first/],
    'a module that is not compiled': [(copy) => writeFileSync(join(copy, 'lib/more.ts'), ''), /dist\/more\.js is missing/],
    'what has no licences': [(copy) => rmSync(join(copy, 'LICENSE-MIT')), /LICENSE-MIT is missing; run `npm run compile` first/],
    'what has no native half': [(copy) => rmSync(join(copy, ADDON)), /it has no native half; run `npm run native` first/],
    'a native half that is damaged': [
      (copy) => writeFileSync(join(copy, ADDON), '?'),
      /does not work here: could not load .* damaged/,
    ],
    'a release that lacks a platform': [
      (copy) => release(copy, PLATFORMS.slice(1)),
      new RegExp(`lack evertoken-${PLATFORMS[0]} at`),
    ],
    'a release with a native half of its own': [
      (copy) => {
        release(copy);
        writeFileSync(join(copy, ADDON), '?');
      },
      /is for one platform, and this package is for all; remove it/,
    ],
  };
  for (const [name, [change, says]] of Object.entries(refusals)) {
    test(`refuses ${name}`, (t) => assert.match(pack(t, change), says));
  }
  test('refuses to publish what works on one platform', (t) =>
    assert.match(
      pack(t, () => {}, 'publish'),
      /would work on one platform alone/,
    ));
});
