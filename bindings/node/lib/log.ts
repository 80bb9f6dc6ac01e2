import { notify } from './callbacks.js';
import type { Event } from './events.js';

/** Where log lines go: the console, pino, winston and their like. None of them holds a token or a secret. */
export interface Logger {
  /** Of renewals that went well. */
  debug?(message: string): unknown;
  /** Of refused tokens and rotated credentials. */
  info?(message: string): unknown;
  /** Of renewals that failed while a token is held, scopes that were not granted, quotas, and settings that look wrong. */
  warn?(message: string): unknown;
  /** Of renewals that failed with no token held. */
  error?(message: string): unknown;
}

export type LogLevel = keyof Logger;

function line(event: Event, holdsToken: boolean): [LogLevel, string] | undefined {
  switch (event.kind) {
    case 'renewed': {
      const missing = event.missingScopes.length > 0 ? `; scopes not granted: ${event.missingScopes.join(' ')}` : '';
      return [missing ? 'warn' : 'debug', `token renewed; it lives ${event.lifetimeMs / 1e3} s${missing}`];
    }
    case 'renewalFailed':
      return holdsToken
        ? ['warn', `renewal failed; the held token serves on: ${event.error.message}`]
        : ['error', `renewal failed; no token is held: ${event.error.message}`];
    case 'credentialsRotated':
      return ['info', 'the credential has changed'];
    case 'quotaLow':
      return ['warn', `few tokens left in the server's quota (${event.quota.remaining}); renewing later`];
    case 'invalidated':
      return ['info', 'token refused by the API; renewing it'];
    case 'closed':
      return ['debug', 'closed'];
    default:
      // A refused credential is told as a renewal that failed.
      return undefined;
  }
}

/** Writes what happens to a client into its log. */
export function logTo(logger: Logger, holdsToken: () => boolean): (event: Event) => void {
  return (event) => {
    const [level, text] = line(event, event.kind === 'renewalFailed' && holdsToken()) ?? [];
    // A log that fails must not stop what it tells of.
    if (level) notify(`the option \`logger.${level}\``, logger, () => logger[level]?.(`evertoken: ${text}`));
  };
}

/** Warns of what no event tells: by the logger if there is one, else as a warning of the process. */
export function warnOf(text: string, logger: Logger | undefined): void {
  if (logger) notify('the option `logger.warn`', logger, () => logger.warn?.(`evertoken: ${text}`));
  else process.emitWarning(`evertoken: ${text}`, 'EvertokenWarning');
}
