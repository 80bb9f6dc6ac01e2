import { Client, fromEnvironment, make } from './client.js';
import { mistake } from './error.js';
import { behindEnvironment, type ClientOptions, checkOptions } from './options.js';

/** What an API's provider knows: the options that are the same for all its customers, and how it names keys and variables. */
export interface PresetOptions extends ClientOptions {
  /** The prefix of the API keys that are taken, such as `acme_live`; any by default. */
  keyPrefix?: string;
  /** The word with which environment variables begin; `EVERTOKEN` by default. */
  envPrefix?: string;
}

/**
 * All that is the same for every customer of one API, from which their clients are made. A customer's own options go before it, and
 * with `fromEnv` those in the environment, too; an `issuer` or `tokenUrl` of theirs takes the place of both.
 *
 * @example
 * ```ts
 * export const ACME = new Preset({
 *   issuer: 'https://acme.eu.auth0.com/',
 *   audience: 'https://api.acme.com',
 *   baseUrl: 'https://api.acme.com/v1/',
 *   keyPrefix: 'acme_live',
 *   envPrefix: 'ACME',
 * });
 * // What a customer writes:
 * const api = ACME.client('app-7', 's3cr3t');
 * ```
 */
export class Preset {
  readonly #options: ClientOptions;
  readonly #keyPrefix: string | undefined;
  readonly #envPrefix: string;

  /** Mistakes in it are thrown here. */
  constructor({ keyPrefix, envPrefix = 'EVERTOKEN', ...options }: PresetOptions) {
    checkOptions(options);
    if (keyPrefix !== undefined && typeof keyPrefix !== 'string') throw mistake('option `keyPrefix` must be a string');
    if (typeof envPrefix !== 'string') throw mistake('option `envPrefix` must be a string');
    this.#options = options;
    this.#keyPrefix = keyPrefix;
    this.#envPrefix = envPrefix;
  }

  /** A client for these credentials. Nothing is sent yet. */
  client(appId: string, appSecret: string, options: ClientOptions = {}): Client {
    return new Client(appId, appSecret, this.#with(options));
  }

  /** A client for an API key; one of another prefix is refused. */
  fromApiKey(apiKey: string, options: ClientOptions = {}): Client {
    if (typeof apiKey !== 'string') throw mistake(`the API key must be a string, not ${typeof apiKey}`);
    if (this.#keyPrefix !== undefined && !apiKey.startsWith(`${this.#keyPrefix}_`)) {
      throw mistake(
        `the API key does not begin with "${this.#keyPrefix}": it is for another service, or for another environment of this one`,
      );
    }
    return make(this.#with(options), { apiKey });
  }

  /**
   * A client by the environment, with variables such as `ACME_APP_ID` where `envPrefix` is `ACME`, as `Client.fromEnv` reads them.
   * What is preset gives way to them, and they to `options`.
   */
  fromEnv(options: ClientOptions = {}): Client {
    checkOptions(options);
    return fromEnvironment(
      this.#envPrefix,
      this.#keyPrefix,
      this.#with(options, behindEnvironment(this.#envPrefix, this.#options)),
    );
  }

  /** A client for a function or a file: `options.credentials`, `options.credentialsFile`. */
  clientWith(options: ClientOptions): Client {
    return new Client(this.#with(options));
  }

  #with(options: ClientOptions, behind = this.#options): ClientOptions {
    checkOptions(options);
    const preset = { ...behind };
    if (options.issuer !== undefined || options.tokenUrl !== undefined) {
      delete preset.issuer;
      delete preset.tokenUrl;
    }
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    return { ...preset, ...Object.fromEntries(given) };
  }
}
