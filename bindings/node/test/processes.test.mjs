// Exits, worker threads and what is left behind, with real processes.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import { boxFor, program, stayAwake, THOROUGH, until } from './support.mjs';

const EXITS = THOROUGH ? 200 : 10;
const WORKERS = THOROUGH ? 200 : 30;
const CLIENTS = 1_000;

const BEGIN = `
  import { Client } from 'evertoken';
  const [issuer, baseUrl] = process.argv.slice(1);
  const api = new Client('app', 'secret', { issuer, baseUrl });
`;

test('a program that calls once ends by itself, with nothing left to wait for', async (t) => {
  const server = await boxFor(t);
  const end = "process.on('exit', () => console.log(process.getActiveResourcesInfo()))";
  const bare = await program(`${end};`);
  const asks = await program(`${BEGIN} await api.token(); ${end};`, { args: [server.issuer, server.apiUrl] });
  assert.deepEqual(asks, bare, 'at its last line already, but for the pipe of its output');
  const calls = await program(`${BEGIN} console.log((await api.fetch('orders')).status);`, {
    args: [server.issuer, server.apiUrl],
  });
  assert.deepEqual([calls.status, calls.stdout, calls.stderr], [0, '200\n', '']);
});

test('a program with an open client, listeners and a log ends by itself', async (t) => {
  const server = await boxFor(t, { lifetimeMs: 1_000 });
  const code = `${BEGIN}
    const other = new Client('app', 'secret', { issuer, logger: { debug() {} } });
    other.on('renewed', () => {});
    const events = api.events();
    void events.next();
    await Promise.all([api.token(), other.token()]);
    api.prefetch();
  `;
  const ended = await program(code, { args: [server.issuer] });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, '', '']);
});

test('who awaits a token keeps the process alive', async (t) => {
  const server = await boxFor(t);
  server.setLatency(300);
  const ended = await program(`${BEGIN} console.log((await api.token()).length > 100);`, { args: [server.issuer] });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, 'true\n', '']);
  // Not any more, once the wait was aborted.
  server.fail({ kind: 'hang' }, { always: true });
  const code = `${BEGIN} await api.token({ signal: AbortSignal.timeout(50) }).catch((error) => console.log(error.name));`;
  const aborted = await program(`${code} setTimeout(() => {}, 100);`, { args: [server.issuer] });
  assert.deepEqual([aborted.status, aborted.stdout, aborted.stderr], [0, 'TimeoutError\n', '']);
});

test('no rejection is left unhandled that was not handed to anybody', async (t) => {
  const code = `${BEGIN}
    const wrong = new Client('app', 'wrong', { issuer });
    const limit = setTimeout(() => process.exit(3), 30_000);
    wrong.on('credentialsRejected', () => clearTimeout(limit));
    wrong.prefetch();
  `;
  const server = await boxFor(t);
  const ended = await program(code, { args: [server.issuer] });
  assert.deepEqual([ended.status, ended.stderr], [0, '']);
});

for (const how of ['process.exit(0)', 'undefined']) {
  test(`a process ends in the midst of a renewal, by ${how}`, async (t) => {
    const server = await boxFor(t, { lifetimeMs: 1_000 });
    server.setLatency(30);
    const code = `${BEGIN}
      await api.token();
      api.on('renewed', () => {});
      api.invalidate(api.currentToken());
      api.prefetch();
      void api.token().catch(() => {});
      setTimeout(() => ${how}, Number(process.argv[3]));
    `;
    for (let i = 0; i < EXITS; i++) {
      const ended = await program(code, { args: [server.issuer, server.apiUrl, String((i * 7) % 50)] });
      assert.deepEqual([ended.status, ended.signal, ended.stderr], [0, null, '']);
    }
  });
}

const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { Client } = require('evertoken');
  const { issuer, baseUrl, index } = workerData;
  const api = new Client({ credentials: async () => ({ appId: 'app', appSecret: 'secret' }), issuer, baseUrl });
  api.on('renewed', () => {});
  api.token().then(async (token) => {
    const { status } = await api.fetch('orders');
    parentPort.postMessage({ status, token });
    for (;;) {
      // Renewed as often as the floor lets it, with a caller who waits.
      api.invalidate(api.currentToken() ?? '');
      await api.token();
      await new Promise((resolve) => setTimeout(resolve, index % 5));
    }
  });
