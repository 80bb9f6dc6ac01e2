/**
 * The bodies of requests and answers: which can be sent again, and how to let go of an answer that nobody reads. They come from
 * the platform, from Node's streams, and from libraries with streams of their own.
 *
 * @module
 */
import { has } from './kinds.js';

/**
 * Whether this body can be sent twice: all but a stream, of Node's or of the web's, and what else is read once. A library's form
 * that is a stream, such as that of the package `form-data`, is one, too.
 */
export function isRepeatable(body: unknown): boolean {
  if (typeof body === 'function') return false;
  return ![Symbol.asyncIterator, 'pipe', 'getReader', 'next'].some((name) => has(body, name));
}

/** So much of an answer is read to keep its connection, and for so long. More costs more than another connection. */
export const MOST_DRAINED = 64 * 1024;
export const LONGEST_DRAIN_MS = 1_000;

function ignore(): void {}

/**
 * Keeps the error of a stream from ending the process while the caller does not have it yet; a signal that is aborted raises one.
 * Returns how to undo this.
 */
export function guard(body: unknown): () => void {
  if (!has(body, 'on') || !has(body, 'off')) return ignore;
  body.on('error', ignore);
  return () => {
    body.off('error', ignore);
  };
}

/** Lets go of an answer's body, so that its connection is free. It never throws. */
export function release(body: unknown): void {
  try {
    if (has(body, 'cancel')) Promise.resolve(body.cancel()).catch(ignore);
    else if (has(body, 'on') && has(body, 'pipe')) drain(body);
  } catch {
    // It had ended, or is none that can be let go of.
  }
}

/** A stream behind another one is not always destroyed with it, so that a short answer is read to its end. */
function drain(body: Record<'on', (...args: unknown[]) => unknown>): void {
  const stop = (): void => {
    if (has(body, 'destroy')) body.destroy();
  };
  const late = setTimeout(stop, LONGEST_DRAIN_MS);
  late.unref();
  let read = 0;
  guard(body);
  body.on('close', () => clearTimeout(late));
  body.on('end', () => clearTimeout(late));
  body.on('data', (chunk: unknown) => {
    read += (chunk as { length?: number }).length ?? 0;
    if (read > MOST_DRAINED) stop();
  });
}
