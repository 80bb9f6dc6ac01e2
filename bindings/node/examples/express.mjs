// A service over Express that calls an API. Credentials and addresses come from the environment: EVERTOKEN_APP_ID,
// EVERTOKEN_APP_SECRET, EVERTOKEN_ISSUER, EVERTOKEN_BASE_URL.
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';

import { Client } from 'evertoken';
import express from 'express';

const api = Client.fromEnv({ userAgent: 'orders-service/1.0', logger: console });
const app = express();

// Ready as soon as a token is at hand, and through every outage of the authorization server that it outlasts.
app.get('/ready', (_request, response) => {
  const { isReady, state } = api.status();
  response.status(isReady ? 200 : 503).json({ state });
});

app.get('/orders/:id', async (request, response) => {
  const answer = await api.fetch(`orders/${encodeURIComponent(request.params.id)}`);
  response.status(answer.status).type(answer.headers.get('content-type') ?? 'text/plain');
  await pipeline(answer.body ?? [], response);
});

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1');
await once(server, 'listening');
await api.prefetch(); // so that the first caller does not wait
console.log(`http://127.0.0.1:${server.address().port}`);

process.once('SIGTERM', async () => {
  server.close();
  await api.close();
});
