// Bodies: what can be sent again is, whichever realm and library it is of; and an answer that nobody reads is let go of.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { createContext, runInContext } from 'node:vm';
import { gzipSync } from 'node:zlib';

import axios from 'axios';
import olderAxios from 'axios-older';
import { axiosInterceptor, undiciInterceptor } from 'evertoken';
import nodeFetch, { FormData as NodeFetchFormData, Request as NodeFetchRequest } from 'node-fetch';
import olderNodeFetch from 'node-fetch-2';
import * as undici from 'undici';

import { boxFor, clientFor, program } from './support.mjs';

const BYTES = [...Buffer.from('{"n":1}')];
const realm = createContext({ FormData, Blob, URL, bytes: BYTES });
const elsewhere = (code) => runInContext(code, realm);

const form = (Form) => {
  const made = new Form();
  made.append('n', '1');
  return made;
};
const isJson = (echo) => assert.equal(echo.body, '{"n":1}');
const isForm = (echo) => {
  const [, boundary] = echo.headers['content-type'].match(/^multipart\/form-data;\s*boundary=(.+)$/);
  assert.match(echo.body, /name="n"\r\n[\s\S]*\r\n1\r\n/);
  assert.ok(echo.body.startsWith(`--${boundary}`), echo.body);
};

/** What can be sent again, and what the API must see of it. */
const BODIES = {
  text: [() => '{"n":1}', isJson],
  Buffer: [() => Buffer.from(BYTES), isJson],
  ArrayBuffer: [() => new Uint8Array(BYTES).buffer, isJson],
  'a part of a larger ArrayBuffer': [() => new Uint8Array([7, ...BYTES, 7]).subarray(1, -1), isJson],
  Int8Array: [() => new Int8Array(BYTES), isJson],
  'ArrayBuffer of another realm': [() => elsewhere('new Uint8Array(bytes).buffer'), isJson],
  'Uint8Array of another realm': [() => elsewhere('new Uint8Array(bytes)'), isJson],
  'DataView of another realm': [() => elsewhere('new DataView(new Uint8Array(bytes).buffer)'), isJson],
  Blob: [() => new Blob(['{"n":1}']), isJson],
  URLSearchParams: [() => new URLSearchParams({ n: '1' }), (echo) => assert.equal(echo.body, 'n=1')],
  FormData: [() => form(FormData), isForm],
  'FormData of a class of its own': [() => form(class extends FormData {}), isForm],
};

const FORMS = ['FormData', 'FormData of a class of its own'];

/** Each way to send a body, and those bodies that it does not know. */
const WAYS = {
  fetch: {
    send: (api) => async (url, body) => (await api.fetch(url, { method: 'POST', body })).json(),
  },
  'fetch with a Request': {
    send: (api) => async (url, body) => (await api.fetch(new Request(url, { method: 'POST', body }))).json(),
  },
  'fetch of undici': {
    options: { fetch: undici.fetch },
    send: (api) => async (url, body) => (await api.fetch(url, { method: 'POST', body })).json(),
    more: { 'its own FormData': [() => form(undici.FormData), isForm] },
    without: FORMS,
  },
  'node-fetch': {
    options: { fetch: nodeFetch },
    send: (api) => async (url, body) => (await api.fetch(url, { method: 'POST', body })).json(),
    more: { 'its own FormData': [() => form(NodeFetchFormData), isForm] },
    // It knows those of its realm.
    without: ['ArrayBuffer of another realm', 'Uint8Array of another realm', 'DataView of another realm', 'Int8Array'],
  },
  'node-fetch 2': {
    options: { fetch: olderNodeFetch },
    send: (api) => async (url, body) => (await api.fetch(url, { method: 'POST', body })).json(),
    without: [...FORMS, 'Blob'],
  },
  undici: {
    send: (api, t) => {
      const dispatcher = new undici.Agent().compose(undiciInterceptor(api));
      t.after(() => dispatcher.destroy());
      return async (url, body) => (await undici.request(url, { dispatcher, method: 'POST', body })).body.json();
    },
    more: {
      'its own FormData': [() => form(undici.FormData), isForm],
      'a list of chunks': [() => [Buffer.from('{"n"'), Buffer.from(':1}')], isJson],
    },
    without: ['URLSearchParams', 'ArrayBuffer of another realm', ...FORMS],
  },
  'fetch of the platform with a dispatcher of undici': {
    send: (api, t) => {
      const dispatcher = new undici.Agent().compose(undiciInterceptor(api));
      t.after(() => dispatcher.destroy());
      return async (url, body) => (await fetch(url, { dispatcher, method: 'POST', body })).json();
    },
  },
  'fetch of undici with a dispatcher of its own': {
    send: (api, t) => {
      const dispatcher = new undici.Agent().compose(undiciInterceptor(api));
      t.after(() => dispatcher.destroy());
      return async (url, body) => (await undici.fetch(url, { dispatcher, method: 'POST', body })).json();
    },
    more: { 'its own FormData': [() => form(undici.FormData), isForm] },
    without: FORMS,
  },
};
for (const library of [axios, olderAxios]) {
  WAYS[`axios ${library.VERSION}`] = {
    send: (api) => {
      const instance = library.create();
      axiosInterceptor(api, instance);
      return async (url, body, headers) => (await instance.post(url, body, { headers })).data;
    },
    more: {
      'an object': [() => ({ n: 1 }), isJson],
      'an object as a form': [() => ({ n: 1 }), isForm, { 'content-type': 'multipart/form-data' }],
    },
    // It sends the whole.
    without: ['a part of a larger ArrayBuffer'],
  };
  WAYS[`axios ${library.VERSION} over fetch`] = {
    send: (api) => {
      const instance = library.create({ adapter: 'fetch' });
      axiosInterceptor(api, instance);
      return async (url, body) => (await instance.post(url, body)).data;
    },
    more: { 'an object': [() => ({ n: 1 }), isJson] },
    // Its `Content-Type` is that of another form.
    without: ['a part of a larger ArrayBuffer', ...FORMS],
  };
}

