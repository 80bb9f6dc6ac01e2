// Refuses to pack what would not work where it is installed. A package for oneself carries the native half for this machine. One
// that is published carries none, but names those of all platforms as optional dependencies, which the release workflow adds.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '..');
const dist = join(folder, 'dist');

function refuse(reason) {
  console.error(`evertoken is not packed: ${reason}`);
  process.exit(1);
}

const compiled = readdirSync(join(folder, 'lib')).map((name) => name.replace(/\.(m?)ts$/, '.$1js'));
const missing = compiled.find((name) => !existsSync(join(dist, name)));
if (missing) refuse(`dist/${missing} is missing; run \`npm run compile\` first`);
for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
  if (!existsSync(join(folder, name))) refuse(`${name} is missing; run \`npm run compile\` first`);
}

const require = createRequire(import.meta.url);
const { PLATFORMS } = require('../dist/platform.js');
const { optionalDependencies, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
const local = readdirSync(dist).filter((name) => name.endsWith('.node'));
if (optionalDependencies) {
  const lacking = PLATFORMS.filter((platform) => optionalDependencies[`evertoken-${platform}`] !== version);
  if (lacking.length > 0) refuse(`its optional dependencies lack evertoken-${lacking.join(', evertoken-')} at ${version}`);
  if (local.length > 0) refuse(`dist/${local[0]} is for one platform, and this package is for all; remove it`);
} else if (process.env.npm_command === 'publish') {
  refuse('without optional dependencies it would work on one platform alone; the workflow node-release.yml publishes it');
} else {
  if (local.length === 0) refuse('it has no native half; run `npm run native` first');
  try {
    const { fixedClient } = require('../dist/testing.js');
    const client = fixedClient('t0ken', 'http://127.0.0.1/');
    if ((await client.token()) !== 't0ken') throw new Error('a client gives another token than its own');
    await client.close();
  } catch (error) {
    refuse(`it does not work here: ${error.message}\nRun \`npm run compile && npm run native\` first`);
  }
  console.error(`evertoken is packed with ${local.join(', ')}: it works on this platform, and on no other`);
}
