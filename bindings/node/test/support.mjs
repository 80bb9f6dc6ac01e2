import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { AuthServer } from 'evertoken/testing';

export const FOLDER = join(import.meta.dirname, '..');
export const IS_WINDOWS = process.platform === 'win32';
export const THOROUGH = Boolean(process.env.EVERTOKEN_THOROUGH);
/** Ends a wait for what will never come; nothing is measured against it. */
export const LIMIT_MS = 60_000;

/** Waits for what is on its way. */
export async function until(what, isTrue) {
  const end = performance.now() + LIMIT_MS;
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`never: ${what}`);
    await sleep(5);
  }
}

/** Whether the promise is settled by nothing but microtasks: what never leaves JavaScript is. */
export async function settlesAtOnce(promise) {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  for (let i = 0; i < 10; i++) await null;
  return settled;
}

/** A box for one test, which ends with it. */
export async function boxFor(t, options) {
  const server = await AuthServer.start(options);
  t.after(() => server.stop());
  return server;
}

/** A client of it, which ends with the test, too. */
export function clientFor(t, server, options) {
  const api = server.client(options);
  t.after(() => api.close().catch(() => {}));
  return api;
}

/** A program in a process of its own: its exit code, signal and output, when it has ended by itself. */
export async function program(code, { env = {}, args = [], flags = [], cwd = FOLDER } = {}) {
  const command = [...flags, '--input-type=module', '-e', code, ...args];
  const child = spawn(process.execPath, command, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  for (const name of Object.keys(output)) child[name].setEncoding('utf8').on('data', (text) => (output[name] += text));
  const hung = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  const [status, signal] = await once(child, 'close');
  clearTimeout(hung);
  return { status, signal, ...output };
}

/** For tests that await events alone, which keep no process alive. */
export function stayAwake(t) {
  const timer = setInterval(() => {}, LIMIT_MS);
  t.after(() => clearInterval(timer));
}

/** Runs npm, which Windows starts by a shell alone; gives what it prints. */
export function npm(args, cwd, stderr = 'inherit') {
  return execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', stderr], shell: IS_WINDOWS });
}

/** A new folder, gone after the test; no link leads to it. */
export function folderFor(t) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'evertoken-')));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A project in `folder` in which the package is installed as `npm pack` makes it. */
export function installInto(folder) {
  const [{ filename }] = Object.values(JSON.parse(npm(['pack', '--json', '--pack-destination', folder], FOLDER, 'ignore')));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  npm(['install', '--offline', '--no-audit', '--no-fund', '--loglevel=error', `./${filename}`], folder);
}

/** Installs what `tests/conformance/server.mjs` needs, where that is not done yet; gives its folder. */
function installProvider() {
  const cwd = join(FOLDER, '../../tests/conformance');
  const wanted = readFileSync(join(cwd, 'package-lock.json'));
  const installed = join(cwd, 'node_modules/.installed-package-lock.json');
  if (!existsSync(installed) || !readFileSync(installed).equals(wanted)) {
    npm(['ci', '--ignore-scripts'], cwd);
    writeFileSync(installed, wanted);
  }
  return cwd;
}

/** Now and then node hangs before it has run a line of ours; another one then does better. */
const START_LIMIT_MS = 30_000;

/** `oidc-provider` in a process of its own, which ends with its standard input; and what it says of itself. */
export async function startProvider(env = {}) {
  const cwd = installProvider();
  for (let attempt = 0; attempt < 4; attempt++) {
    const child = spawn(process.execPath, ['server.mjs'], {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const hung = setTimeout(() => child.kill('SIGKILL'), START_LIMIT_MS);
    const lines = createInterface(child.stdout);
    const line = await Promise.race([once(lines, 'line').then(([text]) => text), once(child, 'close').then(() => null)]);
    clearTimeout(hung);
    if (line !== null) return { child, ...JSON.parse(line) };
  }
  throw new Error('the authorization server did not start');
}
