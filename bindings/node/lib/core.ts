import { debuglog } from 'node:util';

import { answer, type CredentialFunction } from './credentials.js';
import { attempt, type EvertokenError, mistake, told } from './error.js';
import { eventOf, Listeners } from './events.js';
import { logTo, warnOf } from './log.js';
import { type Deliver, type Handle, type Letter, native } from './native.js';
import type { ClientOptions } from './options.js';
import { statusOf } from './status.js';
import { Waits } from './waits.js';

// Of this moment, since tests replace the global one.
const { now } = Date;

native.takeRecords(debuglog('evertoken').enabled);

/** The client's end of its mailbox. Rust holds it strongly, so that it must not hold the client. */
function deliverTo(ref: { core?: WeakRef<Core> }): Deliver {
  return (letter) => ref.core?.deref()?.receive(letter);
}

/** What is told to a core and not to Rust. */
export type Extras = Pick<
  ClientOptions,
  'credentials' | 'baseUrl' | 'trustedOrigins' | 'dpop' | 'logger' | 'fetch' | 'timeoutMs' | 'userAgent' | 'issuer' | 'tokenUrl'
>;

/**
 * What a client is made of: a handle of Rust's, the token that it last gave, and the word that tells whether it is still the one.
 *
 * A read compares the word, which Rust bumps at whatever happens to the token, and the wall clock, which sees that the machine was
 * suspended. A wall clock that was set back must prolong nothing: by its own monotonic clock Rust marks the word when the
 * token's time is up. So one clock is read here, the cheapest that counts a suspend.
 */
export class Core {
  readonly handle: Handle;
  readonly extras: Extras;
  readonly waits: Waits;
  readonly listeners: Listeners;
  readonly isDpop: boolean;
  readonly scheme: string;
  /** Kept, since it is asked for the credentials. */
  readonly parent: Core | undefined;
  #word = new Int32Array(1);
  #polls = false;
  #generation = 0;
  #polled = 0;
  #until = Number.NEGATIVE_INFINITY;
  #token: string | null = null;
  #header = '';
  /** The held token, for whoever awaits it, and its header. */
  soon: Promise<string> = Promise.resolve('');
  headerSoon: Promise<string> = this.soon;
  #ended = false;
  readonly #trusted = new Set<string>();
  readonly #give: CredentialFunction | undefined;

  constructor(open: () => Handle, extras: Extras, parent?: Core) {
    const ref: { core?: WeakRef<Core> } = {};
    this.parent = parent;
    this.#give = extras.credentials;
    this.isDpop = extras.dpop !== undefined && extras.dpop !== false;
    this.scheme = this.isDpop ? 'DPoP' : 'Bearer';
    const handle = attempt(open);
    this.handle = handle;
    // Rust knows what the environment says.
    this.extras = { ...extras, ...native.addresses(handle) };
    this.warn();
    const word = native.word(this.handle);
    if (word) this.#word = new Int32Array(word);
    else {
      this.#polls = true;
      this.#generation = -1;
    }
    this.waits = new Waits(this, () => this.#releaseWhenIdle());
    this.listeners = new Listeners((listens) => native.listen(this.handle, listens));
    if (extras.logger)
      this.listeners.add(
        null,
        logTo(extras.logger, () => this.status().isReady),
      );
    ref.core = new WeakRef(this);
    // In a job of its own: tools that look for open handles (`jest --detectOpenHandles`) take what is made in the caller's stack
    // for something that keeps the process alive, and cannot ask this whether it does.
    void Promise.resolve().then(() => native.connect(handle, deliverTo(ref)));
  }

  /** Whether what is held here may be handed out: a look at the clock and a load. */
  isFresh(): boolean {
    return now() < this.#until && Atomics.load(this.#word, 0) === this.#generation;
  }

  /** The held token without waiting. */
  held(): string | null {
    return this.isFresh() ? this.#token : this.#ask();
  }

  token(signal: AbortSignal | null | undefined, caller: (...args: never[]) => unknown): Promise<string> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.held() !== null) return this.soon;
    return this.waits.wait(
      (id) => native.token(this.handle, id),
      (letter) => letter.token ?? '',
      signal,
      caller,
    );
  }

  headerOf(token: string): string {
    return token === this.#token ? this.#header : `${this.scheme} ${token}`;
  }

  #ask(): string | null {
    if (this.#polls && this.#token !== null && native.generation(this.handle) === this.#polled && now() < this.#until)
      return this.#token;
    const held = attempt(() => native.held(this.handle));
    if (!held) {
      this.#until = Number.NEGATIVE_INFINITY;
      this.#token = null;
      return null;
    }
    // Where it is asked for, what is in the word here is never right.
    if (this.#polls) this.#polled = held.generation;
    else this.#generation = held.generation;
    this.#until = held.until;
    if (held.token !== this.#token) {
      this.#token = held.token;
      this.#header = `${this.scheme} ${held.token}`;
      this.soon = Promise.resolve(held.token);
      this.headerSoon = Promise.resolve(this.#header);
    }
    return held.token;
  }

  status() {
    return statusOf(native.status(this.handle));
  }

  /** Passes on what Rust has to warn of and tells in no event. */
  warn(): void {
    for (const text of native.warnings()) warnOf(text, this.extras.logger);
  }

  receive(letter: Letter): void {
    this.warn();
    if (letter.event != null) {
      const event = eventOf(letter.event);
      this.listeners.emit(event);
      if (event.kind === 'closed') this.#end();
    } else if (letter.ask != null) {
      if (this.#give) void answer(this.handle, letter.ask, this.#give);
    } else {
      this.waits.deliver(letter);
    }
  }

  async close(caller: (...args: never[]) => unknown): Promise<void> {
    try {
      await this.waits.wait(
        (id) => native.close(this.handle, id),
        () => {},
        undefined,
        caller,
      );
    } finally {
      this.listeners.emit({ kind: 'closed' });
      this.#end();
    }
  }

  #end(): void {
    this.#ended = true;
    this.#releaseWhenIdle();
  }

  #releaseWhenIdle(): void {
    if (this.#ended && this.waits.isEmpty) native.release(this.handle);
  }

  /** The error of a client that was closed, if this one was. */
  closedError(): EvertokenError | undefined {
    return this.#ended ? told(native.token(this.handle, 0)?.error ?? '{}') : undefined;
  }

  /** Throws where the token may not go to `url`. Each origin is asked of Rust once. */
  checkOrigin(url: URL): void {
    if (this.#trusted.has(url.origin)) return;
    attempt(() => native.checkOrigin(this.handle, url.href));
    if (this.#trusted.size < 64) this.#trusted.add(url.origin);
  }

  /** Throws where an adapter would not know where the token may go. */
  checkHasOrigins(): void {
    if (this.extras.baseUrl === undefined && !this.extras.trustedOrigins?.length) {
      throw mistake('the client has neither `baseUrl` nor `trustedOrigins`: the adapter would not know where its token may go');
    }
  }
}
