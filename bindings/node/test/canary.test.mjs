// Secrets and tokens appear nowhere but on the wire.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { format, inspect } from 'node:util';

import axios from 'axios';
import { axiosInterceptor, Client, Preset } from 'evertoken';
import { fixedClient } from 'evertoken/testing';

import { boxFor } from './support.mjs';

const CANARY = 'c4nary';
const SECRET = `s3cret-${CANARY}:+/&= "\\`;

/** What must not be put out: the secret in the forms that it may take on its way, and whatever is a JWT. */
const FORBIDDEN = [
  CANARY,
  'eyJ',
  ...[0, 1, 2].map((shift) => {
    // The middle of it in base64, whatever stands before.
    const text = Buffer.from(`${'x'.repeat(shift)}${CANARY}`)
      .toString('base64')
      .replace(/=/g, '');
    return text.slice(shift === 0 ? 0 : shift + 1, -1);
  }),
];

const output = [];
const show = (thing) => {
  const forms = [
    inspect(thing),
    inspect(thing, { depth: 9, showHidden: true, getters: true }),
    format('%s %o %j', thing, thing, thing),
  ];
  if (thing instanceof Error) forms.push(thing.stack, String(thing), inspect(thing.cause));
  output.push(...forms);
};

test('nothing secret is put out', async (t) => {
  const server = await boxFor(t);
  server.register('app', SECRET);
  const logger = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, (text) => output.push(text)]));
  const open = (options, secret = SECRET) =>
    new Client('app', secret, { issuer: server.issuer, baseUrl: server.apiUrl, tokenTimeoutMs: 1_500, logger, ...options });
  const clients = [];
  const keep = (api) => {
    clients.push(api);
    for (const kind of ['renewed', 'renewalFailed', 'credentialsRejected', 'invalidated', 'quotaLow', 'closed'])
      api.on(kind, show);
    return api;
  };

  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const api = keep(open());
  const token = await api.token();
  show(api);
  show(api.status());
  show(api.events());
  show(await api.fetch('orders'));
  show(new Preset({ issuer: server.issuer, tokenParams: { extra: SECRET } }));
  output.push(inspect(server), JSON.stringify(server));
  show(server.log);
  show(fixedClient(`eyJ${CANARY}`, server.apiUrl));
  server.revoke(token);
  show(await api.fetch('orders'));
  const bound = keep(open({ dpop: { key: privateKey } }));
  await bound.token();
  show(bound);
  const instance = axios.create({ baseURL: server.apiUrl });
  axiosInterceptor(api, instance);
  const answer = await instance.get('forbidden').catch((error) => error);
  output.push(inspect(answer.config), JSON.stringify(answer.toJSON()), answer.stack);

  // Everything that a token endpoint could say with our secret or a token in it.
  const jwt = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln';
  const json = (status, body) => ({
    kind: 'status',
    status,
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
  });
  for (const fault of [
    { kind: 'oauth', status: 401, error: 'invalid_client', description: `wrong secret ${SECRET}` },
    { kind: 'oauth', status: 400, error: SECRET, description: `${SECRET}, was it` },
    { kind: 'status', status: 500, body: `<p>${SECRET}</p>` },
    { kind: 'status', status: 307, headers: { location: `https://as.example/?${encodeURIComponent(SECRET)}` } },
    json(200, { access_token: `${jwt}\r\n`, token_type: 'Bearer' }),
    json(200, { access_token: jwt, token_type: `x ${jwt}` }),
    json(400, { error: jwt, error_description: jwt, access_token: jwt }),
    { kind: 'garbage' },
    { kind: 'tornBody' },
  ]) {
    server.fail(fault, { always: true });
    const spoilt = keep(open());
    show(
      await spoilt.token().then(
        () => 'one that is taken',
        (error) => error,
      ),
    );
    show(await spoilt.fetch('orders').catch((error) => error));
    show(spoilt.status());
    server.heal();
  }

  // Mistakes of whoever sets it up or calls it.
  for (const mistaken of [
    () => open({ [SECRET]: 1 }),
    () => open({ issuer: `https://app:${CANARY}@as.example/` }),
    () => open({ baseUrl: `https://${CANARY}@api.example/` }),
    () => open({ baseUrl: { secret: SECRET } }),
    () => open({ tokenParams: { client_secret: SECRET } }),
    () => open({ cert: `-----BEGIN ${CANARY}` }),
    () =>
      open({
        clientAuth: { method: 'private_key_jwt', key: `-----BEGIN PRIVATE KEY-----\n${CANARY}\n-----END PRIVATE KEY-----` },
      }),
    () => open({ dpop: { key: { kty: 'EC', crv: 'P-256', d: CANARY } } }),
    () => Client.fromApiKey(`acme_live_${CANARY}`, { issuer: server.issuer }),
    () => fixedClient(`eyJ ${CANARY}`, server.apiUrl),
    () => api.setCredentials('', SECRET),
    () => api.fetch(`https://user:${CANARY}@api.example/`),
    () => api.fetch(`//x?key=${CANARY}`),
    () => api.fetch(`https://foreign.example/?key=${CANARY}`),
    () => api.headers('GET', `no url ${CANARY}`),
    () => bound.headers(`no method ${CANARY}`, server.apiUrl),
  ]) {
    try {
      show(await mistaken());
    } catch (error) {
      // The name of an option is not a secret of ours, and what is called an option is quoted.
      if (!String(mistaken).includes('[SECRET]')) show(error);
    }
  }
  const giving = keep(
    new Client({ credentials: async () => ({ appId: 'app', appSecret: SECRET }), issuer: server.issuer, logger }),
  );
  await giving.token();
  show(giving);
  await Promise.all(clients.map((client) => client.close()));
  show(await api.token().catch((error) => error));

  for (const form of FORBIDDEN) {
    const line = output.find((text) => text.includes(form));
    assert.equal(line, undefined, `${form} was put out`);
  }
  for (const secret of [token, ...server.issuedTokens])
    assert.ok(!output.some((text) => text.includes(secret.split('.').at(-1))));
  // It was put out at all: each kind of output has its word.
  for (const word of [
    'token renewed',
    'renewal failed',
    'ERR_EVERTOKEN_CREDENTIALS_REJECTED',
    "state: 'fresh'",
    "kind: 'renewed'",
    "kind: 'invalidated'",
    'ERR_EVERTOKEN_UNTRUSTED_ORIGIN',
    'ERR_EVERTOKEN_CLOSED',
    '[redacted]',
    'Client {',
    'AuthServer',
    'ERR_BAD_REQUEST',
  ]) {
    assert.ok(
      output.some((text) => text.includes(word)),
      `${word} is nowhere in the output`,
    );
  }
});

test('the search finds what it should', () => {
  for (const planted of [
    SECRET,
    Buffer.from(`app:${SECRET}`).toString('base64'),
    Buffer.from(`a:${SECRET}`).toString('base64'),
    encodeURIComponent(SECRET),
  ]) {
    assert.ok(
      FORBIDDEN.some((form) => planted.includes(form)),
      planted,
    );
  }
});