for (const [name, { send: way, options, more = {}, without = [] }] of Object.entries(WAYS)) {
  describe(`${name} sends again after a 401`, { concurrency: 2 }, () => {
    for (const [what, [make, isWhole, headers]] of Object.entries({ ...BODIES, ...more })) {
      if (without.includes(what)) continue;
      test(what, async (t) => {
        const server = await boxFor(t);
        const api = clientFor(t, server, options);
        const send = way(api, t);
        // What the library makes of it when nothing is sent again.
        await api.token();
        isWhole(await send(`${server.apiUrl}orders`, make(), headers));
        server.revoke(await api.token());
        isWhole(await send(`${server.apiUrl}orders`, make(), headers));
        assert.deepEqual([server.tokenRequests, server.apiCalls], [2, 3]);
      });
    }
  });
}

/** What is read once, and must not be taken for what can be sent again. */
const STREAMS = {
  'a stream of Node': () => Readable.from([Buffer.from(BYTES)]),
  'a stream of the web': () => Readable.toWeb(Readable.from([Buffer.from(BYTES)])),
  'a generator': async function* () {
    yield Buffer.from(BYTES);
  },
};

for (const [name, { send: way, options }] of Object.entries(WAYS)) {
  if (!['undici', `axios ${axios.VERSION}`].includes(name)) continue;
  for (const [what, make] of Object.entries(STREAMS)) {
    // Axios knows streams of Node's alone.
    if (name.startsWith('axios') && what !== 'a stream of Node') continue;
    test(`${name} does not send ${what} again`, async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server, options);
      const token = await api.token();
      server.revoke(token);
      await way(api, t)(`${server.apiUrl}orders`, make()).catch(() => {});
      assert.notEqual(await api.token(), token, 'it is renewed all the same');
      assert.equal(server.apiCalls, 1);
    });
  }
}

test('axios does not send a form again that holds a stream', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const instance = axios.create({ validateStatus: () => true });
  axiosInterceptor(api, instance);
  server.revoke(await api.token());
  const headers = { 'content-type': 'multipart/form-data' };
  const { status } = await instance.post(`${server.apiUrl}orders`, { deep: [{ file: Readable.from(['x']) }] }, { headers });
  assert.deepEqual([status, server.apiCalls], [401, 1]);
});

test('axios transforms a body once for each sending', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const instance = axios.create({ transformRequest: [(data) => `<${data}>`] });
  axiosInterceptor(api, instance);
  server.revoke(await api.token());
  const { data } = await instance.post(`${server.apiUrl}orders`, 'x');
  assert.deepEqual([data.body, server.apiCalls], ['<x>', 2]);
});

