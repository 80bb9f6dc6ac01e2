/**
 * Loads the native half: the one that was built here, else that of the package for this platform, which npm installs as an
 * optional dependency. `loadfailure.ts` finds out why neither can be loaded.
 *
 * @module
 */
import { createRequire } from 'node:module';

import { isCutOff } from './binary.js';
import { loadFailure } from './loadfailure.js';
import { platformName } from './platform.js';

/** @throws {Error} with the reason and with what to do about it. */
export function load(): unknown {
  const name = platformName();
  const failures: unknown[] = [];
  try {
    refuseCutOff(`./evertoken.${name}.node`);
    return require(`./evertoken.${name}.node`);
  } catch (failure) {
    failures.push(failure);
  }
  // Each package is named in full and inside of `try`: bundlers and tools that collect a program's files read the source.
  try {
    refuseCutOff(`evertoken-${name}`);
    switch (name) {
      case 'linux-x64-gnu':
        return require('evertoken-linux-x64-gnu');
      case 'linux-arm64-gnu':
        return require('evertoken-linux-arm64-gnu');
      case 'linux-x64-musl':
        return require('evertoken-linux-x64-musl');
      case 'linux-arm64-musl':
        return require('evertoken-linux-arm64-musl');
      case 'darwin-x64':
        return require('evertoken-darwin-x64');
      case 'darwin-arm64':
        return require('evertoken-darwin-arm64');
      case 'win32-x64-msvc':
        return require('evertoken-win32-x64-msvc');
      case 'win32-arm64-msvc':
        return require('evertoken-win32-arm64-msvc');
    }
  } catch (failure) {
    failures.push(failure);
  }
  throw loadFailure(name, failures);
}

/** The system's loader would not refuse it: the process would die. */
function refuseCutOff(place: string): void {
  let file: string;
  try {
    file = createRequire(__filename).resolve(place);
    if (!isCutOff(file)) return;
  } catch {
    // `require` says why, or finds it by means of a bundler's.
    return;
  }
  throw Object.assign(new Error(`${file}: the file is cut off`), { code: 'ERR_DLOPEN_FAILED' });
}
