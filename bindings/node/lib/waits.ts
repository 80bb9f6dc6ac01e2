import { onAbort } from './aborts.js';
import { attempt, told } from './error.js';
import type { Letter } from './native.js';

// Of this moment, since tests replace the global ones.
const { setInterval, clearInterval } = globalThis;

/** Keeps what is handed to it. */
function hold(_owner: object): void {}

const LONG_MS = 2 ** 30;
const LAST_ID = 2 ** 32 - 1;

interface Wait {
  settle(letter: Letter): void;
}

/**
 * Who waits for an outcome of Rust's. The way from there to here keeps no process alive, so that an open client does not; but
 * while somebody waits, a timer does.
 */
export class Waits {
  #lastId = 0;
  readonly #open = new Map<number, Wait>();
  readonly #owner: object;
  readonly #idle: () => void;
  #awake: NodeJS.Timeout | undefined;

  /** `owner` is kept while somebody waits; `idle` is called whenever nobody does any more. */
  constructor(owner: object, idle: () => void) {
    this.#owner = owner;
    this.#idle = idle;
  }

  get isEmpty(): boolean {
    return this.#open.size === 0;
  }

  /** What `start` gives at once, or sends. An abort ends this wait, and not what Rust does. */
  wait<T>(
    start: (id: number) => Letter | null,
    read: (letter: Letter) => T,
    signal: AbortSignal | null | undefined,
    caller: (...args: never[]) => unknown,
  ): Promise<T> {
    const asked = new Error();
    Error.captureStackTrace(asked, caller);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      let ignoreAbort = (): void => {};
      const settle = (letter: Letter): void => {
        ignoreAbort();
        if (letter.error != null) reject(told(letter.error, asked));
        else resolve(read(letter));
      };
      const id = this.#nextId();
      const letter = attempt(() => start(id));
      if (letter) return settle(letter);
      this.#open.set(id, { settle });
      this.#awake ??= setInterval(hold, LONG_MS, this.#owner);
      if (!signal) return;
      ignoreAbort = onAbort(signal, () => {
        this.#close(id);
        reject(signal.reason);
      });
    });
  }

  deliver(letter: Letter): void {
    const wait = this.#open.get(letter.id);
    // Aborted meanwhile, where there is none.
    if (wait) {
      this.#close(letter.id);
      wait.settle(letter);
    }
  }

  #nextId(): number {
    do this.#lastId = (this.#lastId % LAST_ID) + 1;
    while (this.#open.has(this.#lastId));
    return this.#lastId;
  }

  #close(id: number): void {
    this.#open.delete(id);
    if (this.#open.size > 0) return;
    clearInterval(this.#awake);
    this.#awake = undefined;
    this.#idle();
  }
}
