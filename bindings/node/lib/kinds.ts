/**
 * What a value is, whichever realm or library it comes from: `instanceof` knows the classes of this realm alone. What is done
 * with bodies stands in `bodies.ts`.
 *
 * @module
 */
import { types } from 'node:util';

type Member = (...args: unknown[]) => unknown;

/** Whether `value` is an object with a method of this name. */
export function has<N extends PropertyKey>(value: unknown, name: N): value is Record<N, Member> {
  return typeof value === 'object' && value !== null && typeof (value as Record<N, unknown>)[name] === 'function';
}

const isTagged = (value: unknown, tag: string): value is object =>
  typeof value === 'object' && value !== null && Object.prototype.toString.call(value) === `[object ${tag}]`;

/** A URL object, of the platform or of a library that has one like it. */
export const isUrl = (value: unknown): value is URL => isTagged(value, 'URL') && typeof (value as URL).href === 'string';

/** The signal of an `AbortController`. */
export const isSignal = (value: unknown): value is AbortSignal =>
  isTagged(value, 'AbortSignal') && has(value, 'addEventListener');

/** A `Buffer` or another `Uint8Array`. */
export const isBytes = (value: unknown): value is Uint8Array => types.isUint8Array(value);

/** The kind of something that was thrown. What it says may hold a secret, and is not told. */
export function kindOf(thrown: unknown): string {
  try {
    const isError = thrown instanceof Error || types.isNativeError(thrown);
    return isError && typeof thrown.name === 'string' ? thrown.name : typeof thrown;
  } catch {
    return typeof thrown;
  }
}