`;

test('worker threads are terminated in the midst of renewals', async (t) => {
  const server = await boxFor(t, { lifetimeMs: 1_000 });
  server.setLatency(10);
  const one = async (index) => {
    const workerData = { issuer: server.issuer, baseUrl: server.apiUrl, index };
    const worker = new Worker(WORKER, { eval: true, workerData });
    const message = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    assert.equal(message.status, 200);
    await sleep((index * 13) % 60);
    await worker.terminate();
    return message.token;
  };
  const tokens = new Set();
  for (let i = 0; i < WORKERS; i += 4) {
    for (const token of await Promise.all([i, i + 1, i + 2, i + 3].map(one))) tokens.add(token);
  }
  assert.ok(tokens.size >= WORKERS, 'each has a client of its own');
});

test('a worker thread that ends by itself, and clients in several', async (t) => {
  const server = await boxFor(t);
  const code = WORKER.replace(/for \(;;\)[\s\S]*/, '});');
  const workers = Array.from(
    { length: 4 },
    (_, index) => new Worker(code, { eval: true, workerData: { issuer: server.issuer, baseUrl: server.apiUrl, index } }),
  );
  const codes = await Promise.all(
    workers.map((worker) => new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject))),
  );
  assert.deepEqual(codes, [0, 0, 0, 0]);
});

test('the addon is loaded by a worker thread alone, which ends', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { Worker } from 'node:worker_threads';
    const [issuer, baseUrl] = process.argv.slice(1);
    for (let index = 0; index < 5; index++) {
      const worker = new Worker(${JSON.stringify(WORKER)}, { eval: true, execArgv: [], workerData: { issuer, baseUrl, index } });
      await new Promise((resolve) => worker.once('message', resolve));
      await worker.terminate();
    }
    console.log('all of them');
  `;
  const ended = await program(code, { args: [server.issuer, server.apiUrl] });
  assert.deepEqual([ended.status, ended.signal, ended.stdout, ended.stderr], [0, null, 'all of them\n', '']);
});

test('a thousand clients leave nothing', { skip: process.platform !== 'linux' }, async (t) => {
  const server = await boxFor(t);
  const left = () => ({
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
    resources: process.getActiveResourcesInfo().filter((name) => name !== 'Timeout').length,
  });
  const batch = async (size) => {
    const clients = Array.from({ length: size }, () => server.client());
    await Promise.all(clients.map((api) => api.token()));
    for (const api of clients) api.on('renewed', () => {});
    await Promise.all(clients.map((api) => api.close()));
  };
  await batch(20);
  const before = left();
  for (let i = 0; i < CLIENTS; i += 20) await batch(20);
  await until('all is gone', () => {
    const now = left();
    return Object.keys(before).every((name) => now[name] <= before[name]);
  });
  assert.equal(server.tokenRequests, CLIENTS + 20);
});

test('a thousand clients more leave no memory behind', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { Client } from 'evertoken';
    const [issuer] = process.argv.slice(1);
    const batch = async () => {
      const clients = Array.from({ length: 50 }, () => new Client('app', 'secret', { issuer }));
      await Promise.all(clients.map((api) => api.token()));
      await Promise.all(clients.map((api) => api.close()));
    };
    const used = async (batches) => {
      for (let i = 0; i < batches; i++) await batch();
      for (let i = 0; i < 5; i++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        global.gc();
      }
      const { rss, heapUsed, external } = process.memoryUsage();
      return { rss, heap: heapUsed + external };
    };
    const before = await used(10);
    const after = await used(20);
    console.log(JSON.stringify([after.heap - before.heap, after.rss - before.rss]));
  `;
  const { stdout, stderr } = await program(code, {
    args: [server.issuer],
    flags: ['--expose-gc'],
    env: { NODE_EXTRA_CA_CERTS: '' },
  });
  const [heap, rss] = JSON.parse(stdout || 'null') ?? assert.fail(stderr);
  // Each would leave some kilobytes, of JavaScript's and of Rust's.
  assert.ok(heap < 500_000, `${heap} bytes of the heap`);
  assert.ok(rss < 10_000_000, `${rss} bytes in all`);
});

test('the module is loaded again and again, as test runners do', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { createRequire } from 'node:module';
    const require = createRequire(process.cwd() + '/x.js');
    const seen = new Set();
    for (let i = 0; i < 20; i++) {
      for (const path of Object.keys(require.cache)) delete require.cache[path];
      const { Client } = require('evertoken');
      seen.add(Client);
      const api = new Client({ credentials: async () => ({ appId: 'app', appSecret: 'secret' }), issuer: process.argv[1] });
      api.on('renewed', () => {});
      await api.token();
      if (i % 2) await api.close();
    }
    console.log(seen.size);
  `;
  const ended = await program(code, { args: [server.issuer] });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, '20\n', '']);
});

