import { guard, isRepeatable, release } from './bodies.js';
import { Call } from './call.js';
import { type Client, coreOf } from './client.js';
import { isSignal } from './kinds.js';

/** What is used of axios's types, so that nobody needs them who does not use axios. */
interface Config {
  // biome-ignore lint/suspicious/noExplicitAny: axios's own type says so
  headers: any;
  method?: string;
  data?: unknown;
  maxRedirects?: number;
  // biome-ignore lint/suspicious/noExplicitAny: axios's own type says so
  beforeRedirect?: (options: Record<string, any>, ...more: any[]) => void;
  signal?: unknown;
  /** Only while it is sent: a call that is made of this config later is another one. */
  evertoken?: Way;
}
interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: axios's own type says so
  headers: any;
  config: Config;
  data?: unknown;
  // biome-ignore lint/suspicious/noExplicitAny: what the adapter made
  request?: any;
}
interface Axios {
  interceptors: {
    // biome-ignore lint/suspicious/noExplicitAny: axios's own types are generic
    request: { use(meet: (config: any) => any): number; eject(id: number): void };
    // biome-ignore lint/suspicious/noExplicitAny: axios's own types are generic
    response: { use(meet: (response: any) => any, refused: (error: any) => any): number; eject(id: number): void };
  };
  // biome-ignore lint/suspicious/noExplicitAny: axios's own types are generic
  getUri(config: any): string;
  // biome-ignore lint/suspicious/noExplicitAny: axios's own types are generic
  request(config: any): Promise<any>;
}

/** One call's way. Not a plain object, which axios would copy. */
class Way {
  constructor(
    readonly call: Call,
    readonly url: URL,
    /** Of the caller's. */
    readonly beforeRedirect: Config['beforeRedirect'],
    /** The body as it was given, before axios transformed it. */
    readonly data: unknown,
  ) {}
}

/** Takes from a config what was put into it; what the caller put there stands. */
function strip(config: Config | undefined): Way | undefined {
  const way = config?.evertoken;
  if (!config || !way) return undefined;
  config.headers?.delete?.('Authorization');
  config.headers?.delete?.('DPoP');
  config.beforeRedirect = way.beforeRedirect;
  config.evertoken = undefined;
  return way;
}

/** Whether no stream is in there, however deep. */
function holdsNoStream(data: unknown): boolean {
  if (!isRepeatable(data)) return false;
  if (typeof data !== 'object' || data === null || ArrayBuffer.isView(data)) return true;
  return Object.values(data).every(holdsNoStream);
}

/** Whether the body can be sent again. Of an object axios may have made a form, which is a stream; another one can be made. */
const isSentAgain = (sent: unknown, given: unknown): boolean => isRepeatable(sent) || (sent !== given && holdsNoStream(given));

const signalOf = ({ signal }: Config): AbortSignal | undefined => (isSignal(signal) ? signal : undefined);

/**
 * Gives the requests of an axios instance a valid token: `axiosInterceptor(client, axios.create({ baseURL }))`. What it returns takes
 * it off again.
 *
 * A request that is answered with 401 is sent once more with a newer token, if its body can be sent twice: a stream cannot. The token goes to the
 * origins of `baseUrl` and `trustedOrigins` only: any other is an error before anything is sent, and no redirect takes it to another
 * origin. An `Authorization` of your own stands. What axios gives back in `config` holds no token.
 *
 * @throws {EvertokenError} where the client has neither `baseUrl` nor `trustedOrigins`.
 */
export function axiosInterceptor(client: Client, axios: Axios): () => void {
  const core = coreOf(client);
  core.checkHasOrigins();

  const sign = async (config: Config): Promise<Config> => {
    const url = new URL(axios.getUri(config));
    core.checkOrigin(url);
    if (config.headers.has('Authorization')) return config;
    const way =
      config.evertoken ??
      new Way(new Call(core, await core.token(signalOf(config), axiosInterceptor)), url, config.beforeRedirect, config.data);
    const { authorization, dpop } = way.call.sign((config.method ?? 'get').toUpperCase(), url.href);
    config.headers.set('Authorization', authorization);
    if (dpop !== undefined) {
      config.headers.set('DPoP', dpop);
      config.maxRedirects = 0;
    }
    config.beforeRedirect = (options, ...more) => {
      // It would go on to the subdomains of a host.
      if (new URL(options.href).origin !== url.origin) {
        for (const name of Object.keys(options.headers)) if (name.toLowerCase() === 'authorization') delete options.headers[name];
      }
      way.beforeRedirect?.(options, ...more);
    };
    config.evertoken = way;
    return config;
  };

  /** The answer to another sending, where there was one. */
  const again = async ({ status, headers, config, data, request }: Answer): Promise<unknown> => {
    const way = strip(config);
    if (!way) return undefined;
    const url = request?.res?.responseUrl ?? way.url.href;
    // What came from where no token went says nothing about it.
    if (!way.call.heeds(status) || new URL(url).origin !== way.url.origin) return undefined;
    const pairs = Object.entries(headers).flatMap(([name, value]) =>
      [value].flat().map((one): [string, string] => [name, String(one)]),
    );
    const answer = { url, status, headers: pairs, repeatable: isSentAgain(config.data, way.data) };
    const unguard = guard(data);
    try {
      if (!(await way.call.repeats(answer, signalOf(config)))) {
        unguard();
        return undefined;
      }
    } catch (error) {
      release(data);
      throw error;
    }
    release(data);
    return axios.request({ ...config, data: way.data, evertoken: way });
  };

  const onRequest = axios.interceptors.request.use(sign);
  const onResponse = axios.interceptors.response.use(
    async (response: Answer) => (await again(response)) ?? response,
    async (error: { response?: Answer; config?: Config }) => {
      const response = error.response && (await again(error.response));
      if (response !== undefined) return response;
      strip(error.config);
      throw error;
    },
  );
  return () => {
    axios.interceptors.request.eject(onRequest);
    axios.interceptors.response.eject(onResponse);
  };
}
