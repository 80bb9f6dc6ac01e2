/// <reference lib="esnext.disposable" preserve="true" />
/**
 * An authorization server and an API in a box, for the tests of whoever uses this package.
 *
 * @module
 */
import { Client, makeOver } from './client.js';
import { mistake } from './error.js';
import { type NativeAuthServer, native } from './native.js';
import type { ClientOptions } from './options.js';

/**
 * A client that holds this token for a year and asks no authorization server, for unit tests: libraries that replace HTTP, such as
 * nock and msw, do not see token requests, which are not made by JavaScript.
 */
export function fixedClient(token: string, baseUrl: string | URL, options: Pick<ClientOptions, 'fetch'> = {}): Client {
  const base = String(baseUrl);
  return makeOver(() => native.openFixed(token, base), { ...options, baseUrl: base });
}

/** What goes wrong, on command. */
export type Fault =
  /** This answer, word for word. */
  | { kind: 'status'; status: number; headers?: Record<string, string>; body?: string }
  /** An empty answer with `Retry-After`, in whole seconds. */
  | { kind: 'retryAfter'; status: number; afterMs: number }
  /** The same as a date. */
  | { kind: 'retryAfterDate'; status: number; afterMs: number }
  /** No answer; the connection stays open. */
  | { kind: 'hang' }
  /** The connection is reset. */
  | { kind: 'reset' }
  /** The connection is closed in order, without an answer. */
  | { kind: 'close' }
  /** A 200 that is reset in the middle of its body. */
  | { kind: 'tornBody' }
  /** A 200 whose body never ends. */
  | { kind: 'endlessBody' }
  /** A 200 with JSON that breaks off. */
  | { kind: 'garbage' }
  /** An OAuth error (RFC 6749 5.2). */
  | { kind: 'oauth'; status: number; error: string; description?: string }
  /** The usual answer, but this much later. */
  | { kind: 'latency'; afterMs: number };

/** Where and how often a fault happens. */
export interface FailOptions {
  /** Where: at the token endpoint by default. */
  at?: 'token' | 'api' | 'revocation';
  /** Whether it goes on until `heal()`, at the token endpoint; else it happens once. */
  always?: boolean;
}

/** A request that came. It holds no secret and no token. */
export interface LogEntry {
  /** When it came, in milliseconds since the start. */
  atMs: number;
  /** Method and path. */
  what: string;
  /** With which status it was answered; null where it was not. */
  status: number | null;
  /** The client, as far as it is known. */
  clientId: string | null;
  /** How it authenticated. */
  clientAuth: string | null;
  /** The `User-Agent`. */
  userAgent: string | null;
}

/** What a server is to be. */
export interface AuthServerOptions {
  /** How long tokens live; 3,600,000 by default. */
  lifetimeMs?: number;
  /** The audience that the API asks of a token; `https://api.example` by default. */
  audience?: string;
}

interface Counts {
  tokenRequests: number;
  discoveryRequests: number;
  revocations: number;
  maxInFlight: number;
  apiCalls: number;
  apiRefused: number;
}

/**
 * An authorization server on loopback, real HTTP, with an API behind it on a port of its own that verifies what it is given, and
 * with faults on command.
 *
 * @example
 * ```ts
 * await using server = await AuthServer.start();
 * await using api = server.client();
 * const response = await api.fetch('orders'); // 200
 * ```
 */
export class AuthServer {
  /** A client that every server knows. */
  static readonly APP_ID = 'app';
  /** Its secret, until it is rotated. */
  static readonly APP_SECRET = 'secret';

  readonly #native: NativeAuthServer;

  private constructor(options: AuthServerOptions) {
    this.#native = new native.NativeAuthServer(options.lifetimeMs, options.audience);
  }

  /** Starts one on two free ports. */
  static async start(options: AuthServerOptions = {}): Promise<AuthServer> {
    return new AuthServer(options);
  }

  /** The issuer (RFC 8414 2). */
  get issuer(): string {
    return this.#native.issuer();
  }

  /** The token endpoint. */
  get tokenUrl(): string {
    return this.#native.tokenUrl();
  }

  /** The revocation endpoint (RFC 7009). */
  get revocationUrl(): string {
    return this.#native.revocationUrl();
  }

  /**
   * The base URL of the API. Under it every path and method answers, with a valid token, JSON of `path`, `query`, `method`,
   * `client_id`, `headers` and `body`; `always-401` and `forbidden` refuse every token, `redirect?to=URL` is a 307, and `public`
   * asks for none and tells in `authorization` whether it was sent one.
   */
  get apiUrl(): string {
    return this.#native.apiUrl();
  }

