/// <reference lib="esnext.disposable" preserve="true" />
import { inspect } from 'node:util';

import { Call } from './call.js';
import { Core } from './core.js';
import { attempt, mistake } from './error.js';
import { type EventKind, type EventOf, Events } from './events.js';
import { fetchOf } from './fetch.js';
import { warnOf } from './log.js';
import { type Handle, type NativeOptions, native } from './native.js';
import { type ClientOptions, checkOptions, nativeOptions } from './options.js';
import type { Status } from './status.js';

/** How one caller waits. */
export interface WaitOptions {
  /** Ends this wait, with its reason. The renewal goes on for everybody else. */
  signal?: AbortSignal | null;
}

/** The same client for another API. */
export interface WithOptions {
  /** The parameter `audience`; none by default. */
  audience?: string;
  /** The scopes to ask for; none by default. */
  scope?: string | readonly string[];
}

const MOST_RELATIVES = 64;

/** What else a client can be made of. */
class Made {
  constructor(
    readonly core: Core,
    readonly parent?: Client,
  ) {}
}

let revealed: (client: Client) => Core;

/** What a client is made of, for the adapters. */
export function coreOf(client: Client): Core {
  if (!(client instanceof Client)) throw mistake('an adapter needs a `Client` of evertoken');
  return revealed(client);
}

/** A client of these options and of what only Rust is told. */
export function make(options: ClientOptions, more: NativeOptions): Client {
  checkOptions(options);
  const core = new Core(() => native.open({ ...nativeOptions(options, more.envPrefix), ...more }), options);
  return new Client(new Made(core) as never);
}

/** A client over a handle of its own kind. */
export function makeOver(open: () => Handle, options: ClientOptions): Client {
  return new Client(new Made(new Core(open, options)) as never);
}

/**
 * A valid access token, always at hand.
 *
 * `appId` and `appSecret` are OAuth's `client_id` and `client_secret` (RFC 6749 2.3.1). Nothing is asked of a server before the
 * first `token()`, `fetch()` or `prefetch()`; from then on the token is renewed in the background until `close()`, or until the
 * client is not referred to any more. An open client does not keep a process from ending.
 *
 * @example
 * ```ts
 * const api = new Client('app_id', 'app_secret', {
 *   issuer: 'https://acme.eu.auth0.com/',
 *   audience: 'https://api.acme.com',
 *   baseUrl: 'https://api.acme.com/v1/',
 * });
 * const orders = await (await api.fetch('/orders')).json();
 * ```
 */
export class Client {
  readonly #core: Core;
  readonly #parent: Client | undefined;
  readonly #relatives = new Map<string, Client>();

  /**
   * The platform's `fetch`, with a valid token.
   *
   * A path is appended to that of `baseUrl`: below `https://api.acme.com/v1/`, both `orders` and `/orders` are `/v1/orders`. What
   * could lead elsewhere (`//host`, a `..` segment, a backslash) is refused, and so is, before anything is sent, an absolute URL or
   * `Request` whose origin is neither that of `baseUrl` nor one of `trustedOrigins`. A call that the API answers with 401 is sent
   * once more with a newer token, where its body can be sent twice: a stream cannot. An `Authorization` of your own stands. No
   * redirect takes the token to another origin; under DPoP none is followed.
   *
   * It is bound to the client, and may be handed to whatever takes a `fetch`.
   */
  readonly fetch: typeof fetch;

  /** For these credentials. Mistakes in the options are thrown here; no server is asked yet. */
  constructor(appId: string, appSecret: string, options?: ClientOptions);
  /** For credentials of a function or of files: `credentials`, `credentialsFile`, `credentialsDirectory`, `appIdFile`. */
  constructor(options: ClientOptions);
  constructor(first: unknown, appSecret?: unknown, options: ClientOptions = {}) {
    const { core, parent } = first instanceof Made ? first : new Made(opened(first, appSecret, options));
    this.#core = core;
    this.#parent = parent;
    this.fetch = fetchOf(core);
  }

  static {
    revealed = (client) => client.#core;
    // Not as a method, whose name would need Node's types of everybody who compiles against this package.
    const value = function (this: Client, _depth: number, options: object): string {
      return `Client ${inspect(this.toJSON(), options)}`;
    };
    Object.defineProperty(Client.prototype, inspect.custom, { value, configurable: true, writable: true });
  }

