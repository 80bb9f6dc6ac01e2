import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { types } from 'node:util';

import type { CredentialFunction } from './credentials.js';
import { mistake } from './error.js';
import { isBytes, isUrl } from './kinds.js';
import type { Logger } from './log.js';
import type { NativeOptions } from './native.js';

/** A private key as a JSON Web Key (RFC 7517). */
export interface PrivateJwk {
  kty?: string;
  kid?: string;
  alg?: string;
  use?: string;
  key_ops?: string[];
  ext?: boolean;
  crv?: string;
  x?: string;
  y?: string;
  d?: string;
  n?: string;
  e?: string;
  p?: string;
  q?: string;
  dp?: string;
  dq?: string;
  qi?: string;
}

/** What is used of a `KeyObject` of `node:crypto`, so that nobody needs Node's types who has none. */
export interface PrivateKeyObject {
  readonly type: string;
  export(options: { type: 'pkcs8'; format: 'pem' }): string | Uint8Array;
}

/** A private key: PEM, PKCS #8 in DER, a JWK, or a `KeyObject`. RSA of 2048 bits or more, EC on P-256, or Ed25519. */
export type PrivateKey = string | Uint8Array | PrivateJwk | PrivateKeyObject;

/** How the client authenticates at the token endpoint (RFC 6749 2.3.1, RFC 7523 2.2, RFC 8705 2), as RFC 7591 2 names it. */
export type ClientAuth =
  | 'client_secret_basic'
  /** HTTP Basic with id and secret as they are, which is what some servers expect against the RFC. */
  | 'client_secret_basic_raw'
  | 'client_secret_post'
  | 'client_secret_jwt'
  /** Mutual TLS: it needs `cert`, and no app secret. */
  | 'tls_client_auth'
  | 'self_signed_tls_client_auth'
  | {
      method: 'client_secret_jwt';
      /** By default that which discovery announces. */
      algorithm?: 'HS256' | 'HS384' | 'HS512';
      audience?: AssertionAudience;
    }
  | {
      method: 'private_key_jwt';
      key: PrivateKey;
      /** The key's name at the server; by default that of the JWK, else none. */
      keyId?: string;
      /** By default the key's; for RSA `RS256`, or `PS256` where the server announces that alone. */
      algorithm?: 'RS256' | 'PS256' | 'ES256' | 'EdDSA';
      audience?: AssertionAudience;
    };

/** Whom an assertion is for: `issuer` by default; `token_endpoint`, which older servers insist on; or this very string. */
export type AssertionAudience = 'issuer' | 'token_endpoint' | (string & {});

/** How a token is kept fresh. The defaults are right for nearly everyone. */
export interface RenewalPolicy {
  /** The fraction of a token's life after which it is renewed at the latest; 0.9 by default. */
  renewAt?: number;
  /** By how much of the life the renewal may come earlier, drawn once per token; 0.23 by default. */
  jitter?: number;
  /** How long before its expiry a token is no longer handed out; by default 5 % of the life, between 1.01 s and 30 s, which
   * is served while renewals fail; one that is set holds then, too. */
  leewayMs?: number;
  /** The first step of the exponential backoff; 800 by default. */
  backoffBaseMs?: number;
  /** The last step while no token is held; 30,000 by default. */
  backoffCapMs?: number;
  /** How long one attempt may take; 10,000 by default, the first without a token 4,000 at most. */
  requestTimeoutMs?: number;
  /** Stops renewing after so many lifetimes in which nobody read the token; the next read starts again. Off by default. */
  stopAfterUnused?: number;
  /** For how long a new token is held back while the previous one serves, for an API that does not know new tokens at once; 0. */
  settleMs?: number;
}

