import { createRequire } from 'node:module';

import { isRepeatable, LONGEST_DRAIN_MS, MOST_DRAINED } from './bodies.js';
import { Call } from './call.js';
import { notify } from './callbacks.js';
import { type Client, coreOf } from './client.js';
import { mistake } from './error.js';
import { has, isSignal } from './kinds.js';

/** What is used of undici's types, so that nobody needs them who does not use undici. */
type Headers = Record<string, unknown> | Iterable<[string, unknown]> | readonly string[] | null | undefined;
interface Options {
  origin?: string | URL;
  path: string;
  method: string;
  headers?: Headers;
  body?: unknown;
  signal?: unknown;
}
interface Controller {
  readonly aborted: boolean;
  readonly reason: Error | null;
  pause(): void;
  resume(): void;
  abort(reason: Error): void;
}
interface Handler {
  onRequestStart?(controller: Controller, context: unknown): void;
  onRequestUpgrade?(controller: Controller, status: number, headers: Record<string, unknown>, socket: unknown): void;
  onResponseStart?(controller: Controller, status: number, headers: Record<string, unknown>, message?: string): void;
  onResponseData?(controller: Controller, chunk: Uint8Array): void;
  onResponseEnd?(controller: Controller, trailers: Record<string, unknown>): void;
  onResponseError?(controller: Controller | null, error: Error): void;
}
type Dispatch = (options: Options, handler: Handler) => boolean;

/** Names and values one after the other, as undici takes them. */
function flat(headers: Headers): string[] {
  if (headers == null) return [];
  if (Array.isArray(headers)) return [...(headers as string[])];
  const pairs = Symbol.iterator in headers ? [...(headers as Iterable<[string, unknown]>)] : Object.entries(headers);
  return pairs.flatMap(([name, value]) => (value === undefined ? [] : [value].flat().flatMap((one) => [name, String(one)])));
}

const signalOf = ({ signal }: Options): AbortSignal | undefined => (isSignal(signal) ? signal : undefined);

/** What a request sends, and what it sends the second time. */
interface Sent {
  first: unknown;
  /** To be asked when the answer is there: what can be sent again, in a box; undefined if nothing can. */
  again(): { body: unknown } | undefined;
}

/** Bun puts a stub of its own in the place of undici. */
function isStub(): boolean {
  if (!('bun' in process.versions)) return false;
  const { Agent } = createRequire(__filename)('undici') as { Agent?: { prototype?: { compose?: unknown } } };
  return typeof Agent?.prototype?.compose !== 'function';
}

/** So much is kept of what can be read only once. */
const MOST_KEPT = 16 * 2 ** 20;

/**
 * `fetch` hands its body over as an iterator, even if it was made of a text; what it knows the length of (RFC 9110 8.6) it could
 * send again. So that is kept while it is read.
 */
function bodyOf({ body }: Options, headers: string[]): Sent {
  if (isRepeatable(body)) return { first: body, again: () => ({ body }) };
  const at = headers.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'content-length');
  const length = at < 0 ? Number.NaN : Number(headers[at + 1]);
  if (!(length <= MOST_KEPT) || has(body, 'pipe') || !has(body, Symbol.asyncIterator)) {
    return { first: body, again: () => undefined };
  }
  const chunks: Uint8Array[] = [];
  let kept = 0;
  async function* read(): AsyncGenerator<Uint8Array> {
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      if (kept <= length) chunks.push(chunk);
      kept += chunk.byteLength;
      yield chunk;
    }
  }
  return { first: read(), again: () => (kept === length ? { body: Buffer.concat(chunks) } : undefined) };
}

/** Holds a 401 back until it is known whether the call is sent again, and then lets go of it or swallows it. */
class Recovery implements Handler {
  readonly #send: (handler: Handler, body: unknown) => void;
  readonly #call: Call;
  readonly #url: URL;
  readonly #sent: Sent;
  #next: { body: unknown } | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #handler: Handler;
  #late: NodeJS.Timeout | undefined;
  #gaveUp = false;
  #swallowed = 0;
  /** Where redirects have led, which undici's own interceptor tells. */
  #history: URL[] | undefined;
  #state: 'open' | 'deciding' | 'swallowing' | 'failed' = 'open';
  /** What came in spite of the pause: the end of an answer to a HEAD does, and all that a `MockAgent` answers. */
  #early: { chunks: Uint8Array[]; trailers?: Record<string, unknown> } = { chunks: [] };

  constructor(
    send: (handler: Handler, body: unknown) => void,
    call: Call,
    url: URL,
    sent: Sent,
    options: Options,
    handler: Handler,
  ) {
    this.#send = send;
    this.#call = call;
    this.#url = url;
    this.#sent = sent;
    this.#signal = signalOf(options);
    this.#handler = handler;
  }

  onRequestStart(controller: Controller, context: unknown): void {
    this.#state = 'open';
    this.#early = { chunks: [] };
    this.#history = (context as { history?: URL[] } | undefined)?.history;
    this.#handler.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(controller: Controller, status: number, headers: Record<string, unknown>, socket: unknown): void {
    this.#handler.onRequestUpgrade?.(controller, status, headers, socket);
  }