  /**
   * By the environment: `EVERTOKEN_APP_ID` and `EVERTOKEN_APP_SECRET` (or the same with `_FILE`), `EVERTOKEN_API_KEY`,
   * `EVERTOKEN_CREDENTIALS_FILE` or `EVERTOKEN_CREDENTIALS_DIRECTORY`; and where they are set and not given here, `EVERTOKEN_ISSUER`
   * or `EVERTOKEN_TOKEN_URL`, `EVERTOKEN_CLIENT_AUTH`, `EVERTOKEN_AUDIENCE`, `EVERTOKEN_RESOURCE`, `EVERTOKEN_SCOPE`,
   * `EVERTOKEN_BASE_URL`, `EVERTOKEN_ROOT_CERTIFICATE` (the path of a PEM file, or PEM) and `EVERTOKEN_PROXY`. `prefix` puts another
   * word in front: `ACME` for `ACME_APP_ID`.
   */
  static fromEnv({ prefix = 'EVERTOKEN', ...options }: ClientOptions & { prefix?: string } = {}): Client {
    return fromEnvironment(prefix, undefined, options);
  }

  /** By a one-string API key (`acme_live_…`). A typo in it is told here, offline. */
  static fromApiKey(apiKey: string, options: ClientOptions = {}): Client {
    if (typeof apiKey !== 'string') throw mistake(`the API key must be a string, not ${typeof apiKey}`);
    return make(options, { apiKey });
  }

  /**
   * The access token: at once where a valid one is held, else as soon as there is one, for at most `tokenTimeoutMs` (10 s by
   * default).
   *
   * @throws {EvertokenError} with the last failure where the time is up or no attempt is due before; at once where the credential
   * is known to be refused.
   */
  token(options?: WaitOptions): Promise<string> {
    const core = this.#core;
    return options === undefined && core.isFresh() ? core.soon : core.token(options?.signal, this.token);
  }

  /** The held token without waiting; null where there is no valid one, which has one fetched. */
  currentToken(): string | null {
    return this.#core.held();
  }

  /** The value of the `Authorization` header, as `token()`. Under DPoP it is an error: use `headers`. */
  authorization(options?: WaitOptions): Promise<string> {
    const core = this.#core;
    if (options === undefined && core.isFresh() && !core.isDpop) return core.headerSoon;
    return this.#authorization(options);
  }

