// The README's code runs, and says that it was right.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import {
  bearerTokenAuthenticationPolicy,
  createEmptyPipeline,
  createHttpHeaders,
  createPipelineRequest,
} from '@azure/core-rest-pipeline';
import { Client } from 'evertoken';

import { boxFor, FOLDER, program } from './support.mjs';

const README = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const CRATES = readFileSync(join(FOLDER, '..', '..', 'README.md'), 'utf8');
const BLOCKS = [...(README + CRATES).matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code);

function environment(server) {
  const own = { APP_ID: 'app', APP_SECRET: 'secret', ISSUER: server.issuer, AUDIENCE: server.audience, BASE_URL: server.apiUrl };
  return { ...own, ...Object.fromEntries(Object.entries(own).map(([name, value]) => [`EVERTOKEN_${name}`, value])) };
}

test('there is code', () => assert.ok(BLOCKS.length > 8));

describe('the code of the README', { concurrency: 2 }, () => {
  for (const code of BLOCKS) {
    const name = code.match(/import .*? from '(?!evertoken)(.*?)'/)?.[1] ?? code.trim().split('\n').at(-1);
    test(name, async (t) => {
      const server = await boxFor(t);
      const { status, stdout, stderr } = await program(code, { env: environment(server) });
      assert.deepEqual([status, stderr, /^(200|true)\n$/.test(stdout)], [0, '', true], stdout);
    });
    // The recipes meet a 401, as `fetch` and the interceptors do.
    if (!/got|ky'|openapi-fetch/.test(name + code)) continue;
    test(`${name}, when the token is refused`, async (t) => {
      const server = await boxFor(t);
      server.fail({ kind: 'oauth', status: 401, error: 'invalid_token' }, { at: 'api' });
      const { status, stdout, stderr } = await program(code, { env: environment(server) });
      assert.deepEqual([status, stderr, stdout], [0, '', '200\n']);
      assert.equal(server.apiCalls, 2);
    });
  }
});

test('the credential for Azure, with its own policy', async (t) => {
  const server = await boxFor(t);
  Object.assign(process.env, environment(server));
  const [, source] = README.match(/const credential = (\{\n {2}async getToken[\s\S]*?\n\});/);
  const api = Client.fromEnv();
  t.after(() => api.close());
  const credential = new Function('api', `return ${source}`)(api);
  const pipeline = createEmptyPipeline();
  pipeline.addPolicy(bearerTokenAuthenticationPolicy({ credential, scopes: 'x' }));
  // Its policy wants https; what is sent goes to the box.
  const box = {
    async sendRequest(request) {
      const answer = await fetch(`${server.apiUrl}orders`, { headers: request.headers.toJSON() });
      return { request, status: answer.status, headers: createHttpHeaders(), bodyAsText: await answer.text() };
    },
  };
  for (let i = 0; i < 2; i++) {
    const { status } = await pipeline.sendRequest(box, createPipelineRequest({ url: 'https://api.example/orders' }));
    assert.equal(status, 200);
  }
  assert.equal(server.tokenRequests, 1);
});
