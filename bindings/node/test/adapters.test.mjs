// The same for each way to send: a token, a 401 that is met, and no token for foreign origins.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';

import axios from 'axios';
import olderAxios from 'axios-older';
import { axiosInterceptor, Client, undiciInterceptor } from 'evertoken';
import * as undici from 'undici';
import { Agent, interceptors, MockAgent, request } from 'undici';

import { boxFor, clientFor, until } from './support.mjs';

const coded = (code) => (error) => (error.code ?? error.cause?.code) === `ERR_EVERTOKEN_${code}`;

/** Sends `method` to `url` by each library: `{ status, body }`. */
const WAYS = {
  fetch:
    (api) =>
    async (url, { method, headers, body } = {}) => {
      const options = body instanceof Readable ? { duplex: 'half' } : {};
      const answer = await api.fetch(url, { method, headers, body, ...options });
      return { status: answer.status, body: await answer.text(), headers: answer.headers };
    },
  Request:
    (api) =>
    async (url, { method, headers, body } = {}) => {
      const options = body instanceof Readable ? { duplex: 'half' } : {};
      const answer = await api.fetch(new Request(url, { method, headers, body, ...options }));
      return { status: answer.status, body: await answer.text(), headers: answer.headers };
    },
  undici: (api, t) => {
    const agent = new Agent();
    t.after(() => agent.destroy());
    const dispatcher = agent.compose(interceptors.redirect({ maxRedirections: 3 }), undiciInterceptor(api));
    return async (url, { method = 'GET', headers, body } = {}) => {
      const answer = await request(url, { dispatcher, method, headers, body });
      return { status: answer.statusCode, body: await answer.body.text() };
    };
  },
  axios: (api) => {
    const instance = axios.create({ validateStatus: () => true });
    axiosInterceptor(api, instance);
    return async (url, { method, headers, body } = {}) => {
      const answer = await instance.request({ url, method, headers, data: body, responseType: 'text' });
      assert.equal(answer.config.headers.has('Authorization'), headers?.authorization !== undefined);
      return { status: answer.status, body: answer.data };
    };
  },
};

