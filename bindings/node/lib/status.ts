import { type EvertokenError, told } from './error.js';
import { type Quota, quotaOf } from './events.js';

/** In which state a client is. */
export type State =
  /** No token yet: not asked for, or the first one is on its way. */
  | 'starting'
  /** A token is held and nothing is to do. */
  | 'fresh'
  /** A request for a token is under way. */
  | 'renewing'
  /** The last attempt failed. A held token is served on; the next attempt is planned. */
  | 'degraded'
  /** The authorization server refuses the credential or the request; it is looked at again now and then. */
  | 'rejected'
  /** Nobody read the token for as long as the policy says; the next read starts again. */
  | 'idle'
  /** Closed, for good. */
  | 'closed';

/** A picture of a client at one moment. It holds no token. */
export interface Status {
  /** The state. */
  readonly state: State;
  /** Whether a valid token is at hand: the readiness check of a service. */
  readonly isReady: boolean;
  /** When the held token is handed out for the last time, a leeway before its expiry; null without a valid one. */
  readonly expiresAt: Date | null;
  /** The same as milliseconds from now. */
  readonly expiresInMs: number | null;
  /** How long ago the held token was asked for. */
  readonly ageMs: number | null;
  /** The scope that was granted. */
  readonly scope: string | null;
  /** When a token was last received. */
  readonly lastRenewal: Date | null;
  /** What was left of the server's quota after the last renewal; null where it does not say. */
  readonly quota: Quota | null;
  /** The time to the next attempt, where one is planned. */
  readonly nextAttemptMs: number | null;
  /** How many attempts in a row have failed. */
  readonly consecutiveFailures: number;
  /** Why the last attempt failed; null after a success. */
  readonly lastError: EvertokenError | null;
}

export function statusOf(json: string): Status {
  const { state, expiresInMs, ageMs, scope, lastRenewal, quota, nextAttemptMs, consecutiveFailures, lastError } =
    JSON.parse(json);
  return {
    state,
    isReady: expiresInMs !== null,
    expiresAt: expiresInMs === null ? null : new Date(Date.now() + expiresInMs),
    expiresInMs,
    ageMs,
    scope,
    lastRenewal: lastRenewal === null ? null : new Date(lastRenewal),
    quota: quota === null ? null : quotaOf(quota),
    nextAttemptMs,
    consecutiveFailures,
    lastError: lastError === null ? null : told(lastError),
  };
}
