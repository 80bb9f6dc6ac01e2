// Measures the package beside its peers in one run, and writes its README's table and plot. Parts by name: `npm start -- reads`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client } from 'evertoken';
import { AuthServer } from 'evertoken/testing';

import { PEERS } from './peers.mjs';
import { bars } from './plot.mjs';

const LIVES = 10;
const wanted = process.argv.slice(2);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const version = (name) =>
  name === 'evertoken'
    ? ''
    : ` ${JSON.parse(readFileSync(join(import.meta.dirname, 'node_modules', name, 'package.json'))).version}`;
const shown = (ns) => (ns < 1_000 ? `${ns.toFixed(1)} ns` : `${(ns / 1_000).toFixed(1)} µs`);

/** A loop over `body` with code of its own, as it is in a program, and not that of all the others. */
function loop(target, body) {
  return new Function(
    'target',
    `return async (calls) => {
      let kept;
      const begun = process.hrtime.bigint();
      for (let i = 0; i < calls; i++) { kept = ${body}; }
      const time = Number(process.hrtime.bigint() - begun) / calls;
      if (!kept) throw new Error('nothing was read');
      return time;
    }`,
  )(target);
}

/**
 * Nanoseconds a call of each, which take turns in many short rounds. Of these it is the lower decile that counts: whatever else the
 * machine does only ever adds.
 */
async function interleaved(runs, calls = () => 4_000, rounds = 300) {
  const times = Object.fromEntries(Object.keys(runs).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(runs)) times[name].push(await run(calls(name)));
  }
  return Object.fromEntries(
    Object.entries(times).map(([name, values]) => [name, values.toSorted((a, b) => a - b)[values.length / 10]]),
  );
}

/** A read without a promise, beside the clock that it looks at. */
async function reads(server) {
  const api = new Client('app', 'secret', { issuer: server.issuer });
  await api.token();
  const times = await interleaved({ clock: loop(null, 'Date.now()'), read: loop(api, 'target.currentToken()') });
  await api.close();
  return times;
}

/** `await token()`, and with it a header, for each with a token held. */
async function awaits(server) {
  const made = {};
  for (const [name, peer] of Object.entries(PEERS)) made[name] = await peer(server, 30_000);
  for (const { token } of Object.values(made)) await token();
  const api = made.evertoken.client;
  const calls = (name) => (name.startsWith('@azure') ? 20 : 4_000);
  const tokens = {};
  const headers = {};
  for (const [name, { token, header }] of Object.entries(made)) {
    tokens[name] = name === 'evertoken' ? loop(api, 'await target.token()') : loop(token, 'await target()');
    headers[name] = header
      ? loop(header, "{ accept: 'application/json', authorization: await target() }")
      : loop(token, "{ accept: 'application/json', authorization: 'Bearer ' + (await target()) }");
  }
  headers.evertoken = loop(api, "{ accept: 'application/json', authorization: await target.authorization() }");
  const results = { tokens: await interleaved(tokens, calls), attached: await interleaved(headers, calls) };
  await api.close();
  return results;
}

/** Token requests of a thousand concurrent callers from cold. */
async function stampede() {
  const counts = {};
  for (const [name, peer] of Object.entries(PEERS)) {
    const server = await AuthServer.start();
    const { token, close, readsOnly } = await peer(server, 30_000);
    if (readsOnly) continue;
    server.resetCounters();
    server.setLatency(50);
    await Promise.all(Array.from({ length: 1_000 }, () => token().catch(() => {})));
    counts[name] = server.tokenRequests;
    await close?.();
    await server.stop();
  }
  return counts;
}

/** The longest `await token()` after the first, over lifetimes of 4 s, with an endpoint that takes 200 ms. */
async function lives() {
  const run = async (name, peer, lives = LIVES) => {
    const server = await AuthServer.start({ lifetimeMs: 4_000 });
    server.setLatency(200);
    const { token, close, readsOnly, isForLongTokens } = await peer(server, 400);
    if (readsOnly || isForLongTokens) return [name, undefined];
    const seen = new Set([await token()]);
    let longest = 0;
    while (seen.size <= lives) {
      await sleep(5);
      const begun = performance.now();
      seen.add(await token());
      longest = Math.max(longest, performance.now() - begun);
    }
    await close?.();
    await server.stop();
    return [name, longest];
  };
  const longest = await Promise.all(Object.entries(PEERS).map(([name, peer]) => run(name, peer)));
  // By turns, a lifetime each.
  const delays = { evertoken: monitorEventLoopDelay({ resolution: 1 }), bare: monitorEventLoopDelay({ resolution: 1 }) };
  const during = async (delay, work) => {
    const begun = performance.now();
    delay.enable();
    await work();
    delay.disable();
    return performance.now() - begun;
  };
  for (let life = 0; life < LIVES; life++) {
    const took = await during(delays.evertoken, () => run('evertoken', PEERS.evertoken, 1));
    await during(delays.bare, async () => {
      for (const begun = performance.now(); performance.now() - begun < took; ) await sleep(5);
    });
  }
  const loopMs = Object.fromEntries(Object.entries(delays).map(([name, delay]) => [name, delay.percentile(99) / 1e6]));
  return { longest: Object.fromEntries(longest), loopMs };
}

