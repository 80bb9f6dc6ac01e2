// A script: it calls once and ends by itself, though the client is open.
import { Client, EvertokenError } from 'evertoken';

const api = Client.fromEnv();
try {
  const answer = await api.fetch('orders');
  console.log(answer.status, (await answer.json()).path);
} catch (error) {
  if (!(error instanceof EvertokenError)) throw error;
  // One line for whoever reads it at 3 a.m.; the code says which kind it is.
  console.error(error.code, error.message);
  process.exitCode = error.retryable ? 75 : 1;
}
