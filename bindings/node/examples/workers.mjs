// Worker threads: each has a client of its own. The renewals of all of them run on one thread of the process.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

import { Client } from 'evertoken';

if (isMainThread) {
  const workers = Array.from({ length: 3 }, (_, index) => new Worker(new URL(import.meta.url), { workerData: index }));
  const answers = await Promise.all(workers.map((worker) => once(worker, 'message')));
  for (const [answer] of answers) console.log(answer);
} else {
  const api = Client.fromEnv();
  const { status } = await api.fetch(`orders/${workerData}`);
  parentPort.postMessage(`worker ${workerData}: ${status}`);
}
