// What is said if the native half cannot be loaded: the reason, and what to do.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';

import { FOLDER, folderFor } from './support.mjs';

const require = createRequire(import.meta.url);
const { platformName, PLATFORMS } = require('../dist/platform.js');
const HERE = platformName();
const OTHER = HERE === 'darwin-arm64' ? 'linux-x64-gnu' : 'darwin-arm64';
const ADDON = join(FOLDER, 'dist', `evertoken.${HERE}.node`);
const IS_LINUX = process.platform === 'linux';
const PERMISSION = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';

/** An app with the package installed in it; `native` maps the platforms whose packages are installed to their files. */
function appWith(t, native = {}) {
  const app = folderFor(t);
  const folder = join(app, 'node_modules/evertoken');
  cpSync(join(FOLDER, 'dist'), join(folder, 'dist'), { recursive: true, filter: (path) => !path.endsWith('.node') });
  cpSync(join(FOLDER, 'package.json'), join(folder, 'package.json'));
  for (const [platform, bytes] of Object.entries(native)) addPackage(app, platform, bytes);
  return app;
}

function addPackage(app, platform, bytes) {
  const folder = join(app, 'node_modules', `evertoken-${platform}`);
  const main = `evertoken.${platform}.node`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: basename(folder), version: '0.1.0', main }));
  if (bytes !== null) writeFileSync(join(folder, main), bytes);
}

/** What a program prints that loads `what` in `app`, or the error's message and its cause's. */
function load(app, { flags = [], env = {}, what = 'evertoken', kind = 'commonjs' } = {}) {
  const loads = { commonjs: `Promise.resolve().then(() => require('${what}'))`, module: `import('${what}')` }[kind];
  const code = `${loads}.then(() => console.log('loaded'), (error) => console.log(error.message + '\\n' + error.cause?.message));`;
  return new Promise((resolve) => {
    const command = [...flags, `--input-type=${kind}`, '-e', code];
    execFile(process.execPath, command, { cwd: app, env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      resolve(error ? stderr : stdout);
    });
  });
}

const real = () => readFileSync(ADDON);

