/// <reference lib="esnext.disposable" preserve="true" />
import { notify } from './callbacks.js';
import { type EvertokenError, told } from './error.js';

/** What was left of the authorization server's quota of tokens. */
export interface Quota {
  /** How many there are in a period, where the server says it. */
  limit: number | null;
  /** How many of them are left. */
  remaining: number;
  /** When they are all there again, where the server says it. */
  resetsAt: Date | null;
}

/** What happened to a token. None carries a token or a secret. */
export type Event =
  /** A token was received: its lifetime, and the scopes that were asked for and not granted (RFC 6749 5.1). */
  | { kind: 'renewed'; lifetimeMs: number; missingScopes: string[] }
  /** An attempt failed; what is held is served on. */
  | { kind: 'renewalFailed'; error: EvertokenError; nextAttemptMs: number }
  /** The authorization server refuses the credential (`invalid_client`). */
  | { kind: 'credentialsRejected'; error: EvertokenError }
  /** The credential in use has changed. */
  | { kind: 'credentialsRotated' }
  /** The server has few tokens left to grant; the renewal is put off within the token's life. */
  | { kind: 'quotaLow'; quota: Quota }
  /** The API refused the token; it is being renewed. */
  | { kind: 'invalidated' }
  /** So many events were lost, because the reader was slow. */
  | { kind: 'missed'; missed: number }
  /** The client was closed: the last event. */
  | { kind: 'closed' };

/** The kinds of events. */
export type EventKind = Event['kind'];
/** The event of one kind. */
export type EventOf<K extends EventKind> = Extract<Event, { kind: K }>;

type RawQuota = Omit<Quota, 'resetsAt'> & { resetsAt: number | null };

export function quotaOf(quota: RawQuota): Quota {
  return { ...quota, resetsAt: quota.resetsAt === null ? null : new Date(quota.resetsAt) };
}

/** An event as Rust tells it. */
export function eventOf(json: string): Event {
  const event = JSON.parse(json);
  if (event.error) event.error = told(JSON.stringify(event.error));
  if (event.quota) event.quota = quotaOf(event.quota);
  return event;
}

type Listener = (event: Event) => unknown;

/** The listeners of one client. */
export class Listeners {
  readonly #byKind = new Map<EventKind, Set<Listener>>();
  readonly #all = new Set<Listener>();
  readonly #changed: (listens: boolean) => void;
  #ended = false;

  /** `changed` is told whether there is anybody to tell. */
  constructor(changed: (listens: boolean) => void) {
    this.#changed = changed;
  }

  add(kind: EventKind | null, listener: Listener): void {
    if (this.#ended) return;
    this.#of(kind).add(listener);
    this.#changed(true);
  }

  remove(kind: EventKind | null, listener: Listener): void {
    this.#of(kind).delete(listener);
    if (!this.#ended) this.#changed(this.#all.size > 0 || [...this.#byKind.values()].some((set) => set.size > 0));
  }

  emit(event: Event): void {
    if (this.#ended) return;
    if (event.kind === 'closed') this.#ended = true;
    for (const listener of [...this.#all, ...(this.#byKind.get(event.kind) ?? [])]) {
      notify(`a listener of \`${event.kind}\``, listener, () => listener(event));
    }
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  #of(kind: EventKind | null): Set<Listener> {
    if (kind === null) return this.#all;
    let set = this.#byKind.get(kind);
    if (!set) this.#byKind.set(kind, (set = new Set()));
    return set;
  }
}

const MOST_UNREAD = 64;

/**
 * Events from the moment it was asked for, one by one. It ends when the client is closed, or with `return()`; a reader who falls
 * more than 64 behind gets one of the kind `missed`. Like the client itself, it keeps no process alive.
 */
export class Events implements AsyncIterableIterator<Event> {
  readonly #listeners: Listeners;
  readonly #unread: Event[] = [];
  readonly #readers: ((result: IteratorResult<Event, undefined>) => void)[] = [];
  #missed = 0;
  #done = false;

  /** @internal */
  constructor(listeners: Listeners) {
    this.#listeners = listeners;
    this.#done = listeners.hasEnded;
    listeners.add(null, this.#take);
  }

  readonly #take = (event: Event): void => {
    const reader = this.#readers.shift();
    if (reader) reader({ done: false, value: event });
    else if (this.#unread.length < MOST_UNREAD || event.kind === 'closed') this.#unread.push(event);
    else this.#missed += 1;
    if (event.kind === 'closed') this.#end();
  };

  /** The next event. */
  next(): Promise<IteratorResult<Event, undefined>> {
    if (this.#missed > 0) {
      const missed = this.#missed;
      this.#missed = 0;
      return Promise.resolve({ done: false, value: { kind: 'missed', missed } });
    }
    const event = this.#unread.shift();
    if (event) return Promise.resolve({ done: false, value: event });
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** Reads no further. */
  return(): Promise<IteratorResult<Event, undefined>> {
    this.#unread.length = 0;
    this.#missed = 0;
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The same as `return()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #end(): void {
    this.#done = true;
    this.#listeners.remove(null, this.#take);
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }
}
