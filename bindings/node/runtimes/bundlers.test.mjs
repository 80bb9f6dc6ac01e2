// What the README tells those who bundle, with real bundlers; what is said to those who did not read it; and that tools which
// collect a program's files find the native half.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';

import { nodeFileTrace } from '@vercel/nft';
import { build } from 'esbuild';
import webpack from 'webpack';

import { FOLDER, folderFor, installInto } from '../test/support.mjs';

const README = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const { platformName } = createRequire(import.meta.url)('../dist/platform.js');
const NATIVE = `evertoken.${platformName()}.node`;
/** It is told by the environment where to go. */
const CODE = `
const { Client } = require('evertoken');
const api = Client.fromEnv();
api.fetch('orders').then(({ status }) => console.log(status), (error) => console.log(error.message));
`;
// The box is not bundled: it runs the program, and prints what that printed.
const BOX = `
const { execFileSync } = require('node:child_process');
const { AuthServer } = require('evertoken/testing');
AuthServer.start().then(async (server) => {
  const env = { EVERTOKEN_APP_ID: 'app', EVERTOKEN_APP_SECRET: 'secret', EVERTOKEN_ISSUER: server.issuer, EVERTOKEN_BASE_URL: server.apiUrl };
  require('node:child_process').execFile(process.execPath, [process.argv[2]], { env: { ...process.env, ...env } }, (_, stdout, stderr) => {
    console.log(stdout + stderr);
    server.stop();
  });
});
`;

/** The line of the README that begins with `name`, as an object. */
function documented(name) {
  const [, text] = README.match(new RegExp(`\`(${name}: [^\`]*)\``)) ?? assert.fail(`no line for ${name} in the README`);
  return new Function(`return ({ ${text} })`)();
}

function projectFor(t) {
  const project = folderFor(t);
  installInto(project);
  writeFileSync(join(project, 'app.cjs'), CODE);
  writeFileSync(join(project, 'box.cjs'), BOX);
  return project;
}

/** What the bundle prints where only it was brought to, or also what it leaves out. */
function runMoved(t, project, bundle, { withPackage }) {
  const folder = folderFor(t);
  cpSync(bundle, join(folder, 'bundle.cjs'));
  if (withPackage) cpSync(join(project, 'node_modules'), join(folder, 'node_modules'), { recursive: true });
  return execFileSync(process.execPath, [join(project, 'box.cjs'), join(folder, 'bundle.cjs')], { encoding: 'utf8' });
}

function byWebpack(project, more = {}) {
  const output = { path: join(project, 'out'), filename: 'bundle.cjs' };
  const config = { mode: 'production', target: 'node', context: project, entry: './app.cjs', output, ...more };
  return new Promise((resolve, reject) => {
    webpack(config, (error, stats) => {
      if (error) return reject(error);
      assert.deepEqual([stats.toJson().errors, stats.toJson().warnings], [[], []]);
      resolve(join(output.path, output.filename));
    });
  });
}

async function byEsbuild(project, more = {}) {
  const outfile = join(project, 'out/bundle.cjs');
  const { warnings } = await build({
    absWorkingDir: project,
    entryPoints: ['app.cjs'],
    bundle: true,
    platform: 'node',
    outfile,
    logLevel: 'silent',
    ...more,
  });
  assert.deepEqual(warnings, []);
  return outfile;
}

const BUNDLERS = {
  webpack: [byWebpack, () => documented('externals')],
  esbuild: [byEsbuild, () => ({ external: [README.match(/`--external:(\w+)`/)[1]] })],
};

for (const [name, [bundle, settings]] of Object.entries(BUNDLERS)) {
  test(`a bundle of ${name} by the README's line works where the package is installed`, async (t) => {
    const project = projectFor(t);
    const made = await bundle(project, settings());
    assert.ok(!readFileSync(made, 'utf8').includes('could not load the native half'), 'it is in the bundle');
    assert.equal(runMoved(t, project, made, { withPackage: true }), '200\n\n');
  });

  test(`a bundle of ${name} with the package in it says what is wrong, and what to do`, async (t) => {
    const project = projectFor(t);
    const said = runMoved(t, project, await bundle(project), { withPackage: false });
    assert.match(said, /Error: could not load the native half of evertoken for .*: this code was bundled or moved out/);
    assert.match(said, /`externals: .*`serverExternalPackages: .*`--external:evertoken`/);
  });
}

test('tools that collect the files of a program find the native half', async (t) => {
  const project = projectFor(t);
  // As a release installs it: in a package for the platform.
  const folder = join(project, `node_modules/evertoken-${platformName()}`);
  mkdirSync(folder);
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: `evertoken-${platformName()}`, version: '0.1.0', main: NATIVE }),
  );
  renameSync(join(project, 'node_modules/evertoken/dist', NATIVE), join(folder, NATIVE));
  const { fileList } = await nodeFileTrace([join(project, 'app.cjs')], { base: project });
  assert.ok(fileList.has(`node_modules/evertoken-${platformName()}/${NATIVE}`), [...fileList].join('\n'));
  // They are all that it takes.
  const copy = folderFor(t);
  for (const file of fileList) cpSync(join(project, file), join(copy, file), { recursive: true });
  assert.ok(readdirSync(copy).length > 1);
  const said = execFileSync(process.execPath, [join(project, 'box.cjs'), join(copy, 'app.cjs')], { encoding: 'utf8' });
  assert.equal(said, '200\n\n');
});
