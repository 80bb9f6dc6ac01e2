// Against `oidc-provider`, an authorization server that this project did not write; see tests/conformance/server.mjs.
import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { Client } from 'evertoken';

import { startProvider, until } from './support.mjs';

describe('oidc-provider', () => {
  let provider;
  before(async () => {
    provider = await startProvider();
  });
  after(() => {
    // It ends with its standard input.
    provider.child.stdin.end();
  });
  const clients = [];
  after(() => Promise.all(clients.map((api) => api.close())));
  const client = ({ client_id, client_secret = '' }, options) => {
    const api = new Client(client_id, client_secret, { issuer: provider.issuer, ...options });
    clients.push(api);
    return api;
  };
  const requests = async () => (await fetch(`${provider.issuer}/control/requests`)).json();
  const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

  test('id and secret that need encoding throughout, by Basic and by post', async () => {
    const earlier = (await requests()).length;
    const token = await client(provider.basic, { resource: provider.resource, scope: 'orders:read' }).token();
    assert.equal(claims(token).aud, provider.resource);
    assert.ok(await client(provider.post, { clientAuth: 'client_secret_post' }).token());
    assert.deepEqual((await requests()).slice(earlier), [
      { auth: 'basic', status: 200 },
      { auth: 'post', status: 200 },
    ]);
  });

  test('assertions, by secret and by key, in each form of a key', async () => {
    assert.ok(await client(provider.mac, { clientAuth: { method: 'client_secret_jwt', algorithm: 'HS256' } }).token());
    for (const { alg, client_id, key } of provider.keys) {
      const forms =
        alg === 'RS256' ? [key, Buffer.from(key), createPrivateKey(key)] : [key.startsWith('{') ? JSON.parse(key) : key];
      for (const form of forms) {
        const clientAuth = { method: 'private_key_jwt', key: form, ...(alg === 'PS256' && { algorithm: 'PS256' }) };
        assert.ok(await client({ client_id }, { clientAuth }).token(), alg);
      }
    }
  });

  test('DPoP with nonces', async () => {
    const api = client(provider.bound, { dpop: true, baseUrl: 'https://api.example.com/' });
    const { authorization, dpop } = await api.headers('GET', 'https://api.example.com/orders');
    assert.match(authorization, /^DPoP /);
    assert.equal(claims(dpop).htu, 'https://api.example.com/orders');
  });

  test('a refusal is told with its code', async () => {
    const wrong = client({ ...provider.basic, client_secret: 'wr0ng' });
    await assert.rejects(wrong.token(), { code: 'ERR_EVERTOKEN_CREDENTIALS_REJECTED', oauthError: 'invalid_client' });
    const scope = client(provider.post, { clientAuth: 'client_secret_post', scope: 'orders:write' });
    await assert.rejects(scope.token(), { code: 'ERR_EVERTOKEN_REQUEST_REFUSED', oauthError: 'invalid_scope' });
  });

  test('tokens of 3 s are renewed before they expire', async () => {
    const api = client(provider.basic, { resource: provider.resource });
    const seen = new Set([await api.token()]);
    await until('there are three', async () => {
      // Looked at beforehand: a machine may stand still between the read and the next line.
      const before = Date.now();
      const token = api.currentToken() ?? (await api.token());
      assert.ok(claims(token).exp * 1_000 > before, 'an expired token');
      return seen.add(token).size >= 3;
    });
  });
});
