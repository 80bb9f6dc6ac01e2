import { createRequire } from 'node:module';

import { Call } from './call.js';
import { type Client, coreOf } from './client.js';
import { mistake } from './error.js';

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
}
interface Handler {
  onRequestStart?(controller: Controller, context: unknown): void;
  onRequestUpgrade?(controller: Controller, status: number, headers: Record<string, unknown>, socket: unknown): void;
  onResponseStart?(controller: Controller, status: number, headers: Record<string, unknown>, message?: string): void;
  onResponseData?(controller: Controller, chunk: Buffer): void;
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

function isRepeatable(body: unknown): boolean {
  return body == null || typeof body === 'string' || body instanceof Uint8Array;
}

/** Bun puts a stub of its own in the place of undici. */
function isStub(): boolean {
  if (!('bun' in process.versions)) return false;
  const { Agent } = createRequire(__filename)('undici') as { Agent?: { prototype?: { compose?: unknown } } };
  return typeof Agent?.prototype?.compose !== 'function';
}

const signalOf = ({ signal }: Options): AbortSignal | undefined => (signal instanceof AbortSignal ? signal : undefined);

/** Holds a 401 back until it is known whether the call is sent again, and then lets go of it or swallows it. */
class Recovery implements Handler {
  readonly #send: (handler: Handler) => void;
  readonly #call: Call;
  readonly #url: URL;
  readonly #repeatable: boolean;
  readonly #signal: AbortSignal | undefined;
  readonly #handler: Handler;
  /** Where redirects have led, which undici's own interceptor tells. */
  #history: URL[] | undefined;
  #state: 'open' | 'deciding' | 'swallowing' | 'failed' = 'open';
  /** What came in spite of the pause: the end of an answer to a HEAD does, and all that a `MockAgent` answers. */
  #early: { chunks: Buffer[]; trailers?: Record<string, unknown> } = { chunks: [] };

  constructor(send: (handler: Handler) => void, call: Call, url: URL, options: Options, handler: Handler) {
    this.#send = send;
    this.#call = call;
    this.#url = url;
    this.#repeatable = isRepeatable(options.body);
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
    const answer = { url, status, headers: pairs, repeatable: this.#repeatable };
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
      else controller.resume();
    };
    this.#call
      .repeats(answer, this.#signal)
      // Where it fails the client was closed, say. The answer is what it is.
      .then(decide, () => decide(false))
      .catch((error) => this.onResponseError(controller, error));
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#state === 'deciding') this.#early.chunks.push(chunk);
    else if (this.#state === 'open') this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: Controller, trailers: Record<string, unknown>): void {
    if (this.#state === 'deciding') this.#early.trailers = trailers;
    else if (this.#state === 'swallowing') this.#send(this);
    else this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: Controller | null, error: Error): void {
    this.#state = 'failed';
    this.#handler.onResponseError?.(controller, error);
  }
}

/**
 * An interceptor for undici's dispatchers: `new Agent().compose(undiciInterceptor(client))`.
 *
 * Each request gets a valid token; one that is answered with 401 is sent once more with a newer one, where its body can be sent
 * twice (text, bytes, or none). The token goes to the origins of `baseUrl` and `trustedOrigins` only: any other is an error before
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
        const send = (recovery: Handler): boolean => {
          const { authorization, dpop } = call.sign(options.method, url.href);
          const signed = [...headers, 'authorization', authorization, ...(dpop === undefined ? [] : ['dpop', dpop])];
          return dispatch({ ...options, headers: signed }, recovery);
        };
        return send(new Recovery(send, call, url, options, handler));
      };
      const fail = (error: unknown): void => handler.onResponseError?.(null, error as Error);
      const held = core.held();
      if (held !== null) return start(held);
      core.token(signalOf(options), undiciInterceptor).then(start).catch(fail);
      return true;
    };
  return intercept as never;
}