test('the module is loaded into a realm of its own, as jest does', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { readFileSync } from 'node:fs';
    import { createRequire } from 'node:module';
    import { dirname, join } from 'node:path';
    import vm from 'node:vm';
    const realm = vm.createContext({ process, Buffer, URL, fetch, AbortSignal, setTimeout, setInterval, clearInterval, console });
    const modules = new Map();
    function load(path) {
      if (modules.has(path)) return modules.get(path).exports;
      const outer = createRequire(path);
      if (!path.endsWith('.js')) return outer(path);
      const module = { exports: {} };
      modules.set(path, module);
      const run = vm.runInContext('(function (exports, require, module, __filename, __dirname) {' + readFileSync(path) + '})', realm);
      const inner = (name) => (name.startsWith('./') ? load(outer.resolve(name)) : outer(name));
      run(module.exports, inner, module, path, dirname(path));
      return module.exports;
    }
    const { Client, EvertokenError } = load(join(process.cwd(), 'dist/index.js'));
    const [issuer] = process.argv.slice(1);
    const refused = [];
    for (const act of [
      () => new Client('app', 'secret'),
      () => new Client('app', 'secret', { issuer }).setCredentials('', ''),
      () => new Client('app', 'secret', { issuer, baseUrl: 'https://api.example' }).fetch('https://elsewhere.example'),
      () => new Client('app', 'wrong', { issuer }).token(),
    ])
      await (async () => act())().catch((error) => refused.push(error instanceof EvertokenError ? error.code : error.message));
    console.log(refused.join(' '), (await new Client('app', 'secret', { issuer }).token()).slice(0, 2));
  `;
  const ended = await program(code, { args: [server.issuer] });
  const codes = 'CONFIGURATION CONFIGURATION UNTRUSTED_ORIGIN CREDENTIALS_REJECTED'.replace(/\w+/g, 'ERR_EVERTOKEN_$&');
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, `${codes} ey\n`, '']);
});

test('clients that were forgotten, and not closed, end with the garbage', async (t) => {
  const server = await boxFor(t, { lifetimeMs: 1_000 });
  const code = `
    import { Client } from 'evertoken';
    import { coreOf } from './dist/client.js';
    const [issuer] = process.argv.slice(1);
    const made = [];
    const make = async () => {
      const api = new Client('app', 'secret', { issuer });
      api.on('renewed', () => {});
      await api.token();
      made.push(new WeakRef(coreOf(api)));
    };
    for (let i = 0; i < 20; i++) await make();
    const end = performance.now() + 30_000;
    do {
      await new Promise((resolve) => setTimeout(resolve, 20));
      global.gc();
    } while (made.some((ref) => ref.deref()) && performance.now() < end);
    console.log(made.filter((ref) => ref.deref()).length);
  `;
  const ended = await program(code, { args: [server.issuer], flags: ['--expose-gc'] });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, '0\n', '']);
});

test('the function for credentials outlives its client with what a relative has handed out', async (t) => {
  const server = await boxFor(t);
  const code = `
    import { Client } from 'evertoken';
    import { coreOf } from './dist/client.js';
    const [issuer, baseUrl, audience] = process.argv.slice(1);
    const make = () => {
      const credentials = async () => ({ appId: 'app', appSecret: 'secret' });
      const parent = new Client({ credentials, issuer, baseUrl, tokenTimeoutMs: 20_000 });
      const { fetch } = parent.with({ audience });
      return { fetch, core: new WeakRef(coreOf(parent)), parent: new WeakRef(parent) };
    };
    const made = make();
    const collected = async (name) => {
      for (const end = performance.now() + 30_000; made[name]?.deref() && performance.now() < end; global.gc())
        await new Promise((resolve) => setTimeout(resolve, 20));
      return made[name].deref() === undefined;
    };
    console.log(await collected('parent'));
    console.log(await made.fetch('orders').then(({ status }) => status, ({ message }) => message));
    delete made.fetch;
    console.log(await collected('core'));
  `;
  const ended = await program(code, { args: [server.issuer, server.apiUrl, server.audience], flags: ['--expose-gc'] });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, 'true\n200\ntrue\n', '']);
});

test('tools that look for open handles find none of an idle client', async (t) => {
  const server = await boxFor(t);
  // As `jest --detectOpenHandles` does: what is made under a caller's frame, or triggered by such a thing, and was not destroyed
  // counts as open, unless its `hasRef` says otherwise.
  const code = `
    import { createHook } from 'node:async_hooks';
    import { Client } from 'evertoken';
    import { fixedClient } from 'evertoken/testing';
    const [issuer, baseUrl, audience] = process.argv.slice(1);
    const open = new Map();
    Error.stackTraceLimit = 100;
    const hook = createHook({
      init(id, type, trigger, resource) {
        if (type === 'PROMISE') return;
        const { stack } = new Error();
        if (stack.includes('asCaller') || open.has(trigger)) open.set(id, { type, resource, stack });
      },
      destroy: (id) => open.delete(id),
    }).enable();
    async function asCaller() {
      const api = new Client({ credentials: async () => ({ appId: 'app', appSecret: 'secret' }), issuer, baseUrl });
      const fixed = fixedClient('t0ken', baseUrl);
      const relative = api.with({ audience });
      await Promise.all([api.token(), fixed.token(), relative.token()]);
      return [api, fixed, relative];
    }
    const clients = await asCaller();
    await new Promise((resolve) => setTimeout(resolve, 50));
    hook.disable();
    console.log([...open.values()].filter(({ resource }) => resource.hasRef?.() ?? true).map(({ type }) => type), clients.length);
  `;
  const ended = await program(code, { args: [server.issuer, server.apiUrl, server.audience] });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, '[] 3\n', '']);
});

test('what comes before the thread is free to connect the client is kept', async (t) => {
  const server = await boxFor(t);
  // The event may come after the token, with nothing left that keeps the process.
  stayAwake(t);
  const api = server.client({ credentials: async () => ({ appId: 'app', appSecret: 'secret' }) });
  const renewed = new Promise((resolve) => api.on('renewed', resolve));
  const token = api.token();
  // The question for credentials comes now, while no job can run.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  assert.ok(server.accepts(await token));
  await renewed;
  await api.close();
});