/** What a client may be told. Times are milliseconds. Either `issuer` or `tokenUrl` is needed. */
export interface ClientOptions {
  /** The next secret of a rotation: tried where the server refuses the other. */
  nextAppSecret?: string;
  /**
   * A file with the credentials, watched: rewriting it rotates them. In the place of app id and secret. One that is not there yet
   * is waited for.
   */
  credentialsFile?: string;
  /** A directory with a file for each value (`client_id`, `client_secret`, …), as Kubernetes mounts a secret; likewise. */
  credentialsDirectory?: string;
  /** A file with the app id alone, with `appSecretFile`; likewise. */
  appIdFile?: string;
  /** A file with the app secret alone. */
  appSecretFile?: string;
  /** A file with the next secret of a rotation, beside `appSecretFile`. */
  nextAppSecretFile?: string;
  /** Takes files though anybody may read them; false by default. */
  fileReadableByOthers?: boolean;
  /** A function that gives the credentials, from a vault or the like. In the place of app id and secret. */
  credentials?: CredentialFunction;
  /** The authorization server's issuer identifier, for discovery (RFC 8414, OpenID Connect Discovery). */
  issuer?: string;
  /** The token endpoint (RFC 6749 3.2), for servers without discovery. Where it is set, `issuer` is not used. */
  tokenUrl?: string;
  /** The API that the token is for, as Auth0 and others name it: the parameter `audience`. */
  audience?: string;
  /** The API that the token is for, by the standard (RFC 8707): absolute URIs. */
  resource?: string | readonly string[];
  /** The scopes to ask for, separated by spaces or as a list (RFC 6749 3.3). */
  scope?: string | readonly string[];
  /** Further parameters of the token request. */
  tokenParams?: Readonly<Record<string, string>>;
  /**
   * By default that which discovery announces, `client_secret_basic` before `client_secret_post`. Where it is not set, a secret that
   * is refused may be tried in the form body once, which servers may log.
   */
  clientAuth?: ClientAuth;
  /** Has tokens bound to a key by DPoP (RFC 9449), and proves every request: `true` for a key of its own, or the key. */
  dpop?: boolean | { key: PrivateKey };
  /** The API's base URL, to whose path the paths of calls are appended. The token may go to its origin. */
  baseUrl?: string | URL;
  /** Further origins (scheme, host and port) to which the token may go. */
  trustedOrigins?: readonly (string | URL)[];
  /** Lets secret and token go over plain http to hosts other than loopback. For test networks only. */
  allowInsecureHttp?: boolean;
  /** How the token is kept fresh. */
  renewal?: RenewalPolicy;
  /** What log records call this client; by default the app id. */
  name?: string;
  /** How long a call of `fetch` may take: the wait for a token, sending, and sending again. Without limit by default. */
  timeoutMs?: number;
  /** How long a caller waits for a token at most; 10,000 by default. */
  tokenTimeoutMs?: number;
  /** How long a connection to the authorization server may take to come about; 10,000 by default. */
  connectTimeoutMs?: number;
  /** The `User-Agent` of token requests and of `fetch`, such as `acme-sdk/1.2`, with ours behind it. */
  userAgent?: string;
  /** The HTTP proxy for token requests; by default the environment says (`HTTPS_PROXY`, `NO_PROXY`, …). */
  proxy?: string | URL;
  /** Certificate authorities to trust beside those of the system and of `NODE_EXTRA_CA_CERTS`, for token requests: PEM. */
  ca?: string | Uint8Array | readonly (string | Uint8Array)[];
  /** The certificate that the client shows (mutual TLS), with its private key in the same PEM or as `key`. */
  cert?: string | Uint8Array;
  /** The private key of `cert`: PEM. */
  key?: string | Uint8Array;
  /** With `true`, `close()` revokes the tokens that are held (RFC 7009); false by default. */
  revokeOnShutdown?: boolean;
  /** The revocation endpoint, in the place of what discovery says. */
  revocationUrl?: string;
  /** Where log lines go; nowhere by default. `NODE_DEBUG=evertoken` writes more of them to standard error. */
  logger?: Logger;
  /** What carries the calls of `fetch`; the platform's `fetch` by default. */
  fetch?: typeof fetch;
}

type Check = (value: unknown, name: string) => void;

function refuse(name: string, wanted: string, value: unknown): never {
  const kind =
    value === null
      ? 'null'
      : Array.isArray(value)
        ? 'a list'
        : typeof value === 'object'
          ? (value.constructor?.name ?? 'an object')
          : typeof value;
  throw mistake(`option \`${name}\` must be ${wanted}, not ${kind}`);
}

const is =
  (wanted: string, test: (value: unknown) => boolean): Check =>
  (value, name) => {
    if (!test(value)) refuse(name, wanted, value);
  };

const isText = (value: unknown): value is string => typeof value === 'string';
const isAddress = (value: unknown): boolean => isText(value) || isUrl(value);
const isPem = (value: unknown): boolean => isText(value) || isBytes(value);
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0;

const text = is('a string', isText);
const flag = is('true or false', (value) => typeof value === 'boolean');
const milliseconds = is('a number of milliseconds, 0 or more', isNumber);
const url = is('a URL', isAddress);
const pem = is('PEM as a string or Buffer', isPem);
const functionOf = is('a function', (value) => typeof value === 'function');
const texts = is('a string or a list of strings', (value) => isText(value) || (Array.isArray(value) && value.every(isText)));
const privateKey = is(
  'a private key: PEM, DER, a JWK or a KeyObject',
  (value) => isPem(value) || (isObject(value) && (types.isKeyObject(value) || 'kty' in value)),
);

