import { types } from 'node:util';

/** What {@link EvertokenError.code} may be. They are stable. */
export type ErrorCode =
  /** The authorization server knows the credential and refuses it (`invalid_client`, RFC 6749 5.2). */
  | 'ERR_EVERTOKEN_CREDENTIALS_REJECTED'
  /** The source of the credentials has given none yet, or its key could not be used. */
  | 'ERR_EVERTOKEN_CREDENTIALS_UNAVAILABLE'
  /** The authorization server could not be reached, broke off, or answered with a 5xx. */
  | 'ERR_EVERTOKEN_AUTH_SERVER_UNAVAILABLE'
  /** The authorization server asks for fewer requests (429). */
  | 'ERR_EVERTOKEN_THROTTLED'
  /** The authorization server takes the credential, but not what is asked for: a scope, an audience, a grant. */
  | 'ERR_EVERTOKEN_REQUEST_REFUSED'
  /** The authorization server answered, but not with a token that can be used. */
  | 'ERR_EVERTOKEN_INVALID_RESPONSE'
  /** No token came in time, and no attempt had failed by then. */
  | 'ERR_EVERTOKEN_TIMEOUT'
  /** The call would have carried the token to an origin that is not trusted. Nothing was sent. */
  | 'ERR_EVERTOKEN_UNTRUSTED_ORIGIN'
  /** The client was set up wrongly, or called wrongly. */
  | 'ERR_EVERTOKEN_CONFIGURATION'
  /** The client was closed. */
  | 'ERR_EVERTOKEN_CLOSED';

interface Fields {
  code: ErrorCode;
  message: string;
  oauthError?: string | null;
  description?: string | null;
  retryAfterMs?: number | null;
  server?: string | null;
  status?: number | null;
  retryable?: boolean;
  cause?: string | null;
}

/**
 * What can go wrong, as one class: {@link code} tells the kinds apart.
 *
 * Its message is one line: what failed, against which server, with which OAuth code, whether it mends itself, and what to do. It
 * never holds a secret or a token.
 */
export class EvertokenError extends Error {
  override readonly name = 'EvertokenError';
  /** The kind. */
  readonly code: ErrorCode;
  /** The OAuth error code, such as `invalid_client` (RFC 6749 5.2). */
  declare readonly oauthError?: string;
  /** The server's `error_description`, shortened, without what is secret. */
  declare readonly description?: string;
  /** Milliseconds to the next attempt, where one is planned. */
  declare readonly retryAfterMs?: number;
  /** The URL of the server that it is about, without its query. */
  declare readonly server?: string;
  /** The HTTP status of the server's answer. */
  declare readonly status?: number;
  /** Whether it may mend by itself. */
  readonly retryable: boolean;

  /** @internal */
  constructor(fields: Fields) {
    super(fields.message, fields.cause ? { cause: new Error(fields.cause) } : undefined);
    this.code = fields.code;
    this.retryable = fields.retryable ?? false;
    for (const name of ['oauthError', 'description', 'retryAfterMs', 'server', 'status'] as const) {
      if (fields[name] != null) Object.defineProperty(this, name, { value: fields[name], enumerable: true });
    }
    // What the caller sees is where it asked, and not where the answer came in.
    if (fields.cause) (this.cause as Error).stack = `Error: ${fields.cause}`;
  }
}

/** A mistake of whoever set the client up, or calls it. */
export function mistake(message: string): EvertokenError {
  return new EvertokenError({ code: 'ERR_EVERTOKEN_CONFIGURATION', message });
}

/** The error that Rust told of in JSON; `asked` has the stack of whoever waited for it. */
export function told(json: string, asked?: Error): EvertokenError {
  const error = new EvertokenError(JSON.parse(json) as Fields);
  const frames = asked?.stack?.indexOf('\n    at ') ?? -1;
  if (asked?.stack && frames >= 0) error.stack = `${error.name}: ${error.message}${asked.stack.slice(frames)}`;
  return error;
}

/** Calls Rust, whose errors come as JSON in the message of an ordinary one. */
export function attempt<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    // Not of this realm's class where the package was loaded into a context of its own.
    const message = types.isNativeError(error) ? error.message : '';
    if (message.startsWith('{')) throw told(message, error as Error);
    throw error;
  }
}
