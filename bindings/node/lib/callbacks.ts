/**
 * Calls of functions that the user gave us and whose outcome nobody awaits: listeners and loggers.
 *
 * @module
 */
import { kindOf } from './kinds.js';

const warned = new WeakSet<object>();

function framesOf(error: unknown): string {
  try {
    const { stack } = Object(error) as { stack?: unknown };
    const frames = typeof stack === 'string' ? stack.indexOf('\n    at ') : -1;
    return frames < 0 ? '' : String(stack).slice(frames + 1);
  } catch {
    return '';
  }
}

/**
 * Calls a function of the user's. If it throws, or gives a promise that rejects, a warning of Node's says so, once per function;
 * the process and all others that are to be called go on. What its error says may hold a secret: the warning has the kind and
 * the stack.
 */
export function notify(what: string, owner: object, call: () => unknown): void {
  const failed = (error: unknown): void => {
    if (warned.has(owner)) return;
    warned.add(owner);
    process.emitWarning(`${what} failed: ${kindOf(error)}`, { type: 'EvertokenWarning', detail: framesOf(error) });
  };
  try {
    const outcome = call();
    if (typeof outcome === 'object' && outcome !== null) Promise.resolve(outcome).catch(failed);
  } catch (error) {
    failed(error);
  }
}
