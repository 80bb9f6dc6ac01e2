// The README's code runs, and says that it was right.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
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
  return Object.fromEntries(Object.entries(own).map(([name, value]) => [`EVERTOKEN_${name}`, value]));
}

/** The code as it is for this box. */
function codeFor(server, code) {
  const own = {
    app_id: 'app',
    app_secret: 'secret',
    'https://acme.eu.auth0.com/': server.issuer,
    'https://api.acme.com': server.audience,
    'https://api.acme.com/v1/': server.apiUrl,
  };
  return Object.entries(own).reduce((text, [example, value]) => text.replaceAll(`'${example}'`, `'${value}'`), code);
}

/** What each file of a strict project is told by the compiler; the project has these packages, and no others. */
async function compiled(t, files, packages, options) {
  const folder = mkdtempSync(join(tmpdir(), 'evertoken-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const name of ['evertoken', ...packages]) {
    const link = join(folder, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(name === 'evertoken' ? FOLDER : join(FOLDER, 'node_modules', name), link, 'junction');
  }
  const settings = { strict: true, noEmit: true, module: 'nodenext', ...options };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: settings, include: ['*.mts'] }));
  for (const [name, code] of Object.entries(files)) writeFileSync(join(folder, `${name}.mts`), code);
  const compiler = join(FOLDER, 'node_modules/typescript/bin/tsc');
  return new Promise((resolve) => execFile(process.execPath, [compiler, '-p', folder], (_error, stdout) => resolve(stdout)));
}

test('the first example compiles in strict TypeScript, with no types but ours', async (t) => {
  const [code] = BLOCKS;
  assert.match(code, /new Client\('app_id', 'app_secret', \{/);
  for (const options of [{}, { target: 'es2022' }, { exactOptionalPropertyTypes: true, target: 'esnext' }]) {
    assert.equal(await compiled(t, { first: code }, [], options), '', JSON.stringify(options));
  }
  // With Node's types in the place of a browser's.
  const node = { target: 'es2022', lib: ['es2023'], types: ['node'] };
  assert.equal(await compiled(t, { first: code }, ['@types/node', 'undici-types'], node), '');
  const wrong = code.replace("issuer: 'https", "isuer: 'https");
  assert.match(await compiled(t, { first: wrong }, []), /first\.mts\(\d+,\d+\): error TS2\d+: .*'isuer'/);
});

test('all examples compile in strict TypeScript', async (t) => {
  const code = BLOCKS.map((block) =>
    // Of an API that the example does not have.
    block.replace(
      'createClient({',
      'createClient<{ "/orders": { post: { requestBody: { content: { "application/json": { n: number } } }; responses: { 200: { content: { "application/json": object } } } } } }>({',
    ),
  );
  const packages = ['@types/node', 'axios', 'got', 'ky', 'openapi-fetch', 'undici', 'undici-types'];
  const settings = { types: ['node'], skipLibCheck: true };
  assert.equal(await compiled(t, { ...code }, packages, settings), '');
});

test('there is code', () => assert.ok(BLOCKS.length > 8));

describe('the code of the README', { concurrency: 2 }, () => {
  for (const code of BLOCKS) {
    const name = code.match(/import .*? from '(?!evertoken)(.*?)'/)?.[1] ?? code.trim().split('\n').at(-1);
    test(name, async (t) => {
      const server = await boxFor(t);
      const { status, stdout, stderr } = await program(codeFor(server, code), { env: environment(server) });
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
