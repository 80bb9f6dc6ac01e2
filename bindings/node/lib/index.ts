/**
 * A valid access token, always at hand.
 *
 * @module
 */
export { axiosInterceptor } from './axios.js';
export { Client, type WaitOptions, type WithOptions } from './client.js';
export type { CredentialFunction, Credentials } from './credentials.js';
export { type ErrorCode, EvertokenError } from './error.js';
export { type Event, type EventKind, type EventOf, Events, type Quota } from './events.js';
export type { Logger } from './log.js';
export type {
  AssertionAudience,
  ClientAuth,
  ClientOptions,
  PrivateJwk,
  PrivateKey,
  PrivateKeyObject,
  RenewalPolicy,
} from './options.js';
export { Preset, type PresetOptions } from './preset.js';
export type { State, Status } from './status.js';
export { undiciInterceptor } from './undici.js';