  /** The audience that the API asks of a token. */
  get audience(): string {
    return this.#native.audience();
  }

  /** How many token requests came, however they ended. */
  get tokenRequests(): number {
    return this.#counts.tokenRequests;
  }

  /** How many requests for metadata came. */
  get discoveryRequests(): number {
    return this.#counts.discoveryRequests;
  }

  /** How many revocation requests came. */
  get revocations(): number {
    return this.#counts.revocations;
  }

  /** The most token requests that were handled at once. */
  get maxInFlight(): number {
    return this.#counts.maxInFlight;
  }

  /** How many calls the API received. */
  get apiCalls(): number {
    return this.#counts.apiCalls;
  }

  /** How many of them it answered with a 401. */
  get apiRefused(): number {
    return this.#counts.apiRefused;
  }

  /** All tokens that were issued, the oldest first. */
  get issuedTokens(): string[] {
    return this.#native.issuedTokens();
  }

  /** The requests that came, the oldest first. */
  get log(): LogEntry[] {
    return JSON.parse(this.#native.log());
  }

  /** A client for it, with its API as `baseUrl`. */
  client(options: ClientOptions = {}): Client {
    const server = options.tokenUrl === undefined ? { issuer: this.issuer } : {};
    const defaults = { ...server, baseUrl: this.apiUrl };
    if (options.credentials ?? options.credentialsFile ?? options.credentialsDirectory ?? options.appIdFile)
      return new Client({ ...defaults, ...options });
    return new Client(AuthServer.APP_ID, AuthServer.APP_SECRET, { ...defaults, ...options });
  }

  /** Whether the API would accept this token now. */
  accepts(token: string): boolean {
    return this.#native.accepts(token);
  }

  /** The API refuses this token from now on, or all that were issued. */
  revoke(token?: string): void {
    this.#native.revoke(token);
  }

  /** Adds a client, or gives one another secret; the old one is refused from now on, tokens live on. */
  register(appId: string, appSecret: string): void {
    this.#native.register(appId, appSecret);
  }

  /** Gives a client one more secret, beside those that it has. */
  addSecret(appId: string, appSecret: string): void {
    this.#native.addSecret(appId, appSecret);
  }

  /** How long tokens live from now on. */
  setLifetime(lifetimeMs: number): void {
    this.#native.setLifetime(lifetimeMs);
  }

  /** By how much the answers are late, of the token endpoint or the API. */
  setLatency(latencyMs: number, { at = 'token' }: { at?: 'token' | 'api' } = {}): void {
    this.#native.setLatency(latencyMs, at === 'api');
  }

  /** Grants so many tokens in each period from now on. */
  setQuota(limit: number, periodMs: number): void {
    this.#native.setQuota(limit, periodMs);
  }

  /** The nonce that is wanted in DPoP proofs from now on (RFC 9449 8, 9); null for none. */
  setNonce(nonce: string | null, { at = 'token' }: { at?: 'token' | 'api' } = {}): void {
    this.#native.setNonce(nonce, at === 'api');
  }

  /** Changes the token endpoint's answers from now on: these fields are put in, those that are null taken out. */
  answerWith(fields: object): void {
    this.#native.answerWith(JSON.stringify(fields));
  }

  /** Spoils the next request, or with `always` all from now on. */
  fail(fault: Fault, { at = 'token', always = false }: FailOptions = {}): void {
    if (always && at !== 'token') throw mistake('`always` is for the token endpoint');
    const headers = fault.kind === 'status' && fault.headers ? { headers: Object.entries(fault.headers) } : {};
    this.#native.fail({ ...fault, ...headers } as never, at, always);
  }

  /** Takes back what `fail` and `answerWith` asked for. */
  heal(): void {
    this.#native.heal();
  }

  /** Takes the authorization server off the net: connections are dropped, new ones refused. The API stays. */
  outage(): void {
    this.#native.outage();
  }

  /** Ends an outage, at the same port. */
  recover(): void {
    this.#native.recover();
  }

  /** Sets all counters to 0 and empties the log. */
  resetCounters(): void {
    this.#native.resetCounters();
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#native.stop();
  }

  /** The same as `stop()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get #counts(): Counts {
    return JSON.parse(this.#native.counts());
  }
}
