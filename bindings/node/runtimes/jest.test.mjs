// Real jest: a test of somebody's code passes, and `--detectOpenHandles` lists no client that holds nothing open.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { FOLDER, folderFor, installInto } from '../test/support.mjs';

const JEST = join(FOLDER, 'runtimes/node_modules/jest/bin/jest.js');
const CODE = `
const { Client, EvertokenError } = require('evertoken');
const { AuthServer, fixedClient } = require('evertoken/testing');

let server;
beforeAll(async () => (server = await AuthServer.start()));
afterAll(() => server.stop());

test('a fixed client', () => {
  expect(fixedClient('t0ken', 'http://127.0.0.1/').currentToken()).toBe('t0ken');
});
test('a client that stays open', async () => {
  const api = server.client();
  api.on('renewed', () => {});
  expect((await api.fetch('orders')).status).toBe(200);
  expect(await api.with({ audience: server.audience }).token()).toMatch(/^ey/);
});
test('a function for credentials, and fake timers', async () => {
  jest.useFakeTimers();
  const api = server.client({ credentials: async () => ({ appId: 'app', appSecret: 'secret' }) });
  expect(server.accepts(await api.token())).toBe(true);
  jest.useRealTimers();
  await api.close();
});
test('errors', async () => {
  expect(() => new Client('app', 'secret')).toThrow(EvertokenError);
  expect(() => new Client('app', 'secret')).toThrow(Error);
  server.fail({ kind: 'oauth', status: 401, error: 'invalid_client' }, { at: 'token' });
  await expect(server.client({ scope: 'x' }).token()).rejects.toThrow(EvertokenError);
});
`;

test('jest passes, ends, and lists no open handle', async (t) => {
  const folder = folderFor(t);
  installInto(folder);
  writeFileSync(join(folder, 'api.test.cjs'), CODE);
  writeFileSync(join(folder, 'jest.config.json'), JSON.stringify({ testMatch: ['**/*.test.cjs'] }));
  for (const flags of [[], ['--detectOpenHandles']]) {
    const said = await new Promise((resolve) => {
      execFile(process.execPath, [JEST, ...flags], { cwd: folder }, (error, stdout, stderr) =>
        resolve({ error, said: stdout + stderr }),
      );
    });
    assert.equal(said.error, null, said.said);
    assert.match(said.said, /Tests: +4 passed, 4 total/);
    assert.doesNotMatch(said.said, /open handle|did not exit|force exited/i);
  }
});