const RENEWAL: Record<keyof RenewalPolicy, Check> = {
  renewAt: is('a number', isNumber),
  jitter: is('a number', isNumber),
  leewayMs: milliseconds,
  backoffBaseMs: milliseconds,
  backoffCapMs: milliseconds,
  requestTimeoutMs: milliseconds,
  settleMs: milliseconds,
  stopAfterUnused: is('a whole number', (value) => isNumber(value) && Number.isInteger(value) && value < 2 ** 32),
};

const CLIENT_AUTH: Record<string, Check> = { method: text, key: privateKey, keyId: text, algorithm: text, audience: text };

const LOGGER: Record<string, Check> = { debug: functionOf, info: functionOf, warn: functionOf, error: functionOf };

const OPTIONS: Record<keyof ClientOptions, Check> = {
  nextAppSecret: text,
  credentialsFile: text,
  credentialsDirectory: text,
  appIdFile: text,
  appSecretFile: text,
  nextAppSecretFile: text,
  fileReadableByOthers: flag,
  credentials: functionOf,
  issuer: text,
  tokenUrl: text,
  audience: text,
  resource: texts,
  scope: texts,
  tokenParams: is('an object of strings', (value) => isObject(value) && Object.values(value).every(isText)),
  clientAuth: (value, name) => {
    if (isObject(value)) {
      if (value.method === 'private_key_jwt' && value.key === undefined) throw mistake(`option \`${name}.key\` is missing`);
      checked(value, CLIENT_AUTH, `${name}.`);
    } else if (!isText(value)) refuse(name, 'the name of a method or an object with `method`', value);
  },
  dpop: (value, name) => {
    if (typeof value === 'boolean') return;
    if (!isObject(value) || value.key === undefined) refuse(name, 'true or an object with `key`', value);
    checked(value, { key: privateKey }, `${name}.`);
  },
  baseUrl: url,
  trustedOrigins: is('a list of URLs', (value) => Array.isArray(value) && value.every(isAddress)),
  allowInsecureHttp: flag,
  name: text,
  renewal: (value, name) => (isObject(value) ? checked(value, RENEWAL, `${name}.`) : refuse(name, 'an object', value)),
  timeoutMs: milliseconds,
  tokenTimeoutMs: milliseconds,
  connectTimeoutMs: milliseconds,
  userAgent: text,
  proxy: url,
  ca: is(
    'PEM as a string or Buffer, or a list of those',
    (value) => isPem(value) || (Array.isArray(value) && value.every(isPem)),
  ),
  cert: pem,
  key: pem,
  revokeOnShutdown: flag,
  revocationUrl: text,
  logger: (value, name) => {
    if (!isObject(value) && typeof value !== 'function') refuse(name, 'an object with methods such as `warn`', value);
    for (const [level, check] of Object.entries(LOGGER)) {
      const method = (value as Record<string, unknown>)[level];
      if (method !== undefined) check(method, `${name}.${level}`);
    }
  },
  fetch: functionOf,
};

/** How far one word is from another: insertions, deletions and changes (Levenshtein). */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const changed = (row[j - 1] ?? 0) + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[other.length] ?? 0;
}

function checked(options: object, known: Record<string, Check>, prefix = ''): void {
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(known, name) ? known[name] : undefined;
    if (!check) {
      const plain = (word: string): string => word.replace(/[_-]/g, '').toLowerCase();
      const meant = Object.keys(known).find((word) => distance(plain(word), plain(name)) <= Math.min(2, word.length / 4));
      throw mistake(`unknown option \`${prefix}${name}\`${meant ? `: did you mean \`${prefix}${meant}\`?` : ''}`);
    }
    if (value !== undefined) check(value, prefix + name);
  }
}

/** Throws where an option is unknown or of a wrong type. */
export function checkOptions(options: unknown): asserts options is ClientOptions {
  if (!isObject(options)) throw mistake('the options of a client must be an object');
  checked(options, OPTIONS);
}

/** As Rust reads keys: PEM, or a JWK in JSON. */
function keyText(key: PrivateKey, name: string): string {
  try {
    if (typeof key === 'string') return key;
    if (types.isKeyObject(key)) return key.export({ type: 'pkcs8', format: 'pem' }).toString();
    if (!isBytes(key)) return JSON.stringify(key);
    const pem = Buffer.from(key).toString('latin1');
    if (pem.includes('-----BEGIN')) return pem;
    return createPrivateKey({ key: Buffer.from(key), format: 'der', type: 'pkcs8' })
      .export({ type: 'pkcs8', format: 'pem' })
      .toString();
  } catch {
    throw mistake(`option \`${name}\` is no private key that can be used`);
  }
}

