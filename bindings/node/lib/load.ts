/**
 * Loads the native half: the one that was built here, else that of the package for this platform, which npm installs as an
 * optional dependency. `loadfailure.ts` finds out why neither can be loaded.
 *
 * @module
 */
import { isCutOff } from './binary.js';
import { loadFailure } from './loadfailure.js';
import { platformName } from './platform.js';

// Bundlers let it alone, so that they neither fail on the native half nor warn of other platforms' packages. Tools that collect a
// program's files (Next.js's standalone output) do understand it, in this form and with names in full.
const { createRequire } = require('node:module') as typeof import('node:module');

/** @throws {Error} with the reason and with what to do about it. */
export function load(): unknown {
  const name = platformName();
  const failures: unknown[] = [];
  for (const from of [builtHere, installed]) {
    try {
      return from(name);
    } catch (failure) {
      failures.push(failure);
    }
  }
  throw loadFailure(name, failures);
}

function builtHere(name: string): unknown {
  const load = createRequire(__filename);
  refuseCutOff(load, `./evertoken.${name}.node`);
  return load(`./evertoken.${name}.node`);
}

function installed(name: string): unknown {
  const load = createRequire(__filename);
  refuseCutOff(load, `evertoken-${name}`);
  switch (name) {
    case 'linux-x64-gnu':
      return load('evertoken-linux-x64-gnu');
    case 'linux-arm64-gnu':
      return load('evertoken-linux-arm64-gnu');
    case 'linux-x64-musl':
      return load('evertoken-linux-x64-musl');
    case 'linux-arm64-musl':
      return load('evertoken-linux-arm64-musl');
    case 'darwin-x64':
      return load('evertoken-darwin-x64');
    case 'darwin-arm64':
      return load('evertoken-darwin-arm64');
    case 'win32-x64-msvc':
      return load('evertoken-win32-x64-msvc');
    case 'win32-arm64-msvc':
      return load('evertoken-win32-arm64-msvc');
    default:
      return load(`evertoken-${name}`);
  }
}

/** The system's loader would not refuse it: the process would die. */
function refuseCutOff(load: NodeJS.Require, place: string): void {
  let file: string;
  try {
    file = load.resolve(place);
    if (!isCutOff(file)) return;
  } catch {
    // What is wrong with it, `load` says.
    return;
  }
  throw Object.assign(new Error(`${file}: the file is cut off`), { code: 'ERR_DLOPEN_FAILED' });
}
