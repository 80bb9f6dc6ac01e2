import { guard, isRepeatable, release } from './bodies.js';
import { Call } from './call.js';
import type { Core } from './core.js';
import { attempt, mistake } from './error.js';
import { has as hasMethod, isUrl } from './kinds.js';
import { native } from './native.js';

/** What `fetch` is made of here: types of the platform, whose names differ between its versions. */
type Input = Parameters<typeof fetch>[0];
type Init = NonNullable<Parameters<typeof fetch>[1]>;

const { version } = require('../package.json') as { version: string };

/** The headers of one call, to which ours are added. */
type Bag = Headers | Record<string, string>;

/** A copy of them; a plain object where that is what they are, since that is several times as fast. */
function copied(headers: Init['headers']): Bag {
  if (headers === undefined) return {};
  if (headers === null || Object.getPrototypeOf(headers) !== Object.prototype) return new Headers(headers);
  const bag: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers as Record<string, string>)) {
    const key = name.toLowerCase();
    // Written in two ways, both count.
    if (key in bag) return new Headers(headers);
    bag[key] = value;
  }
  return bag;
}

const has = (bag: Bag, name: string): boolean => (bag instanceof Headers ? bag.has(name) : name in bag);

function put(bag: Bag, name: string, value: string): void {
  if (bag instanceof Headers) bag.set(name, value);
  else bag[name] = value;
}

/** A request, of the platform or of another library that has one like it. */
function isRequest(input: unknown): input is Request {
  if (input instanceof Request) return true;
  const { url, method, clone } = Object(input) as Record<string, unknown>;
  return typeof url === 'string' && typeof method === 'string' && typeof clone === 'function';
}

/** A copy with its body in memory. The `clone` of one with a stream of Node's waits until both are read. */
async function inMemory(request: Request): Promise<Request> {
  const body = await request.arrayBuffer();
  return new (request.constructor as typeof Request)(request, { body });
}

const MOST_PATHS = 1_000;

/** Where calls go: from a path below the base, an absolute URL, or that of a request. Whatever it gives may have the token. */
function targetsOf(core: Core): (input: Input) => string {
  // Rust's rules, asked for once for each path.
  const known = new Map<string, string>();
  return (input) => {
    if (typeof input !== 'string') {
      if (!(isUrl(input) || isRequest(input))) throw mistake('`fetch` takes a path, a URL or a `Request`');
      // The platform's `fetch` would take it for text.
      if (!(isUrl(input) || input instanceof Request || core.extras.fetch))
        throw mistake("a `Request` that is not the platform's needs the `fetch` of its library as an option of the client");
      const url = isUrl(input) ? input : new URL(input.url);
      core.checkOrigin(url);
      return url.href;
    }
    let href = known.get(input);
    if (href === undefined) {
      href = attempt(() => native.resolve(core.handle, input));
      core.checkOrigin(new URL(href));
      if (known.size === MOST_PATHS) known.clear();
      known.set(input, href);
    }
    return href;
  };
}

/** The longest of the platform's timers. */
const LONGEST_MS = 2 ** 31 - 1;

/** `fetch` with the token of this client. */
export function fetchOf(core: Core): typeof fetch {
  const { timeoutMs, userAgent } = core.extras;
  const limitMs = timeoutMs === undefined ? undefined : Math.min(Math.ceil(timeoutMs), LONGEST_MS);
  const send = core.extras.fetch ?? ((input: Input, init?: Init) => globalThis.fetch(input, init));
  const introduced = userAgent === undefined ? undefined : `${userAgent} evertoken/${version}`;

  const targetOf = targetsOf(core);

  return async function authorizedFetch(input: Input, init: Init = {}): Promise<Response> {
    const target = targetOf(input);
    let request = isRequest(input) ? input : undefined;
    // As `fetch` itself has it: those of `init` are in the place of the request's.
    const headers = copied(init.headers ?? request?.headers);
    if (introduced !== undefined && !has(headers, 'user-agent')) put(headers, 'user-agent', introduced);
    let signal = init.signal ?? request?.signal;
    if (limitMs !== undefined) {
      const limit = AbortSignal.timeout(limitMs);
      signal = signal ? AbortSignal.any([signal, limit]) : limit;
    }
    const options: Init = { ...init, headers };
    if (signal) options.signal = signal;
    if (has(headers, 'authorization')) return send(request ?? target, options);

    const method = (init.method ?? request?.method ?? 'GET').toUpperCase();
    if (core.isDpop) options.redirect = 'manual';
    const ownBody = request !== undefined && request.body !== null && init.body === undefined;
    const repeatable = ownBody || isRepeatable(init.body);
    if (request && ownBody && hasMethod(request.body, 'pipe')) request = await inMemory(request);
    const call = new Call(core, await core.token(signal, authorizedFetch));
    let first = true;
    for (;;) {
      const { authorization, dpop } = call.sign(method, target);
      put(headers, 'authorization', authorization);
      if (dpop !== undefined) put(headers, 'dpop', dpop);
      // The body of a request is read once: a copy is sent first.
      const response = await send(request && ownBody && first ? request.clone() : (request ?? target), options);
      first = false;
      if (!call.heeds(response.status)) return response;
      // What came from where no token went says nothing about it.
      if (response.redirected && new URL(response.url).origin !== new URL(target).origin) return response;
      const { status, headers: told, body } = response;
      const answer = { url: response.url || target, status, headers: told, repeatable };
      const unguard = guard(body);
      try {
        if (!(await call.repeats(answer, signal))) {
          unguard();
          return response;
        }
      } catch (error) {
        release(body);
        throw error;
      }
      release(body);
    }
  };
}
