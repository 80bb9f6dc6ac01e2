// What must compile, and after each `@ts-expect-error` what must not. The compiler alone reads this.
import { createPrivateKey } from 'node:crypto';

import axios from 'axios';
import {
  axiosInterceptor,
  Client,
  type ClientOptions,
  type ErrorCode,
  type Event,
  EvertokenError,
  Preset,
  type Status,
  undiciInterceptor,
} from 'evertoken';
import { AuthServer, type fixedClient } from 'evertoken/testing';
import { Agent } from 'undici';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Same<A, B>): void {}

const api = new Client('app', 'secret', { issuer: 'https://as.example', baseUrl: new URL('https://api.example/') });
same<ReturnType<typeof api.token>, Promise<string>>(true);
same<ReturnType<typeof api.currentToken>, string | null>(true);
same<typeof api.fetch, typeof fetch>(true);
same<ReturnType<typeof api.status>, Status>(true);
same<ReturnType<typeof api.headers>, Promise<Record<string, string>>>(true);
const { fetch: handedOver }: { fetch: typeof globalThis.fetch } = api;
await handedOver(new Request('https://api.example/orders'), { signal: AbortSignal.timeout(1) });
await api.token({ signal: new AbortController().signal });
same<ReturnType<typeof api.prefetch>, Promise<void>>(true);
await api.prefetch();
await using disposed = api.with({ audience: 'x', scope: ['a'] });
same<typeof disposed, Client>(true);

new Client({ issuer: 'x', credentials: async () => ({ appId: 'a', appSecret: 's' }) });
new Client({ issuer: 'x', credentials: () => ({ appId: 'a', appSecret: 's', nextAppSecret: 'n' }) });
new Client('a', '', {
  issuer: 'x',
  clientAuth: { method: 'private_key_jwt', key: createPrivateKey('pem'), keyId: 'k', algorithm: 'PS256' },
});
new Client('a', '', {
  issuer: 'x',
  clientAuth: { method: 'private_key_jwt', key: { kty: 'OKP', crv: 'Ed25519', x: '', d: '' } },
});
new Client('a', 's', {
  issuer: 'x',
  dpop: true,
  logger: console,
  ca: ['pem', Buffer.from('pem')],
  clientAuth: 'client_secret_post',
});
// @ts-expect-error an unknown option
new Client('a', 's', { isuer: 'x' });
// @ts-expect-error of a wrong type
new Client('a', 's', { issuer: 7 });
// @ts-expect-error a method that is not known
new Client('a', 's', { issuer: 'x', clientAuth: 'basic' });
// @ts-expect-error a key is missing
new Client('a', 's', { issuer: 'x', clientAuth: { method: 'private_key_jwt' } });
// @ts-expect-error a secret is missing
new Client('a');
// @ts-expect-error a function that gives no credentials
new Client({ issuer: 'x', credentials: async () => 'secret' });

for await (const event of api.events()) {
  same<typeof event, Event>(true);
  if (event.kind === 'renewalFailed') same<typeof event.error, EvertokenError>(true);
}
api.on('renewed', ({ lifetimeMs, missingScopes }) => {
  same<typeof lifetimeMs, number>(true);
  same<typeof missingScopes, string[]>(true);
});
// @ts-expect-error there is none called error
api.on('error', () => {});

try {
  await api.token();
} catch (error) {
  if (error instanceof EvertokenError) {
    same<typeof error.code, ErrorCode>(true);
    same<typeof error.retryAfterMs, number | undefined>(true);
    // @ts-expect-error a code that is none
    if (error.code === 'ERR_EVERTOKEN_NONSENSE') throw error;
  }
}

new Agent().compose(undiciInterceptor(api));
same<ReturnType<typeof axiosInterceptor>, () => void>(true);
axiosInterceptor(api, axios.create({ baseURL: 'https://api.example/' }));

const acme = new Preset({ issuer: 'x', keyPrefix: 'acme_live', envPrefix: 'ACME' });
same<ReturnType<typeof acme.client>, Client>(true);
same<ReturnType<typeof acme.fromEnv>, Client>(true);
const options: ClientOptions = { renewal: { renewAt: 0.8 } };
Client.fromEnv({ prefix: 'ACME', ...options });
Client.fromApiKey('acme_live_x', options);

const server = await AuthServer.start({ lifetimeMs: 1_000 });
same<typeof server, AuthServer>(true);
server.fail({ kind: 'oauth', status: 401, error: 'invalid_client' }, { at: 'token', always: true });
// @ts-expect-error a fault that is none
server.fail({ kind: 'flood' });
same<ReturnType<typeof fixedClient>, Client>(true);
