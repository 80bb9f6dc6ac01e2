// Builds the native half with cargo and puts it where `lib/load.ts` looks first. Plain cargo, and for this machine alone, so that
// the dependencies are compiled once for all packages of this repository. Arguments go to cargo: `-- --profile dist` builds it as
// it is published.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '..');
const more = process.argv.slice(2);
const profile = more.some((argument) => argument.startsWith('--profile')) ? [] : ['--release'];
const command = ['build', ...profile, '--locked', '--package', 'evertoken-node', '--message-format', 'json-render-diagnostics'];
const cargo = spawnSync('cargo', [...command, ...more], {
  cwd: folder,
  encoding: 'utf8',
  maxBuffer: 1 << 28,
  stdio: ['ignore', 'pipe', 'inherit'],
});
if (cargo.status !== 0) process.exit(cargo.status ?? 1);
const artifacts = cargo.stdout
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line));
const built = artifacts.find(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'evertoken_node');

const dist = join(folder, 'dist');
mkdirSync(dist, { recursive: true });
const { platformName } = createRequire(import.meta.url)('../dist/platform.js');
const file = join(dist, `evertoken.${platformName()}.node`);
// In one go, since another process may have the old one in use.
copyFileSync(built.filenames[0], `${file}.new`);
renameSync(`${file}.new`, file);