  async #authorization(options?: WaitOptions): Promise<string> {
    const core = this.#core;
    if (core.isDpop) throw mistake('under DPoP every call needs a proof of its own: use `headers(method, url)`');
    return core.headerOf(await core.token(options?.signal, this.authorization));
  }

  /**
   * All headers that authorize one call of `method` to `url` by other means: `authorization`, and under DPoP a `dpop` proof, which
   * is good for this one sending.
   *
   * @throws {EvertokenError} `ERR_EVERTOKEN_UNTRUSTED_ORIGIN` where the token may not go there, else as `token()`.
   */
  async headers(method: string, url: string | URL, options?: WaitOptions): Promise<Record<string, string>> {
    const core = this.#core;
    const target = parsed(url);
    core.checkOrigin(target);
    const call = new Call(core, await core.token(options?.signal, this.headers));
    const { authorization, dpop } = call.sign(method, target.href);
    return dpop === undefined ? { authorization } : { authorization, dpop };
  }

  /** How it stands. */
  status(): Status {
    return this.#core.status();
  }

  /** Says that the API refused `token` (401). It is renewed, once in 10 s at most; one that has been replaced is no matter. */
  invalidate(token: string): void {
    if (typeof token !== 'string') throw mistake(`the token must be a string, not ${typeof token}`);
    native.invalidate(this.#core.handle, token);
  }

  /** Replaces the credential. A held token serves on where only the secret changes. */
  setCredentials(appId: string, appSecret: string): void {
    if (typeof appId !== 'string' || typeof appSecret !== 'string') throw mistake('app id and app secret must be strings');
    attempt(() => native.setCredentials(this.#core.handle, appId, appSecret));
    this.#core.warn();
  }

  /** Has a token fetched ahead of the first call. It starts at once; who awaits it knows that the service is ready. */
  prefetch(options?: WaitOptions): Promise<void> {
    native.prefetch(this.#core.handle);
    return new Prefetch(async () => {
      await this.#core.token(options?.signal, this.prefetch);
    });
  }

  /** What happens from now on, one by one. */
  events(): Events {
    return new Events(this.#core.listeners);
  }

  /** Calls `listener` with every event of this kind. There is none called `error`. */
  on<K extends EventKind>(kind: K, listener: (event: EventOf<K>) => void): this {
    if (typeof listener !== 'function') throw mistake('a listener must be a function');
    this.#core.listeners.add(kind, listener as never);
    return this;
  }

  /** Undoes `on`. */
  off<K extends EventKind>(kind: K, listener: (event: EventOf<K>) => void): this {
    this.#core.listeners.remove(kind, listener as never);
    return this;
  }

  /**
   * The same client for another audience and other scopes, for the same credentials and with the same settings. The same arguments
   * give the same client, so that it can be asked for at every call; the 64 most recently used are kept.
   */
  with({ audience = '', scope = [] }: WithOptions = {}): Client {
    if (this.#parent) return this.#parent.with({ audience, scope });
    const words = typeof scope === 'string' ? scope.split(/\s+/).filter((word) => word !== '') : [...scope];
    const name = JSON.stringify([audience, words]);
    let relative = this.#relatives.get(name);
    this.#relatives.delete(name);
    if (!relative) {
      const { handle, extras } = this.#core;
      const core = new Core(() => native.openWith(handle, audience, words), extras, this.#core);
      relative = new Client(new Made(core, this) as never);
    }
    this.#relatives.set(name, relative);
    const oldest = this.#relatives.size > MOST_RELATIVES ? this.#relatives.keys().next().value : undefined;
    if (oldest !== undefined) this.#relatives.delete(oldest);
    return relative;
  }

  /**
   * Ends the renewals, for this client and all that were made of it by `with`, and forgets the tokens. With `revokeOnShutdown` they
   * are revoked. A revocation that fails is a warning, of the logger's if there is one, of the process otherwise: everything has
   * ended all the same, and an error would stand in the way of whatever else shuts down.
   */
  async close(): Promise<void> {
    try {
      await this.#core.close(this.close);
    } catch (error) {
      warnOf(error instanceof Error ? error.message : String(error), this.#core.extras.logger);
    }
  }

  /** Closes the client at the end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Neither secret nor token. */
  toJSON(): { server: string; state: string; expiresAt: Date | null } {
    const { state, expiresAt } = this.status();
    const { issuer, tokenUrl } = this.#core.extras;
    let server = '';
    try {
      server = new URL(tokenUrl ?? issuer ?? '').origin;
    } catch {
      // By the environment, or none.
    }
    return { server, state, expiresAt };
  }
}

/** A wait that nobody asked for must neither keep a process alive nor reject unheard: this one begins with whoever awaits it. */
class Prefetch implements Promise<void> {
  readonly [Symbol.toStringTag] = 'Prefetch';
  readonly #wait: () => Promise<void>;

  constructor(wait: () => Promise<void>) {
    this.#wait = wait;
  }

  // biome-ignore lint/suspicious/noThenProperty: that is what it is for
  readonly then: Promise<void>['then'] = (good, bad) => this.#wait().then(good, bad);
  readonly catch: Promise<void>['catch'] = (bad) => this.#wait().catch(bad);
  readonly finally: Promise<void>['finally'] = (last) => this.#wait().finally(last);
}

/** Where credentials come from, in the place of app id and secret. */
const SOURCES = ['credentials', 'credentialsFile', 'credentialsDirectory', 'appIdFile'] as const;
/** What goes with one of them alone. */
const BESIDE = [
  ['appSecretFile', 'appIdFile'],
  ['nextAppSecretFile', 'appIdFile'],
] as const;

/** A core for what a constructor was given. */
function opened(first: unknown, appSecret: unknown, options: ClientOptions): Core {
  const isApart = typeof first === 'object';
  const given = isApart ? (first as ClientOptions) : options;
  checkOptions(given);
  const others = SOURCES.filter((name) => given[name] !== undefined);
  if (others.length > 1)
    throw mistake(`give one source of credentials: ${others.map((name) => `\`${name}\``).join(' and ')} are set`);
  for (const [name, source] of BESIDE)
    if (given[name] !== undefined && others[0] !== source) throw mistake(`\`${name}\` is set without \`${source}\``);
  if (given.appIdFile !== undefined && given.appSecretFile === undefined) throw mistake('`appIdFile` needs `appSecretFile`');
  if (isApart) {
    if (others.length === 0)
      throw mistake(
        'a client without app id and app secret needs `credentials`, `credentialsFile`, `credentialsDirectory` or `appIdFile`, one of them',
      );
    return new Core(() => native.open(nativeOptions(given)), given);
  }
  if (typeof first !== 'string') throw mistake(`the app id must be a string, not ${typeof first}`);
  if (typeof appSecret !== 'string') throw mistake(`the app secret must be a string, not ${typeof appSecret}`);
  if (others.length > 0) throw mistake('give either app id and app secret, or one other source of credentials');
  return new Core(() => native.open({ ...nativeOptions(given), appId: first, appSecret }), given);
}

function parsed(url: string | URL): URL {
  try {
    return new URL(url);
  } catch {
    // It may hold what is secret, and is not quoted.
    throw mistake('the URL of the call is not one');
  }
}

/** Credentials and settings by variables that begin with `prefix`; what `options` say goes before them. */
export function fromEnvironment(prefix: string, keyPrefix: string | undefined, options: ClientOptions): Client {
  // Names of variables do not differ by case on Windows, nor do their typos.
  const isOurs = ([name]: [string, string | undefined]): boolean => name.toUpperCase().startsWith(`${prefix.toUpperCase()}_`);
  const variables = Object.entries(process.env).filter((entry): entry is [string, string] => isOurs(entry));
  return make(options, { envPrefix: prefix, keyPrefix, variables });
}