/** An API that refuses the first call with an answer of `refuse`'s, and then answers with the length of what it got. */
async function apiFor(t, refuse = (answer) => answer.writeHead(401).end('refused')) {
  const seen = { calls: 0, open: 0 };
  const server = createServer(async (incoming, answer) => {
    seen.calls += 1;
    seen.type = incoming.headers['content-type'];
    let length = 0;
    for await (const chunk of incoming) length += chunk.length;
    if (seen.calls === 1) refuse(answer);
    else answer.end(`${length}`);
  }).listen(0, '127.0.0.1');
  server.on('connection', (socket) => {
    seen.open += 1;
    socket.on('close', () => (seen.open -= 1));
  });
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${server.address().port}/`, seen };
}

for (const [size, calls] of [
  [2 ** 20, 2],
  [2 ** 24 + 1, 1],
]) {
  test(`a body of \`fetch\` with ${size} bytes goes over undici ${calls === 2 ? 'again' : 'once'}`, async (t) => {
    const server = await boxFor(t);
    const { url, seen } = await apiFor(t);
    const dispatcher = new undici.Agent().compose(undiciInterceptor(clientFor(t, server, { trustedOrigins: [url] })));
    t.after(() => dispatcher.destroy());
    const answer = await fetch(url, { dispatcher, method: 'POST', body: 'x'.repeat(size) });
    assert.equal(await answer.text(), calls === 2 ? `${size}` : 'refused');
    assert.equal(seen.calls, calls);
  });
}

test('a stream of a fixed length is not kept as a body of `fetch`', async (t) => {
  const server = await boxFor(t);
  const { url, seen } = await apiFor(t);
  const dispatcher = new undici.Agent().compose(undiciInterceptor(clientFor(t, server, { trustedOrigins: [url] })));
  t.after(() => dispatcher.destroy());
  const body = Readable.from([Buffer.from('1234')]);
  const answer = await undici.request(url, { dispatcher, method: 'POST', body, headers: { 'content-length': '4' } });
  assert.deepEqual([await answer.body.text(), seen.calls], ['refused', 1]);
});

/** Answers to a refused call, of which none may be in the way of the next one or stay behind. */
const REFUSALS = {
  short: (answer) => answer.writeHead(401).end('refused'),
  empty: (answer) => answer.writeHead(401).end(),
  long: (answer) => answer.writeHead(401).end('x'.repeat(2 ** 21)),
  compressed: (answer) => answer.writeHead(401, { 'content-encoding': 'gzip' }).end(gzipSync('refused')),
  'never-ending': (answer) => answer.writeHead(401).write('refused'),
  'broken off': (answer) => {
    answer.writeHead(401, { 'content-length': '100' }).write('refused');
    setTimeout(() => answer.destroy(), 20);
  },
};

/** Ways to call in which an answer is a stream; each prints what it got. */
const READERS = {
  'node-fetch': `
    import fetch from 'node-fetch';
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url], fetch });
    console.log(await (await api.fetch(url, { method: 'POST', body: 'body' })).text());`,
  'node-fetch 2': `
    import fetch from 'node-fetch-2';
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url], fetch });
    console.log(await (await api.fetch(url, { method: 'POST', body: 'body' })).text());`,
  ...Object.fromEntries(
    ['axios', 'axios-older'].flatMap((library) =>
      ['throws', 'does not throw'].map((way) => [
        `${library} with a stream, where a 401 ${way}`,
        `
    import axios from '${library}';
    import { Agent } from 'node:http';
    import { text } from 'node:stream/consumers';
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url] });
    const http = axios.create({ responseType: 'stream', httpAgent: new Agent({ keepAlive: true }) });
    ${way === 'throws' ? '' : 'http.defaults.validateStatus = () => true;'}
    axiosInterceptor(api, http);
    console.log(await text((await http.post(url, 'body')).data));`,
      ]),
    ),
  ),
  undici: `
    import { Agent, request } from 'undici';
    import { undiciInterceptor } from 'evertoken';
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url] });
    const dispatcher = new Agent().compose(undiciInterceptor(api));
    console.log(await (await request(url, { dispatcher, method: 'POST', body: 'body' })).body.text());`,
  'fetch with a dispatcher of undici': `
    import { Agent } from 'undici';
    import { undiciInterceptor } from 'evertoken';
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url] });
    const dispatcher = new Agent().compose(undiciInterceptor(api));
    console.log(await (await fetch(url, { dispatcher, method: 'POST', body: 'body' })).text());`,
  fetch: `
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url] });
    console.log(await (await api.fetch(url, { method: 'POST', body: 'body' })).text());`,
  'axios over fetch with a stream': `
    import axios from 'axios';
    import { text } from 'node:stream/consumers';
    const api = new Client('app', 'secret', { issuer, trustedOrigins: [url] });
    const http = axios.create({ responseType: 'stream', adapter: 'fetch' });
    axiosInterceptor(api, http);
    console.log(await text((await http.post(url, 'body')).data));`,
};