const ECHO = `
  import { createServer } from 'node:http';
  const server = createServer((request, answer) => answer.end(request.headers.authorization ? 'ok' : 'none'));
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

/** `api.fetch` beside `fetch` with a header that is always the same, on loopback. */
async function fetches(server) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', ECHO], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [port] = await once(child.stdout, 'data');
  const baseUrl = `http://127.0.0.1:${String(port).trim()}/`;
  const api = new Client('app', 'secret', { issuer: server.issuer, baseUrl });
  const headers = { authorization: await api.authorization() };
  const calls = 20;
  const run = async (call) => {
    const begun = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) await (await call()).arrayBuffer();
    return Number(process.hrtime.bigint() - begun) / calls;
  };
  const bare = () => run(() => fetch(`${baseUrl}orders`, { headers }));
  const ours = () => run(() => api.fetch('orders'));
  for (let i = 0; i < 20; i++) await ours(await bare());
  const times = { fetch: [], 'api.fetch': [] };
  // By turns, and each as often before the other as after it.
  for (let round = 0; round < 1_000; round++) {
    const order = round % 2 ? ['fetch', 'api.fetch'] : ['api.fetch', 'fetch'];
    for (const name of order) times[name].push(await (name === 'fetch' ? bare : ours)());
  }
  await api.close();
  child.kill();
  // Of each round for itself, since the machine is faster at one time than at another.
  const ratio = median(times.fetch.map((time, round) => times['api.fetch'][round] / time));
  return { fetch: median(times.fetch), 'api.fetch': median(times['api.fetch']), ratio };
}

/** From a program's last line to its end. */
async function exits(server) {
  const programs = {
    bare: `console.log('last')`,
    evertoken: `import { Client } from 'evertoken';
      const api = new Client('app', 'secret', { issuer: '${server.issuer}' });
      await api.token();
      console.log('last')`,
  };
  const times = { bare: [], evertoken: [] };
  for (let round = 0; round < 15; round++) {
    for (const [name, code] of Object.entries(programs)) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
        cwd: join(import.meta.dirname, '..'),
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      const said = performance.now();
      await once(child, 'exit');
      times[name].push(performance.now() - said);
    }
  }
  return Object.fromEntries(Object.entries(times).map(([name, values]) => [name, median(values)]));
}

const PARTS = { reads, awaits, stampede, lives, fetches, exits };
const server = await AuthServer.start();
const results = {};
for (const [name, part] of Object.entries(PARTS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  console.log(`-- ${name}`);
  results[name] = await part(server);
  console.log(results[name]);
}
await server.stop();
if (wanted.length > 0) process.exit();

const { tokens, attached } = results.awaits;
const rows = Object.keys(PEERS).map((name) => {
  const longest = results.lives.longest[name];
  return `| ${name}${version(name)} | ${shown(tokens[name])} | ${shown(attached[name])} | ${results.stampede[name] ?? '–'} | ${longest === undefined ? '–' : `${longest.toFixed(1)} ms`} |`;
});
const { clock, read } = results.reads;
const text = `
| | \`await token()\` | to a header | token requests of 1,000 cold callers | longest wait over ${LIVES} lifetimes |
|---|---:|---:|---:|---:|
${rows.join('\n')}

- \`currentToken()\`: ${read.toFixed(0)} ns, \`Date.now()\` alone ${clock.toFixed(0)} ns.
- \`api.fetch\` beside \`fetch\` with a header that is always the same, on loopback: ${((results.fetches.ratio - 1) * 100).toFixed(1)} % (${shown(results.fetches['api.fetch'])} and ${shown(results.fetches.fetch)} a call).
- From a program's last line to its end: ${results.exits.evertoken.toFixed(0)} ms, ${results.exits.bare.toFixed(0)} ms without a client.
- The longest wait is that of one \`await\` after the first, while tokens of 4 s are renewed at an endpoint that takes 200 ms; all were waited for in one
  event loop. Its delay at the 99th percentile, ten lifetimes long: ${results.lives.loopMs.evertoken.toFixed(2)} ms with evertoken alone, ${results.lives.loopMs.bare.toFixed(2)} ms without. Google's library knows no client credentials, and to Azure's a token of
  4 s is none.
- Node.js ${process.version}, ${cpus().length} cores of ${cpus()[0].model.trim()}.

![Nanoseconds of an await for a held token](bench/awaits.svg)
`;
writeFileSync(
  join(import.meta.dirname, 'awaits.svg'),
  bars('await token() with a token held: nanoseconds', 'ns, logarithmic', { 'Date.now()': clock, ...tokens }),
);
const path = join(import.meta.dirname, '..', 'README.md');
const readme = readFileSync(path, 'utf8');
writeFileSync(
  path,
  readme.replace(/(<!-- bench -->)[\s\S]*(<!-- \/bench -->)/, (_, begin, end) => `${begin}\n${text}\n${end}`),
);
process.exit();