describe('the native half', { concurrency: 2 }, () => {
  test('is that of the platform package', async (t) => {
    for (const kind of ['commonjs', 'module']) assert.equal(await load(appWith(t, { [HERE]: real() }), { kind }), 'loaded\n');
  });

  const reasons = {
    'with --no-addons': {
      flags: ['--no-addons'],
      native: () => ({ [HERE]: real() }),
      says: /runs with `--no-addons`; start it without this flag/,
    },
    'with --no-addons in NODE_OPTIONS': {
      env: { NODE_OPTIONS: '--no-addons' },
      native: () => ({ [HERE]: real() }),
      says: /NODE_OPTIONS/,
    },
    'under the permission model': {
      flags: [PERMISSION, '--allow-fs-read=*'],
      native: () => ({ [HERE]: real() }),
      says: /permission model .* add `--allow-addons`/,
    },
    'under the permission model, which would allow it, with --no-addons': {
      flags: [PERMISSION, '--allow-fs-read=*', '--allow-addons', '--no-addons'],
      native: () => ({ [HERE]: real() }),
      says: /start it without this flag/,
    },
    'if it is none': {
      native: { [HERE]: 'version https://git-lfs.github.com/spec/v1\n' },
      says: /\.node is damaged, it is no native library .*npm ci/,
    },
    'if it is empty': {
      native: { [HERE]: '' },
      says: /is damaged, it is no native library/,
    },
    'if it is cut off': {
      native: () => ({ [HERE]: real().subarray(0, 100_000) }),
      says: /the file is cut off; install the package anew/,
    },
    'if its last byte is missing': {
      native: () => ({ [HERE]: real().subarray(0, -1) }),
      says: /the file is cut off; install the package anew/,
    },
    'if its tables are damaged': {
      native: () => ({ [HERE]: real().fill(0xff, 64, 4096) }),
      says: /if the file is damaged, install the package anew/,
    },
    'if its file is missing': {
      native: { [HERE]: null },
      says: new RegExp(`evertoken-${HERE} is installed without its file`),
    },
    'if that of another platform is installed': {
      native: { [OTHER]: 'any' },
      says: new RegExp(`only the one for ${OTHER} is installed; run \`npm ci\``),
    },
    'if none is installed': {
      says: new RegExp(`evertoken-${HERE} is not installed; install with optional dependencies .*npm run native`),
    },
  };
  if (IS_LINUX) {
    const machine = process.arch === 'x64' ? 0xb7 : 0x3e;
    const foreign = process.arch === 'x64' ? 'arm64' : 'x64';
    const libc = HERE.split('-')[2];
    reasons['if it is built for another processor'] = {
      native: () => {
        const bytes = real();
        bytes.writeUInt16LE(machine, 18);
        return { [HERE]: bytes };
      },
      says: new RegExp(`is built for linux-${foreign}-${libc} \\(.*\\); run \`npm ci\``),
    };
    reasons['if it is built for another C library'] = {
      native: () => {
        const bytes = real();
        for (let at; (at = bytes.indexOf('libc.so.6\0')) >= 0; ) bytes.write('libc.musl\0', at);
        return { [HERE]: bytes };
      },
      skip: libc !== 'gnu',
      says: /is built for linux-\w+-musl \(.*libc\.musl/,
    };
    reasons['if it is built for macOS'] = {
      native: { [HERE]: Buffer.from('cffaedfe0c000001000000000600000000000000', 'hex') },
      says: /is built for darwin-arm64/,
    };
    reasons['if it is built for Windows'] = {
      native: () => {
        const bytes = Buffer.alloc(256);
        bytes.write('MZ');
        bytes.writeUInt32LE(128, 0x3c);
        bytes.write('PE\0\0', 128);
        bytes.writeUInt16LE(0x8664, 132);
        return { [HERE]: bytes };
      },
      says: /is built for win32-x64-msvc/,
    };
  }
  for (const [name, { flags = [], env, native, says, skip }] of Object.entries(reasons)) {
    test(`${name}, is not loaded, and the message tells why`, { skip }, async (t) => {
      const app = appWith(t, typeof native === 'function' ? native() : native);
      const given = typeof flags === 'function' ? flags(app) : flags;
      for (const what of ['evertoken', 'evertoken/testing']) {
        const [message] = (await load(app, { flags: given, env, what })).split('\n');
        assert.match(message, new RegExp(`^could not load the native half of evertoken for ${HERE}: `));
        assert.match(message, says);
      }
    });
  }

  test('if it is damaged where it was built, that is the reason and not the package that is missing', async (t) => {
    const app = appWith(t);
    writeFileSync(join(app, `node_modules/evertoken/dist/evertoken.${HERE}.node`), 'damaged');
    assert.match(await load(app), /dist.evertoken.*\.node is damaged/);
  });

  test('is not found by code that was moved out of its package', async (t) => {
    const app = appWith(t);
    cpSync(join(app, 'node_modules/evertoken/dist'), join(app, 'out'), { recursive: true });
    writeFileSync(join(app, 'package.json'), '{"name":"app"}');
    const said = await load(app, { what: './out/index.js' });
    assert.match(said, /bundled or moved out of its package.*externals.*serverExternalPackages.*--external:evertoken/);
    assert.ok(said.includes(join(app, 'out')), said);
  });
});

test('the platforms are those that are built', () => {
  const { napi } = require('../package.json');
  const named = napi.targets.map((target) => {
    const [arch, , system, libc] = target.split('-');
    const parts = [{ apple: 'darwin', linux: 'linux', windows: 'win32' }[system === 'darwin' ? 'apple' : system]];
    parts.push({ x86_64: 'x64', aarch64: 'arm64' }[arch], ...(libc ? [libc] : []));
    return parts.join('-');
  });
  assert.deepEqual([...PLATFORMS].sort(), named.sort());
  const source = readFileSync(join(FOLDER, 'dist/load.js'), 'utf8');
  for (const platform of PLATFORMS) assert.ok(source.includes(`load('evertoken-${platform}')`), platform);
});
