import { Call } from './call.js';
import type { Core } from './core.js';
import { attempt } from './error.js';
import { native } from './native.js';

/** What `fetch` is made of here: types of the platform, whose names differ between its versions. */
type Input = Parameters<typeof fetch>[0];
type Init = NonNullable<Parameters<typeof fetch>[1]>;

const { version } = require('../package.json') as { version: string };

/** Whether this body can be sent twice. */
function isRepeatable(body: unknown): boolean {
  return (
    body == null ||
    typeof body === 'string' ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body) ||
    body instanceof Blob ||
    body instanceof URLSearchParams ||
    body instanceof FormData
  );
}

/** The target: a path below the base, an absolute URL, or that of a request. */
function targetOf(core: Core, input: Input): URL {
  if (typeof input === 'string') return new URL(attempt(() => native.resolve(core.handle, input)));
  return input instanceof URL ? input : new URL(input.url);
}

/** `fetch` with the token of this client. */
export function fetchOf(core: Core): typeof fetch {
  const { timeoutMs, userAgent } = core.extras;
  const send = core.extras.fetch ?? ((input: Input, init?: Init) => globalThis.fetch(input, init));
  const introduced = userAgent === undefined ? undefined : `${userAgent} evertoken/${version}`;

  return async function authorizedFetch(input: Input, init: Init = {}): Promise<Response> {
    const target = targetOf(core, input);
    core.checkOrigin(target);
    const request = input instanceof Request ? input : undefined;
    // As `fetch` itself has it: those of `init` are in the place of the request's.
    const headers = new Headers(init.headers ?? request?.headers);
    if (introduced !== undefined && !headers.has('user-agent')) headers.set('user-agent', introduced);
    let signal = init.signal ?? request?.signal;
    if (timeoutMs !== undefined) {
      const limit = AbortSignal.timeout(timeoutMs);
      signal = signal ? AbortSignal.any([signal, limit]) : limit;
    }
    const options: Init = { ...init, headers, signal };
    if (headers.has('authorization')) return send(request ?? target, options);

    const method = (init.method ?? request?.method ?? 'GET').toUpperCase();
    if (core.isDpop) options.redirect = 'manual';
    const ownBody = request !== undefined && request.body !== null && init.body === undefined;
    const repeatable = ownBody || isRepeatable(init.body);
    const call = new Call(core, await core.token(signal, authorizedFetch));
    let first = true;
    for (;;) {
      const { authorization, dpop } = call.sign(method, target.href);
      headers.set('authorization', authorization);
      if (dpop !== undefined) headers.set('dpop', dpop);
      // The body of a request is read once: a copy is sent first.
      const response = await send(request && ownBody && first ? request.clone() : (request ?? target), options);
      first = false;
      if (!call.heeds(response.status)) return response;
      // What came from where no token went says nothing about it.
      if (response.redirected && new URL(response.url).origin !== target.origin) return response;
      const answer = { url: response.url || target.href, status: response.status, headers: response.headers, repeatable };
      if (!(await call.repeats(answer, signal))) return response;
      await response.body?.cancel();
    }
  };
}
