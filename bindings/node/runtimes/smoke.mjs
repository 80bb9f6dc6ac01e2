// What every runtime must do, whichever it is: a token, a call, a renewal, a recovered 401, errors, events, and the end of the
// process by itself while a client is open.
import { createRequire } from 'node:module';

import { Client, EvertokenError } from 'evertoken';
import { AuthServer } from 'evertoken/testing';

const LIMIT_MS = 60_000;

function check(what, isTrue) {
  if (!isTrue) throw new Error(`not so: ${what}`);
}

/** An event of this kind. An open client keeps no process alive, so that the timer must. */
function happens(api, kind) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`never: ${kind}`)), LIMIT_MS);
    api.on(kind, (event) => {
      clearTimeout(timer);
      resolve(event);
    });
  });
}

const refused = (promise) =>
  promise.then(
    () => check('it is refused', false),
    (error) => error,
  );

check('import and require give the same', createRequire(import.meta.url)('evertoken').Client === Client);
const server = await AuthServer.start({ lifetimeMs: 6_000 });
const api = server.client();
const renewed = happens(api, 'renewed');
const first = await api.token();
check('the token is good', server.accepts(first));
check('it is held', api.currentToken() !== null);
check('many callers get it', new Set(await Promise.all(Array.from({ length: 100 }, () => api.token()))).size <= 2);
check('a call has it', (await api.fetch('orders')).status === 200);
check('a body is sent', (await api.fetch('orders', { method: 'POST', body: '{}' })).status === 200);
await renewed; // the first token
await happens(api, 'renewed');
const later = await api.token();
check('it is renewed', later !== first && server.accepts(later));

const calls = server.apiCalls;
server.fail({ kind: 'oauth', status: 401, error: 'invalid_token' }, { at: 'api' });
const answer = await api.fetch(new Request(new URL('orders', server.apiUrl), { method: 'POST', body: 'text' }));
check('a 401 is recovered', answer.status === 200 && server.apiCalls === calls + 2);

const asked = server.client({ credentials: async () => ({ appId: 'app', appSecret: 'secret' }) });
check('a function gives credentials', server.accepts(await asked.token()));
await asked.close();
const wrong = new Client('app', 'wrong', { issuer: server.issuer });
const rejected = await refused(wrong.token());
check('errors are of one class', rejected instanceof EvertokenError && rejected.code === 'ERR_EVERTOKEN_CREDENTIALS_REJECTED');
const gone = new AbortController();
const hung = server.client({ scope: 'other' });
server.fail({ kind: 'hang' }, { at: 'token' });
const waiting = refused(hung.token({ signal: gone.signal }));
gone.abort();
check('a wait is aborted', (await waiting).name === 'AbortError');
await Promise.all([wrong.close(), hung.close()]);

// `api` stays open.
await server.stop();
console.log('it works');
