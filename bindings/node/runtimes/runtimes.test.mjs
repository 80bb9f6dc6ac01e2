// The package, as `npm pack` makes it, in the runtimes that npm has. `make runtimes` installs them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';

import { FOLDER, folderFor, installInto, LIMIT_MS } from '../test/support.mjs';

const HERE = join(FOLDER, 'runtimes');
const MODULES = join(HERE, 'node_modules');
const PLATFORM = `${process.platform}-${process.arch}`;
const DENO_FLAGS = ['run', '--no-prompt', '--allow-read', '--allow-env', '--allow-net'];
const bun = join(MODULES, `@oven/bun-${PLATFORM.replace('arm64', 'aarch64')}/bin/bun`);
const deno = join(MODULES, `@deno/${PLATFORM}${process.platform === 'linux' ? '-glibc' : ''}/deno`);
const node = (major) => join(MODULES, `node-${major}-${PLATFORM}/bin/node`);

/** How each is started, and which version it must say it is. */
const RUNTIMES = {
  'Node.js 20, the oldest': { command: node(20), version: 'v20.4.0' },
  'Node.js 22': { command: node(22), version: 'v22.23.3' },
  'Node.js 24': { command: node(24), version: 'v24.21.0' },
  'Node.js 26': { command: node(26), version: 'v26.12.1' },
  Bun: { command: bun, flags: ['run'], version: '1.4.5' },
  Deno: { command: deno, flags: [...DENO_FLAGS, '--allow-ffi'], version: 'deno 2.9.6' },
};
/** npm has no build of it for every platform. */
const skipIfMissing = ({ command }) => (existsSync(command) ? false : `npm has none for ${PLATFORM}`);

/** Runs a file in the project, and gives how that ended. */
function run({ command, flags = [] }, args, cwd) {
  const env = { ...process.env, NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1' };
  return new Promise((resolve) => {
    execFile(command, [...flags, ...args], { cwd, env, timeout: 3 * LIMIT_MS }, (error, stdout, stderr) =>
      resolve({ status: error ? (error.code ?? error.signal) : 0, stdout, stderr }),
    );
  });
}

describe('in', { concurrency: 2 }, () => {
  let app;
  before(() => {
    app = folderFor({ after: (clean) => process.on('exit', clean) });
    installInto(app);
    for (const name of ['smoke.mjs', 'adapters.mjs']) cpSync(join(HERE, name), join(app, name));
    for (const name of ['axios', 'undici']) symlinkSync(join(FOLDER, 'node_modules', name), join(app, 'node_modules', name));
  });

  for (const [name, runtime] of Object.entries(RUNTIMES)) {
    test(`${name}, all that a program needs works`, { skip: skipIfMissing(runtime) }, async () => {
      const { stdout } = await run({ command: runtime.command }, ['--version'], app);
      assert.equal(stdout.split(' (')[0].trim(), runtime.version);
      assert.deepEqual(await run(runtime, ['smoke.mjs'], app), { status: 0, stdout: 'it works\n', stderr: '' });
    });
  }

  for (const [name, runtime] of Object.entries(RUNTIMES)) {
    // undici 7 wants a newer one.
    if (name.startsWith('Node.js 20')) continue;
    test(`${name}, the interceptors work, or say why not`, { skip: skipIfMissing(runtime) }, async () => {
      const undici =
        name === 'Bun'
          ? 'undici ERR_EVERTOKEN_CONFIGURATION the `undici` of Bun has no interceptors (`compose`): use `fetch` of the client, or `axiosInterceptor`'
          : 'undici 200 2';
      const { status, stdout, stderr } = await run(runtime, ['adapters.mjs'], app);
      assert.deepEqual([status, stdout, stderr], [0, `axios 200 2\n${undici}\n`, '']);
    });
  }

  test('Deno, it says which permission is missing', { skip: skipIfMissing(RUNTIMES.Deno) }, async () => {
    const { stderr } = await run({ command: deno, flags: DENO_FLAGS }, ['smoke.mjs'], app);
    assert.match(stderr, /could not load the native half of evertoken .* run again with the --allow-ffi flag\n/);
  });
});
