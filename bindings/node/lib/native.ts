import { load } from './load.js';

/** What Rust holds. It goes with the last reference to it. */
export type Handle = { readonly native: 'client' };
export type NativePass = { readonly native: 'pass' };

/** What comes from Rust; `id` says for whom. */
export interface Letter {
  id: number;
  error?: string;
  token?: string;
  repeats?: boolean;
  found?: string;
  well?: boolean;
  event?: string;
  ask?: number;
}

export type Deliver = (letter: Letter) => void;

/** As `src/options.rs` takes them. */
export interface NativeOptions {
  appId?: string;
  appSecret?: string;
  nextAppSecret?: string;
  apiKey?: string;
  envPrefix?: string;
  keyPrefix?: string;
  variables?: [string, string][];
  credentialsFile?: string;
  credentialsDirectory?: string;
  appIdFile?: string;
  appSecretFile?: string;
  nextAppSecretFile?: string;
  fileReadableByOthers?: boolean;
  asks?: boolean;
  issuer?: string;
  tokenUrl?: string;
  audience?: string;
  resource?: string[];
  scope?: string[];
  tokenParams?: [string, string][];
  clientAuth?: { method: string; key?: string; keyId?: string; algorithm?: string; audience?: string };
  dpop?: boolean;
  dpopKey?: string;
  baseUrl?: string;
  trustedOrigins?: string[];
  allowInsecureHttp?: boolean;
  renewAt?: number;
  jitter?: number;
  leewayMs?: number;
  backoffBaseMs?: number;
  backoffCapMs?: number;
  requestTimeoutMs?: number;
  stopAfterUnused?: number;
  settleMs?: number;
  name?: string;
  tokenTimeoutMs?: number;
  connectTimeoutMs?: number;
  userAgent?: string;
  proxy?: string;
  ca?: string[];
  cert?: string;
  revokeOnShutdown?: boolean;
  revocationUrl?: string;
}

export interface NativeFault {
  kind: string;
  status?: number;
  headers?: [string, string][];
  body?: string;
  afterMs?: number;
  error?: string;
  description?: string;
}

export interface NativeAuthServer {
  issuer(): string;
  tokenUrl(): string;
  revocationUrl(): string;
  apiUrl(): string;
  audience(): string;
  counts(): string;
  log(): string;
  issuedTokens(): string[];
  accepts(token: string): boolean;
  register(appId: string, appSecret: string): void;
  addSecret(appId: string, appSecret: string): void;
  revoke(token?: string): void;
  setLifetime(lifetimeMs: number): void;
  setLatency(latencyMs: number, atApi: boolean): void;
  setQuota(limit: number, periodMs: number): void;
  setNonce(nonce: string | null, atApi: boolean): void;
  answerWith(json: string): void;
  fail(fault: NativeFault, at: string, always: boolean): void;
  heal(): void;
  resetCounters(): void;
  outage(): void;
  recover(): void;
  stop(): void;
}

/** The native half: free functions over handles. Those that give a letter or null send it to `id` where it is null. */
export interface Native {
  open(options: NativeOptions): Handle;
  openFixed(token: string, baseUrl: string): Handle;
  openWith(handle: Handle, audience: string, scope: string[]): Handle;
  connect(handle: Handle, deliver: Deliver): void;
  word(handle: Handle): ArrayBuffer | null;
  generation(handle: Handle): number;
  held(handle: Handle): { token: string; until: number; generation: number } | null;
  token(handle: Handle, id: number): Letter | null;
  prefetch(handle: Handle): void;
  invalidate(handle: Handle, token: string): void;
  setCredentials(handle: Handle, appId: string, appSecret: string): void;
  giveCredentials(
    handle: Handle,
    question: number,
    credentials: { appId: string; appSecret: string; nextAppSecret?: string } | null,
    reason?: string,
  ): void;
  status(handle: Handle): string;
  listen(handle: Handle, listens: boolean): void;
  resolve(handle: Handle, path: string): string;
  checkOrigin(handle: Handle, url: string): void;
  close(handle: Handle, id: number): Letter | null;
  release(handle: Handle): void;
  check(handle: Handle, id: number): Letter | null;
  pass(handle: Handle, token: string): NativePass | null;
  sign(pass: NativePass, method: string, url: string): { authorization: string; dpop?: string };
  repeats(
    handle: Handle,
    id: number,
    pass: NativePass,
    url: string,
    status: number,
    headers: [string, string][],
    repeatable: boolean,
  ): Letter | null;
  addresses(handle: Handle): { issuer?: string; tokenUrl?: string; baseUrl?: string };
  takeRecords(toStderr: boolean): void;
  warnings(): string[];
  NativeAuthServer: new (lifetimeMs?: number, audience?: string) => NativeAuthServer;
}

export const native = load() as Native;