for (const [name, code] of Object.entries(READERS)) {
  describe(`${name}: the answer of a 401 is let go of`, { concurrency: 2 }, () => {
    for (const [what, refuse] of Object.entries(REFUSALS)) {
      // What is behind the stream of this old one cannot be reached.
      if (name === 'node-fetch 2' && what === 'never-ending') continue;
      test(what, async (t) => {
        const server = await boxFor(t);
        const { url, seen } = await apiFor(t, refuse);
        const begin = `
    import { axiosInterceptor, Client } from 'evertoken';
    const [issuer, url] = process.argv.slice(1);`;
        // It ends by itself, as nothing is open any more.
        const ended = await program(begin + code, { args: [server.issuer, url] });
        assert.deepEqual([ended.stdout, ended.stderr, ended.status], ['4\n', '', 0]);
        assert.deepEqual([seen.calls, server.tokenRequests], [2, 2]);
      });
    }
  });
}

const ABORTED = {
  'node-fetch': "(await import('node-fetch')).default",
  'node-fetch 2': "(await import('node-fetch-2')).default",
  axios: "(await import('axios')).default",
  'axios of some years ago': "(await import('axios-older')).default",
};

for (const [name, library] of Object.entries(ABORTED)) {
  test(`${name}: a wait for a newer token that is aborted lets go of the answer, whose error ends nothing`, async (t) => {
    const { url } = await apiFor(t, REFUSALS['never-ending']);
    const code = `
      import { axiosInterceptor, Client } from 'evertoken';
      import { AuthServer } from 'evertoken/testing';
      const library = ${library};
      const [url] = process.argv.slice(1);
      const server = await AuthServer.start();
      const control = new AbortController();
      const isAxios = library.create !== undefined;
      const logger = { info: () => setImmediate(() => control.abort(new Error('no more'))) };
      const fetch = isAxios ? undefined : library;
      const api = new Client('app', 'secret', { issuer: server.issuer, trustedOrigins: [url], fetch, logger });
      await api.token();
      server.fail({ kind: 'hang' }, { always: true });
      const http = isAxios && library.create({ responseType: 'stream' });
      if (isAxios) axiosInterceptor(api, http);
      const sent = isAxios ? http.get(url, { signal: control.signal }) : api.fetch(url, { signal: control.signal });
      console.log((await sent.catch((error) => error)).message);
      server.stop();
    `;
    const { status, stdout, stderr } = await program(code, { args: [url] });
    assert.deepEqual([status, stdout, stderr], [0, 'no more\n', '']);
  });
}

for (const [name, { fetch, Request }] of Object.entries({
  'node-fetch': { fetch: nodeFetch, Request: NodeFetchRequest },
  'node-fetch 2': { fetch: olderNodeFetch, Request: olderNodeFetch.Request },
})) {
  const stream = () => Readable.from(Array.from({ length: 1024 }, () => Buffer.alloc(4096, 'x')));
  for (const [what, make, length] of [
    ['a text', () => '{"n":1}', 7],
    ['a long stream', stream, 2 ** 22],
  ]) {
    test(`a request of ${name} with ${what} goes over, and again after a 401`, async (t) => {
      const server = await boxFor(t);
      const { url, seen } = await apiFor(t);
      const api = clientFor(t, server, { fetch, trustedOrigins: [url] });
      const headers = { 'content-type': 'text/own' };
      const answer = await api.fetch(new Request(url, { method: 'POST', body: make(), headers }));
      assert.deepEqual([await answer.text(), seen.calls, seen.type], [`${length}`, 2, 'text/own']);
    });
  }
}
