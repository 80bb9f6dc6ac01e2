// The same types for `require`.
import evertoken = require('evertoken');
import testing = require('evertoken/testing');

const api: evertoken.Client = new evertoken.Client('app', 'secret', { issuer: 'https://as.example' });
const token: Promise<string> = api.token();
const server: Promise<testing.AuthServer> = testing.AuthServer.start();
// @ts-expect-error it is a promise
const text: string = api.token();
export = { token, server, text };
