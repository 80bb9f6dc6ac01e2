// A test of one's own code, twice: with a client that holds a given token and asks nobody, and against a real authorization server
// with an API behind it, both on loopback.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { AuthServer, fixedClient } from 'evertoken/testing';

import { countOrders } from './orders.mjs';

test('orders are counted', async (t) => {
  const api = createServer((request, answer) => {
    assert.equal(request.headers.authorization, 'Bearer t0ken');
    answer.end(JSON.stringify({ orders: [1, 2, 3] }));
  }).listen(0, '127.0.0.1');
  t.after(() => api.close());
  await new Promise((resolve) => api.once('listening', resolve));
  const client = fixedClient('t0ken', `http://127.0.0.1:${api.address().port}/v1/`);
  assert.equal(await countOrders(client), 3);
  await client.close();
});

test('an outage of the authorization server is no matter while a token is held', async (t) => {
  const server = await AuthServer.start();
  const client = server.client();
  t.after(() => Promise.all([client.close(), server.stop()]));
  await client.token();
  server.outage();
  // The box's API knows no orders; that it answered, and not with a 401, is what is asked here.
  await assert.rejects(countOrders(client), /undefined|reading 'length'/);
  assert.equal(server.apiRefused, 0);
});