  onResponseStart(controller: Controller, status: number, headers: Record<string, unknown>, message?: string): void {
    const handOn = (): void => this.#handler.onResponseStart?.(controller, status, headers, message);
    const url = this.#history?.at(-1)?.href ?? this.#url.href;
    // What came from where no token went says nothing about it.
    const isOurs = status >= 200 && this.#call.heeds(status) && new URL(url).origin === this.#url.origin;
    if (!isOurs) {
      handOn();
      return;
    }
    this.#state = 'deciding';
    controller.pause();
    const pairs = Object.entries(headers).flatMap(([name, value]) =>
      [value].flat().map((one): [string, string] => [name, String(one)]),
    );
    this.#next = this.#sent.again();
    const answer = { url, status, headers: pairs, repeatable: this.#next !== undefined };
    const decide = (repeats: boolean): void => {
      if (this.#state !== 'deciding') return;
      this.#state = repeats ? 'swallowing' : 'open';
      const { chunks, trailers } = this.#early;
      if (trailers && controller.aborted) {
        // It had ended, so that undici did not tell.
        this.onResponseError(controller, controller.reason as Error);
        return;
      }
      if (!repeats) handOn();
      for (const chunk of chunks) this.onResponseData(controller, chunk);
      if (trailers) this.onResponseEnd(controller, trailers);
      else {
        if (repeats) this.#late = setTimeout(() => this.#giveUp(controller), LONGEST_DRAIN_MS).unref();
        controller.resume();
      }
    };
    this.#call
      .repeats(answer, this.#signal)
      // Where it fails the client was closed, say. The answer is what it is.
      .then(decide, () => decide(false))
      .catch((error) => this.#fail(controller, error));
  }

  onResponseData(controller: Controller, chunk: Uint8Array): void {
    if (this.#state === 'deciding') this.#early.chunks.push(chunk);
    else if (this.#state === 'open') this.#handler.onResponseData?.(controller, chunk);
    else if ((this.#swallowed += chunk.byteLength) > MOST_DRAINED) this.#giveUp(controller);
  }

  onResponseEnd(controller: Controller, trailers: Record<string, unknown>): void {
    if (this.#state === 'deciding') this.#early.trailers = trailers;
    else if (this.#state === 'swallowing') this.#sendAgain();
    else this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: Controller | null, error: Error): void {
    // However the refused answer ends, the next one counts; unless the caller has given the call up.
    if (this.#state === 'swallowing' && (this.#gaveUp || !controller?.aborted)) {
      this.#sendAgain();
      return;
    }
    clearTimeout(this.#late);
    this.#state = 'failed';
    this.#handler.onResponseError?.(controller, error);
  }

  /** Reads no further in an answer that is long, or does not end. */
  #giveUp(controller: Controller): void {
    if (this.#state !== 'swallowing' || this.#gaveUp || controller.aborted) return;
    this.#gaveUp = true;
    controller.abort(new Error('the call is sent again'));
  }

  #sendAgain(): void {
    clearTimeout(this.#late);
    // What fails from here on is the next sending.
    this.#state = 'open';
    this.#gaveUp = false;
    this.#swallowed = 0;
    this.#send(this, this.#next?.body);
  }

  /** What the caller's handler threw is told to that handler, as undici does, and then given up. */
  #fail(controller: Controller, error: Error): void {
    notify('a handler of undici', this.#handler, () => this.onResponseError(controller, error));
  }
}

/**
 * An interceptor for undici's dispatchers: `new Agent().compose(undiciInterceptor(client))`.
 *
 * Each request gets a valid token; one that is answered with 401 is sent once more with a newer one, if its body can be sent
 * twice: a stream cannot. The token goes to the origins of `baseUrl` and `trustedOrigins` only: any other is an error before
 * anything is sent. An `authorization` of your own stands. For undici 7 and newer.
 *
 * @throws {EvertokenError} where the client has neither `baseUrl` nor `trustedOrigins`, and in Bun, whose `undici` is a stub without
 * `compose`.
 */
export function undiciInterceptor(client: Client): <D extends (options: never, handler: never) => boolean>(dispatch: D) => D {
  const core = coreOf(client);
  core.checkHasOrigins();
  if (isStub())
    throw mistake('the `undici` of Bun has no interceptors (`compose`): use `fetch` of the client, or `axiosInterceptor`');
  const intercept =
    (dispatch: Dispatch): Dispatch =>
    (options, handler) => {
      if (options.origin === undefined) {
        throw mistake('the dispatcher does not say where the request goes: compose an `Agent`, or give the request its `origin`');
      }
      const url = new URL(options.path, options.origin);
      core.checkOrigin(url);
      const headers = flat(options.headers);
      if (headers.some((name, index) => index % 2 === 0 && name.toLowerCase() === 'authorization'))
        return dispatch(options, handler);

      const start = (token: string): boolean => {
        const call = new Call(core, token);
        const sent = bodyOf(options, headers);
        const send = (recovery: Handler, body: unknown): boolean => {
          const { authorization, dpop } = call.sign(options.method, url.href);
          const signed = [...headers, 'authorization', authorization, ...(dpop === undefined ? [] : ['dpop', dpop])];
          return dispatch({ ...options, headers: signed, body }, recovery);
        };
        return send(new Recovery(send, call, url, sent, options, handler), sent.first);
      };
      const fail = (error: unknown): void =>
        notify('a handler of undici', handler, () => handler.onResponseError?.(null, error as Error));
      const held = core.held();
      if (held !== null) return start(held);
      core.token(signalOf(options), undiciInterceptor).then(start).catch(fail);
      return true;
    };
  return intercept as never;
}
