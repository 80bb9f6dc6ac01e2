// An OpenID-certified authorization server that this project did not write, for the tests beside it.
//
//   node server.mjs [PORT]      on 127.0.0.1, a free port by default
//
// Says in one line of JSON on standard output that it is ready, and where. It ends with its standard input, so that
// it never outlives the test that started it.
//
//   POST /control/secret    {client_id, client_secret}: gives a client another secret
//   GET  /control/requests  the token requests so far: [{auth: "basic" | "post" | "assertion" | "certificate", status}]
//   GET  /control/assertions  the client assertions in them
//   GET  /control/proofs    the DPoP proofs in them
//   POST /control/keys      signs with a new key from now on; the old ones stay published
//
// With TLS={key, cert, ca, own} in the environment, each PEM, it is an https server at localhost, with another beside it
// that asks for client certificates: the client `shop-tls` has one of `ca` for client.test, `shop-self` has `own`.
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { json } from 'node:stream/consumers';

import Provider, { errors } from 'oidc-provider';

const RESOURCE = { identifier: 'https://api.example.com', scope: 'orders:read orders:write', lifetime: 3 };
const OPAQUE_LIFETIME = 600;

// Whoever has this may register clients (RFC 7591), and manage those (RFC 7592).
const INITIAL_ACCESS_TOKEN = randomBytes(32).toString('hex');

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

const MAC = client('shop-mac', randomBytes(32).toString('hex'), { token_endpoint_auth_method: 'client_secret_jwt' });

// Its tokens must be bound by DPoP.
const BOUND = client('shop-dpop', randomBytes(32).toString('hex'), {
  token_endpoint_auth_method: 'client_secret_basic',
  dpop_bound_access_tokens: true,
});

// Clients with a private key, each in another of the forms in which such keys are handed out.
const keyed = (alg, kind, options, form) => {
  const { privateKey, publicKey } = generateKeyPairSync(kind, options);
  const metadata = client(`shop-${alg}`, undefined, {
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: alg,
    jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: `kid-${alg}`, use: 'sig' }] },
  });
  const key = privateKey.export(form);
  return { alg, metadata, key: typeof key === 'string' ? key : JSON.stringify(key) };
};
const KEYED = [
  keyed('RS256', 'rsa', { modulusLength: 2048 }, { format: 'pem', type: 'pkcs1' }),
  keyed('PS256', 'rsa', { modulusLength: 3072 }, { format: 'pem', type: 'pkcs8' }),
  keyed('ES256', 'ec', { namedCurve: 'P-256' }, { format: 'pem', type: 'sec1' }),
  keyed('EdDSA', 'ed25519', {}, { format: 'jwk' }),
];

// Clients with a certificate, to which their tokens are bound (RFC 8705).
const TLS = process.env.TLS && JSON.parse(process.env.TLS);
const certified = (client_id, method, more) =>
  client(client_id, undefined, {
    token_endpoint_auth_method: method,
    tls_client_certificate_bound_access_tokens: true,
    ...more,
  });
const known = (pem) => {
  const certificate = new X509Certificate(pem);
  return { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
};
const CERTIFIED = TLS
  ? [
      certified('shop-tls', 'tls_client_auth', { tls_client_auth_san_dns: 'client.test' }),
      certified('shop-self', 'self_signed_tls_client_auth', { jwks: { keys: [known(TLS.own)] } }),
    ]
  : [];

const records = new Map([BASIC, POST, MAC, BOUND, ...CERTIFIED, ...KEYED.map(({ metadata }) => metadata)].map((metadata) => [`Client:${metadata.client_id}`, metadata]));

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

const signingKey = () => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  alg: 'RS256',
  use: 'sig',
  kid: randomBytes(8).toString('hex'),
});

const configuration = {
  adapter: Adapter,
  cookies: { keys: [randomBytes(32).toString('hex')] },
  jwks: { keys: [signingKey()] },
  scopes: ['openid', ...RESOURCE.scope.split(' ')],
  ttl: { ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? OPAQUE_LIFETIME },
  features: {
    clientCredentials: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: true, initialAccessToken: INITIAL_ACCESS_TOKEN },
    registrationManagement: { enabled: true, rotateRegistrationAccessToken: true },
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
const assertions = [];
const proofs = [];

async function control(request, response) {
  if (request.url === '/control/secret') {
    const { client_id, client_secret } = await json(request);
    const key = `Client:${client_id}`;
    records.set(key, { ...records.get(key), client_secret });
    response.writeHead(204).end();
  } else if (request.url === '/control/keys') {
    configuration.jwks = { keys: [signingKey(), ...configuration.jwks.keys] };
    answer = provide();
    response.writeHead(204).end();
  } else if (request.url === '/control/requests') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(requests));
  } else if (request.url === '/control/assertions') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(assertions));
  } else if (request.url === '/control/proofs') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(proofs));
  } else {
    response.writeHead(404).end();
  }
}

const listen = async (server, port) => {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};
const server = TLS ? createTlsServer(TLS) : createServer();
const port = await listen(server, Number(process.argv[2] ?? 0));
const issuer = TLS ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
const servers = [server];
if (TLS) {
  const guarded = createTlsServer({ ...TLS, requestCert: true, rejectUnauthorized: false });
  const aliases = `https://localhost:${await listen(guarded, 0)}`;
  servers.push(guarded);
  const shown = (ctx) => ctx.socket.getPeerX509Certificate?.();
  configuration.features.mTLS = {
    enabled: true,
    certificateBoundAccessTokens: true,
    selfSignedTlsClientAuth: true,
    tlsClientAuth: true,
    getCertificate: shown,
    certificateAuthorized: (ctx) => ctx.socket.authorized,
    certificateSubjectMatches: (ctx, _property, expected) => shown(ctx).subjectAltName === `DNS:${expected}`,
  };
  configuration.clientAuthMethods = ['client_secret_basic', 'client_secret_post', 'tls_client_auth', 'self_signed_tls_client_auth'];
  configuration.discovery = {
    mtls_endpoint_aliases: {
      token_endpoint: `${aliases}/token`,
      revocation_endpoint: `${aliases}/token/revocation`,
    },
  };
}
const observe = async (ctx, next) => {
  await next();
  if (ctx.path !== '/token') return;
  const assertion = ctx.oidc?.body?.client_assertion;
  if (assertion) assertions.push(assertion);
  if (ctx.headers.dpop) proofs.push(ctx.headers.dpop);
  const secret = ctx.headers.authorization === undefined ? 'post' : 'basic';
  const auth = assertion ? 'assertion' : ctx.socket.getPeerX509Certificate?.() ? 'certificate' : secret;
  requests.push({ auth, status: ctx.status });
};
// It reads its keys only once: others want another one.
const provide = () => {
  const provider = new Provider(issuer, configuration);
  provider.use(observe);
  return provider.callback();
};
let answer = provide();
for (const each of servers) {
  each.on('request', (request, response) =>
    request.url.startsWith('/control/') ? control(request, response) : answer(request, response));
}

process.stdin.resume().on('end', () => process.exit());
const named = ({ client_id, client_secret }) => ({ client_id, client_secret });
const keys = KEYED.map(({ alg, metadata, key }) => ({ alg, client_id: metadata.client_id, key }));
const resource = RESOURCE.identifier;
console.log(JSON.stringify({ issuer, resource, basic: named(BASIC), post: named(POST), mac: named(MAC), bound: named(BOUND), keys, initial_access_token: INITIAL_ACCESS_TOKEN }));
