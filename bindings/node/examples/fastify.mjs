// The same over Fastify: the client is a decorator, and closed with the application.
import { Client } from 'evertoken';
import fastify from 'fastify';

const app = fastify();
app.decorate('api', Client.fromEnv({ userAgent: 'orders-service/1.0' }));
app.addHook('onReady', () => app.api.prefetch());
app.addHook('onClose', () => app.api.close());

app.get('/ready', (_request, reply) => reply.code(app.api.status().isReady ? 200 : 503).send({ state: app.api.status().state }));

app.get('/orders/:id', async (request, reply) => {
  // Whoever hangs up ends this wait and this call, and nobody else's.
  const hungUp = new AbortController();
  request.raw.once('close', () => hungUp.abort());
  const answer = await app.api.fetch(`orders/${encodeURIComponent(request.params.id)}`, { signal: hungUp.signal });
  return reply
    .code(answer.status)
    .type(answer.headers.get('content-type') ?? 'text/plain')
    .send(await answer.text());
});

console.log(await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' }));
process.once('SIGTERM', () => app.close());