const listOf = <T>(value: T | readonly T[] | undefined): T[] | undefined =>
  value === undefined ? undefined : Array.isArray(value) ? [...value] : [value as T];

function pems(value: ClientOptions['ca']): string[] {
  const given = (listOf(value) ?? []).map((one) => Buffer.from(one as string).toString('latin1'));
  const { NODE_EXTRA_CA_CERTS: extra, SSL_CERT_FILE: known } = process.env;
  try {
    // What Rust reads by itself is not given again: clients with roots of their own share no connections, nor the memory for them.
    if (extra && extra !== known) given.push(readFileSync(extra, 'latin1'));
  } catch {
    // Node has warned of it already, and goes on without.
  }
  return given;
}

/** The options that the environment may set, which Rust reads there. */
const VARIABLES = {
  issuer: 'ISSUER',
  tokenUrl: 'TOKEN_URL',
  clientAuth: 'CLIENT_AUTH',
  audience: 'AUDIENCE',
  resource: 'RESOURCE',
  scope: 'SCOPE',
  baseUrl: 'BASE_URL',
  ca: 'ROOT_CERTIFICATE',
  proxy: 'PROXY',
} as const;

const isSet = (prefix: string, name: keyof typeof VARIABLES): boolean => Boolean(process.env[`${prefix}_${VARIABLES[name]}`]);

/** Leaves out the options that variables which begin with `prefix` set. */
export function behindEnvironment(prefix: string, options: ClientOptions): ClientOptions {
  const made = { ...options };
  for (const name of Object.keys(VARIABLES) as (keyof typeof VARIABLES)[]) if (isSet(prefix, name)) delete made[name];
  return isSet(prefix, 'issuer') || isSet(prefix, 'tokenUrl') ? without(made, 'issuer', 'tokenUrl') : made;
}

function without(options: ClientOptions, ...names: (keyof ClientOptions)[]): ClientOptions {
  const made = { ...options };
  for (const name of names) delete made[name];
  return made;
}

/** From what people write to what Rust takes. */
export function nativeOptions(options: ClientOptions, envPrefix?: string): NativeOptions {
  const { renewal, clientAuth, dpop, cert, key } = options;
  const method = typeof clientAuth === 'string' ? { method: clientAuth } : clientAuth;
  const scope = typeof options.scope === 'string' ? options.scope.split(/\s+/) : options.scope;
  // What code gives replaces what the environment says, which it must not without being asked.
  const isByEnvironment = envPrefix !== undefined && isSet(envPrefix, 'ca') && options.ca === undefined;
  const authorities = isByEnvironment ? [] : pems(options.ca);
  return {
    nextAppSecret: options.nextAppSecret,
    credentialsFile: options.credentialsFile,
    credentialsDirectory: options.credentialsDirectory,
    appIdFile: options.appIdFile,
    appSecretFile: options.appSecretFile,
    nextAppSecretFile: options.nextAppSecretFile,
    fileReadableByOthers: options.fileReadableByOthers,
    asks: options.credentials !== undefined,
    issuer: options.issuer,
    tokenUrl: options.tokenUrl,
    audience: options.audience,
    resource: listOf(options.resource),
    scope: scope?.filter((word) => word !== ''),
    tokenParams: options.tokenParams && Object.entries(options.tokenParams),
    clientAuth: method && { ...method, key: 'key' in method ? keyText(method.key, 'clientAuth.key') : undefined },
    dpop: dpop !== undefined && dpop !== false,
    dpopKey: typeof dpop === 'object' ? keyText(dpop.key, 'dpop.key') : undefined,
    baseUrl: options.baseUrl && String(options.baseUrl),
    trustedOrigins: options.trustedOrigins?.map(String),
    allowInsecureHttp: options.allowInsecureHttp,
    ...renewal,
    name: options.name,
    tokenTimeoutMs: options.tokenTimeoutMs,
    connectTimeoutMs: options.connectTimeoutMs,
    userAgent: options.userAgent,
    proxy: options.proxy && String(options.proxy),
    ca: authorities.length > 0 ? authorities : undefined,
    cert: cert && [cert, key ?? ''].map((part) => Buffer.from(part as string).toString('latin1')).join('\n'),
    revokeOnShutdown: options.revokeOnShutdown,
    revocationUrl: options.revocationUrl,
  };
}
