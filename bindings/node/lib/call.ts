import type { Core } from './core.js';
import { attempt, mistake } from './error.js';
import { type NativePass, native } from './native.js';

/** What authorizes one sending of a request. */
export interface Authorized {
  authorization: string;
  /** The proof, under DPoP (RFC 9449 4.1). */
  dpop?: string;
}

/** An answer, as far as it tells about the token. */
export interface Answer {
  /** Where it came from, after redirects. */
  url: string;
  status: number;
  headers: Iterable<[string, string]>;
  /** Whether the request's body can be sent twice. */
  repeatable: boolean;
}

/** One call's way through an HTTP library: what authorizes it, and whether an answer is worth another sending. */
export class Call {
  readonly #core: Core;
  #token: string;
  #pass: NativePass | null = null;

  constructor(core: Core, token: string) {
    this.#core = core;
    this.#token = token;
  }

  sign(method: string, url: string): Authorized {
    if (!this.#core.isDpop) return { authorization: this.#core.headerOf(this.#token) };
    const pass = this.#ofNative();
    if (!pass) throw mistake('the token of this call is none');
    const { authorization, dpop } = attempt(() => native.sign(pass, method, url));
    return { authorization, dpop };
  }

  /** Whether an answer of this status can lead to anything: every one may bring a nonce under DPoP. */
  heeds(status: number): boolean {
    return status === 401 || this.#core.isDpop;
  }

  /** Whether the call is to be sent again, signed anew. Where the token was refused, this waits for the next one. */
  async repeats({ url, status, headers, repeatable }: Answer, signal?: AbortSignal | null): Promise<boolean> {
    if (!this.heeds(status)) return false;
    const core = this.#core;
    const pass = this.#ofNative();
    if (!pass) return false;
    const start = (id: number) => native.repeats(core.handle, id, pass, url, status, [...headers], repeatable);
    const letter = await core.waits.wait(start, (letter) => letter, signal, this.repeats);
    if (letter.repeats && letter.token != null) this.#token = letter.token;
    return letter.repeats === true;
  }

  /** Null where the text is no token. */
  #ofNative(): NativePass | null {
    this.#pass ??= native.pass(this.#core.handle, this.#token);
    return this.#pass;
  }
}