for (const [name, way] of Object.entries(WAYS)) {
  describe(name, { concurrency: true }, () => {
    test('calls carry the token', async (t) => {
      const server = await boxFor(t);
      const send = way(clientFor(t, server), t);
      for (let i = 0; i < 3; i++) assert.equal((await send(`${server.apiUrl}orders?page=${i}`)).status, 200);
      assert.equal(server.tokenRequests, 1);
    });

    test('a 401 is met with a newer token, and the body is sent again', async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server);
      const send = way(api, t);
      server.revoke(await api.token());
      const { status, body } = await send(`${server.apiUrl}orders`, {
        method: 'POST',
        body: '{"n":1}',
        headers: { 'content-type': 'application/json', 'x-own': 'stays' },
      });
      assert.equal(status, 200);
      const echo = JSON.parse(body);
      assert.deepEqual([echo.method, echo.body, echo.headers['x-own']], ['POST', '{"n":1}', 'stays']);
      assert.deepEqual([server.tokenRequests, server.apiCalls], [2, 2]);
    });

    test('so is one that answers a HEAD, or it is handed on', async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server);
      const send = way(api, t);
      server.revoke(await api.token());
      assert.equal((await send(`${server.apiUrl}orders`, { method: 'HEAD' })).status, 200);
      assert.deepEqual([server.tokenRequests, server.apiCalls], [2, 2]);
      assert.equal((await send(`${server.apiUrl}always-401`, { method: 'HEAD' })).status, 401);
      server.setNonce('nonce-1', { at: 'api' });
      const bound = way(clientFor(t, server, { dpop: true }), t);
      for (let i = 0; i < 2; i++) assert.equal((await bound(`${server.apiUrl}orders`, { method: 'HEAD' })).status, 200);
      assert.equal((await bound(`${server.apiUrl}forbidden`, { method: 'HEAD' })).status, 403);
    });

    test('fifty calls that meet a 401 at once renew it once', async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server);
      const send = way(api, t);
      server.revoke(await api.token());
      const answers = await Promise.all(Array.from({ length: 50 }, () => send(`${server.apiUrl}orders`)));
      assert.ok(answers.every(({ status }) => status === 200));
      assert.equal(server.tokenRequests, 2);
    });

    test('a route that always answers 401 costs one replay, and others go on', async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server);
      const send = way(api, t);
      for (let i = 0; i < 4; i++) assert.equal((await send(`${server.apiUrl}always-401`)).status, 401);
      assert.equal(server.tokenRequests, 2);
      assert.equal(server.apiCalls, 5);
      assert.equal((await send(`${server.apiUrl}orders`)).status, 200);
    });

    test('other answers are handed on', async (t) => {
      const server = await boxFor(t);
      const send = way(clientFor(t, server), t);
      assert.equal((await send(`${server.apiUrl}forbidden`)).status, 403);
      server.fail({ kind: 'status', status: 503, body: 'later' }, { at: 'api' });
      assert.deepEqual((await send(`${server.apiUrl}orders`)).body, 'later');
      assert.deepEqual([server.tokenRequests, server.apiCalls], [1, 2]);
    });

    test('a stream is not sent twice', async (t) => {
      const server = await boxFor(t);
      const api = clientFor(t, server);
      const send = way(api, t);
      const token = await api.token();
      server.revoke(token);
      const { status } = await send(`${server.apiUrl}orders`, { method: 'POST', body: Readable.from([Buffer.from('{}')]) });
      // A request keeps a copy of its body, as its own `clone` makes it.
      assert.equal(status, name === 'Request' ? 200 : 401);
      assert.notEqual(await api.token(), token, 'it is renewed all the same');
    });

    test('no token goes to a foreign origin', async (t) => {
      const server = await boxFor(t);
      const foreign = await boxFor(t);
      const send = way(clientFor(t, server), t);
      await assert.rejects(send(`${foreign.apiUrl}public`), coded('UNTRUSTED_ORIGIN'));
      assert.deepEqual([foreign.apiCalls, server.tokenRequests], [0, 0]);
    });

    test('a redirect takes it to no other origin', async (t) => {
      const server = await boxFor(t);
      const foreign = await boxFor(t);
      const api = clientFor(t, server, { trustedOrigins: [] });
      const send = way(api, t);
      const there = await send(`${server.apiUrl}redirect?to=${encodeURIComponent(`${foreign.apiUrl}public`)}`);
      assert.deepEqual([there.status, JSON.parse(there.body).authorization], [200, false]);
      // Within the origin it goes along.
      const here = await send(`${server.apiUrl}redirect?to=${encodeURIComponent(`${server.apiUrl}orders`)}`);
      assert.equal(here.status, 200);
      // A 401 from there says nothing about it.
      await send(`${server.apiUrl}redirect?to=${encodeURIComponent(`${foreign.apiUrl}orders`)}`);
      assert.equal(server.tokenRequests, 1);
    });

    test('a 401 from another trusted origin, to which a redirect took no token, says nothing about it', async (t) => {
      const server = await boxFor(t);
      const other = await boxFor(t);
      const send = way(clientFor(t, server, { trustedOrigins: [other.apiUrl] }), t);
      const { status } = await send(`${server.apiUrl}redirect?to=${encodeURIComponent(`${other.apiUrl}orders`)}`);
      assert.deepEqual([status, server.tokenRequests, other.apiCalls], [401, 1, 1]);
    });

    test('an authorization of ones own stands', async (t) => {
      const server = await boxFor(t);
      const send = way(clientFor(t, server), t);
      assert.equal((await send(`${server.apiUrl}orders`, { headers: { authorization: 'Bearer nonsense' } })).status, 401);
      assert.deepEqual([server.tokenRequests, server.apiCalls], [0, 1]);
    });

    test('under DPoP there is a proof for each sending, with the nonce', async (t) => {
      const server = await boxFor(t);
      server.setNonce('nonce-1', { at: 'api' });
      const api = clientFor(t, server, { dpop: true });
      const send = way(api, t);
      for (let i = 0; i < 2; i++) assert.equal((await send(`${server.apiUrl}orders?x=1`)).status, 200);
      assert.deepEqual([server.tokenRequests, server.apiCalls], [1, 3]);
      server.revoke(await api.token());
      assert.equal((await send(`${server.apiUrl}orders`)).status, 200);
      assert.equal(server.tokenRequests, 2);
      await assert.rejects(api.authorization(), /use `headers/);
      if (name !== 'undici') {
        // Its redirects are its own affair there, each with a proof for another URL than it goes to, so that it is refused.
        assert.equal((await send(`${server.apiUrl}redirect?to=${encodeURIComponent(`${server.apiUrl}orders`)}`)).status, 307);
      }
    });

    test('an error of the wait is the error of the call', async (t) => {
      const server = await boxFor(t);
      const api = new Client('app', 'wr0ng-s3cret', { issuer: server.issuer, baseUrl: server.apiUrl });
      t.after(() => api.close());
      const send = way(api, t);
      await assert.rejects(send(`${server.apiUrl}orders`), coded('CREDENTIALS_REJECTED'));
      assert.equal(server.apiCalls, 0);
    });
  });
}

test('a request of another library goes with its own fetch, or is a mistake', async (t) => {
  const server = await boxFor(t);
  const post = { method: 'POST', body: '{"n":1}', headers: { 'x-own': 'stays' } };
  const theirs = (path) => new undici.Request(`${server.apiUrl}${path}`, post);
  const api = clientFor(t, server, { fetch: undici.fetch });
  server.revoke(await api.token());
  const { method, body, headers } = await (await api.fetch(theirs('orders'))).json();
  assert.deepEqual([method, body, headers['x-own']], ['POST', '{"n":1}', 'stays']);
  assert.deepEqual([server.tokenRequests, server.apiCalls], [2, 2]);
  const { fetch } = clientFor(t, server);
  for (const input of [theirs('orders'), { url: `${server.apiUrl}orders` }, undefined, null, 7]) {
    await assert.rejects(fetch(input), coded('CONFIGURATION'), String(input));
  }
  assert.equal(server.apiCalls, 2);
});

test('paths are appended to the base, and what leads elsewhere is refused', async (t) => {
  const server = await boxFor(t);
  const { fetch } = clientFor(t, server, { userAgent: 'acme-sdk/1.2' });
  for (const path of ['orders', '/orders', './orders']) {
    const echo = await (await fetch(path)).json();
    assert.equal(echo.path, '/v1/orders');
    assert.match(echo.headers['user-agent'], /^acme-sdk\/1\.2 evertoken\/\d/);
  }
  assert.equal((await fetch(new URL('orders', server.apiUrl))).status, 200);
  for (const path of ['//evil.example/x', '../admin', 'a/%2e%2e/b', '\\\\evil.example', 'ftp://x.example/']) {
    await assert.rejects(fetch(path), coded('CONFIGURATION'), path);
  }
  const without = new Client('app', 'secret', { issuer: server.issuer });
  t.after(() => without.close());
  await assert.rejects(without.fetch('orders'), /no `baseUrl`/);
  assert.throws(() => undiciInterceptor(without), coded('CONFIGURATION'));
  assert.throws(() => axiosInterceptor(without, axios.create()), coded('CONFIGURATION'));
  assert.throws(() => undiciInterceptor({}), coded('CONFIGURATION'));
});

// All of 127.0.0.0/8 is loopback on Linux. Axios of some years ago sends it along by itself.
for (const library of [axios, olderAxios])
  test(`a redirect to a subdomain gets no token from axios ${library.VERSION} either`, {
    skip: process.platform !== 'linux',
  }, async (t) => {
    const server = await boxFor(t);
    const { port } = new URL(server.apiUrl);
    let came;
    // To axios's redirects, a subdomain at the same port is the same place.
    const foreign = createServer((incoming, answer) => {
      came = incoming.headers;
      answer.end('{}');
    }).listen(Number(port), '127.0.0.2');
    t.after(() => foreign.close());
    await once(foreign, 'listening');
    const lookup = (name, options, done) => {
      const address = name === 'localhost' ? '127.0.0.1' : '127.0.0.2';
      return options.all ? done(null, [{ address, family: 4 }]) : done(null, address, 4);
    };
    const api = clientFor(t, server, { baseUrl: `http://localhost:${port}/v1/` });
    const instance = library.create({ lookup });
    const remove = axiosInterceptor(api, instance);
    const to = `http://sub.localhost:${port}/`;
    await instance.get(`http://localhost:${port}/v1/redirect?to=${encodeURIComponent(to)}`);
    assert.equal(came.host, `sub.localhost:${port}`);
    assert.equal(came.authorization, undefined);
    remove();
    const bare = await instance.get(`http://localhost:${port}/v1/orders`).catch((error) => error.response);
    assert.equal(bare.status, 401);
  });

for (const method of ['GET', 'HEAD'])
  test(`undici: a ${method} that waits for a newer token ends with its signal`, async (t) => {
    const server = await boxFor(t);
    const api = clientFor(t, server);
    const agent = new Agent();
    t.after(() => agent.destroy());
    const dispatcher = agent.compose(undiciInterceptor(api));
    server.revoke(await api.token());
    server.fail({ kind: 'hang' }, { always: true });
    const abort = new AbortController();
    const reason = new Error('no more');
    const sent = request(`${server.apiUrl}orders`, { dispatcher, method, signal: abort.signal });
    await until('it is met', () => server.tokenRequests === 2);
    abort.abort(reason);
    await assert.rejects(sent, (error) => error === reason);
  });

test('undici: an answer of its mock comes whole, which heeds no pause', async (t) => {
  const server = await boxFor(t);
  const mock = new MockAgent();
  mock.disableNetConnect();
  t.after(() => mock.close());
  const pool = mock.get(new URL(server.apiUrl).origin);
  const send = async (body) => {
    const dispatcher = mock.compose(undiciInterceptor(clientFor(t, server)));
    const answer = await request(`${server.apiUrl}orders`, { dispatcher, method: 'POST', body });
    return [answer.statusCode, await answer.body.text()];
  };
  const meet = (...answer) => pool.intercept({ path: '/v1/orders', method: 'POST' }).reply(...answer);
  meet(401, 'refused');
  assert.deepEqual(await send(Readable.from(['{}'])), [401, 'refused']);
  meet(401, 'refused');
  meet(200, 'met');
  assert.deepEqual(await send('{}'), [200, 'met']);
  meet(401, 'refused');
  await assert.rejects(send('{}'), /not matched|did not match|MockNotMatched/i);
});

test('axios errors hold no token', async (t) => {
  const server = await boxFor(t);
  const api = clientFor(t, server);
  const instance = axios.create({ baseURL: server.apiUrl });
  axiosInterceptor(api, instance);
  server.fail({ kind: 'reset' }, { at: 'api' });
  for (const path of ['orders', 'forbidden', 'always-401']) {
    const error = await instance.get(path).then(assert.fail, (error) => error);
    assert.ok(!JSON.stringify(error.toJSON?.() ?? error).includes(await api.token()), path);
  }
});

test('axios: a call that is made of the config of a failed one is a call of its own', async (t) => {
  const server = await boxFor(t);
  server.register('other', 's');
  const failures = {
    'no answer': () => server.fail({ kind: 'reset' }, { at: 'api' }),
    'a 503': () => server.fail({ kind: 'status', status: 503 }, { at: 'api' }),
    'a last 401': (config) => (config.url = 'always-401'),
    'a 401 that is met, and then no answer': async (_config, api, instance) => {
      server.revoke(await api.token());
      let sendings = 0;
      instance.interceptors.request.use((config) => {
        if (++sendings === 2) server.fail({ kind: 'reset' }, { at: 'api' });
        return config;
      });
    },
  };
  for (const [what, fail] of Object.entries(failures)) {
    const api = clientFor(t, server);
    const instance = axios.create({ baseURL: server.apiUrl });
    axiosInterceptor(api, instance);
    const own = { url: 'orders', beforeRedirect() {} };
    await fail(own, api, instance);
    const { config } = await instance.request(own).then(assert.fail, (error) => error);
    assert.equal(config.beforeRedirect, own.beforeRedirect, what);
    api.setCredentials('other', 's');
    const { data } = await instance.request({ ...config, url: 'orders' });
    assert.equal(data.client_id, 'other', `${what}: with the token of now`);
  }
});

test('axios: an authorization of ones own is not taken from the error of its call', async (t) => {
  const server = await boxFor(t);
  const instance = axios.create({ baseURL: server.apiUrl });
  axiosInterceptor(clientFor(t, server), instance);
  const error = await instance.get('orders', { headers: { authorization: 'Bearer own' } }).then(assert.fail, (error) => error);
  assert.equal(error.config.headers.get('authorization'), 'Bearer own');
});

test('a text that is no token signs nothing', async (t) => {
  const { Call } = await import('../dist/call.js');
  const { coreOf } = await import('../dist/client.js');
  const server = await boxFor(t);
  const call = new Call(coreOf(clientFor(t, server, { dpop: true })), 'no token');
  assert.throws(() => call.sign('GET', server.apiUrl), /the token of this call is none/);
  assert.equal(await call.repeats({ url: server.apiUrl, status: 401, headers: [], repeatable: true }), false);
});
