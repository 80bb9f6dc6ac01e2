import { kindOf } from './kinds.js';
import { type Handle, native } from './native.js';

/** App id and app secret: OAuth's `client_id` and `client_secret` (RFC 6749 2.3.1). */
export interface Credentials {
  /** The app id. */
  appId: string;
  /** The app secret; it may be empty where `clientAuth` needs none. */
  appSecret: string;
  /** The secret to try where the server refuses the other, in a rotation. */
  nextAppSecret?: string;
}

/**
 * Gives the credentials, from a vault or the like. It is asked before each token request, again at once where the server refuses
 * the credential, and every 15 s while it does; one call at a time, and otherwise no more than once in a second. It has half of an
 * attempt's time for an answer, 5 s by default; where it fails, the last credential stays in use.
 */
export type CredentialFunction = () => Credentials | Promise<Credentials>;

/**
 * Answers Rust's question, and never rejects. What a failed function said may hold a secret, so that only the kind of its error is
 * told.
 */
export async function answer(handle: Handle, question: number, give: CredentialFunction): Promise<void> {
  let given: Credentials | null = null;
  let reason = 'the function for credentials gave no { appId, appSecret }';
  try {
    // Read here, since its members may fail as well.
    const { appId, appSecret, nextAppSecret } = Object(await give()) as Partial<Credentials>;
    const good =
      typeof appId === 'string' && typeof appSecret === 'string' && ['string', 'undefined'].includes(typeof nextAppSecret);
    if (good) given = { appId, appSecret, nextAppSecret };
  } catch (error) {
    reason = `the function for credentials failed: ${kindOf(error)}`;
  }
  native.giveCredentials(handle, question, given, reason);
}
