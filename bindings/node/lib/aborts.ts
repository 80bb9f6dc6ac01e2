/**
 * Aborts of waits. However many wait by one signal, it gets one listener: Node warns of more than ten.
 *
 * @module
 */

interface Waiting {
  acts: Set<() => void>;
  abort: () => void;
}

const bySignal = new WeakMap<AbortSignal, Waiting>();

/** Calls `act` when the signal is aborted. Returns how to undo this. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  let waiting = bySignal.get(signal);
  if (!waiting) {
    const acts = new Set<() => void>();
    const abort = (): void => {
      bySignal.delete(signal);
      for (const each of acts) each();
    };
    waiting = { acts, abort };
    bySignal.set(signal, waiting);
    signal.addEventListener('abort', abort, { once: true });
  }
  const { acts, abort } = waiting;
  acts.add(act);
  return () => {
    if (!acts.delete(act) || acts.size > 0) return;
    signal.removeEventListener('abort', abort);
    bySignal.delete(signal);
  };
}
