// The libraries beside which it is measured, each as its own documentation has it, with the usual cache around those that have none:
// a function that gives the token, and asks for another one `marginMs` before the end.

import { createHttpHeaders } from '@azure/core-rest-pipeline';
import { ClientSecretCredential } from '@azure/identity';
import axios from 'axios';
import { clientCredentials } from 'axios-oauth-client';
import { Client } from 'evertoken';
import { OAuth2Client } from 'google-auth-library';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import { ClientCredentials } from 'simple-oauth2';

const ID = 'app';
const SECRET = 'secret';

/** The usual cache: a token and its end. */
function cached(marginMs, request) {
  let held;
  return async () => {
    if (!held || held.expiresAt - marginMs < Date.now()) {
      const answer = await request();
      held = { token: answer.access_token, expiresAt: Date.now() + answer.expires_in * 1_000 };
    }
    return held.token;
  };
}

/** By name: `{ token, close }`. Made anew for each measurement. */
export const PEERS = {
  evertoken: async (server) => {
    const api = new Client(ID, SECRET, { issuer: server.issuer });
    return { client: api, token: () => api.token(), close: () => api.close() };
  },
  'openid-client': async (server, marginMs) => {
    const options = { execute: [openid.allowInsecureRequests], algorithm: 'oauth2' };
    const config = await openid.discovery(new URL(server.issuer), ID, SECRET, undefined, options);
    let held;
    // With the library's own `expiresIn`.
    const token = async () => {
      if (!held || held.expiresIn() * 1_000 <= marginMs) held = await openid.clientCredentialsGrant(config);
      return held.access_token;
    };
    return { token };
  },
  oauth4webapi: async (server, marginMs) => {
    const as = { issuer: server.issuer, token_endpoint: server.tokenUrl };
    const client = { client_id: ID };
    const token = cached(marginMs, async () => {
      const auth = oauth.ClientSecretBasic(SECRET);
      const answer = await oauth.clientCredentialsGrantRequest(as, client, auth, {}, { [oauth.allowInsecureRequests]: true });
      return oauth.processClientCredentialsResponse(as, client, answer);
    });
    return { token };
  },
  'simple-oauth2': async (server, marginMs) => {
    const { origin, pathname } = new URL(server.tokenUrl);
    const client = new ClientCredentials({
      client: { id: ID, secret: SECRET },
      auth: { tokenHost: origin, tokenPath: pathname },
    });
    let held;
    const token = async () => {
      if (!held || held.expired(marginMs / 1_000)) held = await client.getToken({});
      return held.token.access_token;
    };
    return { token };
  },
  'axios-oauth-client': async (server, marginMs) => {
    const request = clientCredentials(axios.create(), server.tokenUrl, ID, SECRET);
    return { token: cached(marginMs, () => request()) };
  },
  'google-auth-library': async (server) => {
    // It knows no client credentials; a token that it holds is what is measured.
    const first = await PEERS.oauth4webapi(server, 0);
    const client = new OAuth2Client();
    client.setCredentials({ access_token: await first.token(), expiry_date: Date.now() + 3_600_000 });
    const token = async () => (await client.getAccessToken()).token;
    return {
      token,
      header: async () => (await client.getRequestHeaders('https://api.example/')).get('authorization'),
      readsOnly: true,
    };
  },
  '@azure/identity': async (server) => {
    // It speaks to https only, so that its HTTP client is put in the way; its cache is its own.
    const answer = (request, status, body) => ({
      request,
      status,
      headers: createHttpHeaders({ 'content-type': 'application/json' }),
      bodyAsText: JSON.stringify(body),
    });
    const httpClient = {
      async sendRequest(request) {
        if (request.url.includes('openid-configuration')) {
          const at = 'https://login.example/tenant';
          return answer(request, 200, {
            issuer: `${at}/v2.0`,
            token_endpoint: `${at}/oauth2/v2.0/token`,
            authorization_endpoint: `${at}/authorize`,
            jwks_uri: `${at}/keys`,
          });
        }
        const authorization = `Basic ${Buffer.from(`${ID}:${SECRET}`).toString('base64')}`;
        const form = new URLSearchParams({ grant_type: 'client_credentials' });
        const granted = await fetch(server.tokenUrl, { method: 'POST', body: form, headers: { authorization } });
        return answer(request, granted.status, await granted.json());
      },
    };
    const credential = new ClientSecretCredential('tenant', ID, SECRET, {
      authorityHost: 'https://login.example',
      disableInstanceDiscovery: true,
      httpClient,
    });
    const token = async () => (await credential.getToken('https://api.example/.default')).token;
    // A token of less than five minutes is none to it.
    return { token, isForLongTokens: true };
  },
};
