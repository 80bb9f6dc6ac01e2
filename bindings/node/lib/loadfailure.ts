/**
 * Why the native half cannot be loaded, and what to do about it. Nothing here runs in a program that works.
 *
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { builtFor } from './binary.js';
import { PLATFORMS } from './platform.js';

type Failure = Partial<NodeJS.ErrnoException> & { resource?: string; permission?: string };

/** The package as npm installs it; undefined if this code runs elsewhere, in a bundle. */
function packageFolder(): string | undefined {
  try {
    // A bundle may be a module without `__dirname`.
    const folder = dirname(__dirname);
    const { name } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: string };
    return name === 'evertoken' && existsSync(join(folder, 'dist/loadfailure.js')) ? folder : undefined;
  } catch {
    return undefined;
  }
}

/** The file of the native half for the platform `name`, if there is one. */
function fileFor(name: string, folder: string): string | undefined {
  const local = join(folder, `dist/evertoken.${name}.node`);
  if (existsSync(local)) return local;
  try {
    return createRequire(join(folder, 'dist/load.js')).resolve(`evertoken-${name}`);
  } catch {
    return undefined;
  }
}

/** Why Node.js was told to load no addon at all. */
function disabled(): string {
  const flags = [...process.execArgv, ...(process.env.NODE_OPTIONS ?? '').split(/\s+/)];
  if ('permission' in process && !flags.includes('--no-addons'))
    return 'Node.js runs with its permission model (`--permission`), which allows no addons; add `--allow-addons`';
  return 'Node.js runs with `--no-addons`; start it without this flag (it may stand in NODE_OPTIONS, or in the `execArgv` of a worker)';
}

/** What the permission model lets nobody read. */
function hidden(path: string): string {
  return `Node.js's permission model forbids to read ${path}; add \`--allow-addons\` and \`--allow-fs-read=${dirname(path)}\``;
}

/** What becomes of code that a bundler took out of its package. */
function bundled(): string {
  const place = typeof __dirname === 'string' ? __dirname : 'an ES module';
  return (
    `this code was bundled or moved out of its package, and the native half is not where it runs (${place}); keep the package out ` +
    "of the bundle (webpack: `externals: { evertoken: 'commonjs evertoken' }`, Next.js: `serverExternalPackages: ['evertoken']`, " +
    'esbuild: `--external:evertoken`) and install it where the program runs'
  );
}

/** Why a file that is there was refused. */
function refused(name: string, file: string | undefined, words: string): string {
  const built = file === undefined ? undefined : builtFor(file);
  if (built === null)
    return `${file} is damaged, it is no native library (${words}); install the package anew (remove node_modules, \`npm ci\`)`;
  if (built !== undefined && built !== name)
    return `${file} is built for ${built} (${words}); run \`npm ci\` on the machine or in the image where the program runs, and copy no node_modules there`;
  if (file !== undefined && words.endsWith('cut off'))
    return `${words}; install the package anew (remove node_modules, \`npm ci\`)`;
  const advice = /GLIBC_|GLIBCXX_/.test(words)
    ? 'this system is older than what the prebuilt package needs: use a newer one, or build the package here'
    : 'if the file is damaged, install the package anew (remove node_modules, `npm ci`)';
  return `${words}; ${advice}`;
}

/** Why no file was found. */
function missing(name: string, folder: string, failures: readonly Failure[]): string {
  // Node.js says so of a package that it found.
  if (failures.some(({ path }) => path !== undefined))
    return `the package evertoken-${name} is installed without its file; install the package anew (remove node_modules, \`npm ci\`)`;
  if (!PLATFORMS.includes(name))
    return `there is none for this platform, only for ${PLATFORMS.join(', ')}; build it here (README.md of bindings/node, "Building")`;
  const other = PLATFORMS.find((platform) => platform !== name && fileFor(platform, folder) !== undefined);
  if (other !== undefined)
    return `only the one for ${other} is installed; run \`npm ci\` on the machine or in the image where the program runs, and copy no node_modules there`;
  return (
    `the package evertoken-${name} is not installed; install with optional dependencies (without \`--omit=optional\`), and if ` +
    'package-lock.json was written on another platform and does not list it, remove it and node_modules first; in a checkout of ' +
    'the repository, `npm run native` builds it'
  );
}

/** What was thrown for each place where the native half was looked for becomes one error for people. */
export function loadFailure(name: string, failures: readonly unknown[]): Error {
  const all = failures.filter((failure): failure is Failure => typeof failure === 'object' && failure !== null);
  const withCode = (code: string): Failure | undefined => all.find((failure) => failure.code === code);
  const folder = packageFolder();
  const file = folder === undefined ? undefined : fileFor(name, folder);
  const off = withCode('ERR_DLOPEN_DISABLED');
  const denied = withCode('ERR_ACCESS_DENIED');
  const broken = withCode('ERR_DLOPEN_FAILED');
  const odd = all.find(({ code }) => code !== 'MODULE_NOT_FOUND');
  let reason: string;
  if (off) reason = disabled();
  else if (denied) reason = hidden(String(denied.resource));
  else if (odd?.name === 'NotCapable')
    reason = String(odd.message); // Deno says which permission it wants
  else if (broken) reason = refused(name, file, String(broken.message));
  else if (folder === undefined) reason = bundled();
  else if (odd) reason = refused(name, file, String(odd.message));
  else reason = missing(name, folder, all);
  const cause = off ?? denied ?? broken ?? odd ?? all[0];
  return new Error(`could not load the native half of evertoken for ${name}: ${reason}`, { cause });
}
