// An OpenID-certified authorization server that this project did not write, for the tests beside it.
//
//   node server.mjs [PORT]      on 127.0.0.1, a free port by default
//
// Says in one line of JSON on standard output that it is ready, and where. It ends with its standard input, so that
// it never outlives the test that started it.
//
//   POST /control/secret    {client_id, client_secret}: gives a client another secret
//   GET  /control/requests  the token requests so far: [{auth: "basic" | "post", status}]
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';

import Provider, { errors } from 'oidc-provider';

const RESOURCE = { identifier: 'https://api.example.com', scope: 'orders:read orders:write', lifetime: 3 };
const OPAQUE_LIFETIME = 600;

const client = (client_id, client_secret, more) => ({
  client_id,
  client_secret,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  ...more,
});

// All that has to be form-encoded in an HTTP Basic pair (RFC 6749 2.3.1); the server takes printable ASCII only.
const BASIC = client('shop: 100%+1/&=?', 'a:b%20c+d e/~"\\', {
  token_endpoint_auth_method: 'client_secret_basic',
});
const POST = client('till: 50%+2', '+% :&=;', {
  token_endpoint_auth_method: 'client_secret_post',
  scope: 'orders:read',
});

const records = new Map([BASIC, POST].map((metadata) => [`Client:${metadata.client_id}`, metadata]));

// Clients come from here rather than from the configuration, which the server reads only once.
class Adapter {
  constructor(model) {
    this.model = model;
  }

  async find(id) {
    return records.get(`${this.model}:${id}`);
  }

  async upsert(id, payload) {
    records.set(`${this.model}:${id}`, payload);
  }

  async destroy(id) {
    records.delete(`${this.model}:${id}`);
  }
}

const configuration = {
  adapter: Adapter,
  cookies: { keys: [randomBytes(32).toString('hex')] },
  jwks: { keys: [generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })] },
  scopes: ['openid', ...RESOURCE.scope.split(' ')],
  ttl: { ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? OPAQUE_LIFETIME },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_ctx, identifier) {
        if (identifier !== RESOURCE.identifier) throw new errors.InvalidTarget();
        return {
          scope: RESOURCE.scope,
          audience: RESOURCE.identifier,
          accessTokenTTL: RESOURCE.lifetime,
          accessTokenFormat: 'jwt',
        };
      },
    },
  },
};

const requests = [];

async function control(request, response) {
  if (request.url === '/control/secret') {
    const { client_id, client_secret } = await json(request);
    const key = `Client:${client_id}`;
    records.set(key, { ...records.get(key), client_secret });
    response.writeHead(204).end();
  } else if (request.url === '/control/requests') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(requests));
  } else {
    response.writeHead(404).end();
  }
}

const server = createServer();
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1');
await once(server, 'listening');

const issuer = `http://127.0.0.1:${server.address().port}`;
const answer = new Provider(issuer, configuration).callback();
server.on('request', (request, response) => {
  if (request.url.startsWith('/control/')) return control(request, response);
  if (request.url === '/token') {
    const auth = request.headers.authorization === undefined ? 'post' : 'basic';
    response.on('finish', () => requests.push({ auth, status: response.statusCode }));
  }
  return answer(request, response);
});

process.stdin.resume().on('end', () => process.exit());
const named = ({ client_id, client_secret }) => ({ client_id, client_secret });
console.log(JSON.stringify({ issuer, resource: RESOURCE.identifier, basic: named(BASIC), post: named(POST) }));
