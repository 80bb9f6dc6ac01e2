// The interceptors in a runtime: each recovers a 401, or says why it cannot be had.
import axios from 'axios';
import { axiosInterceptor, undiciInterceptor } from 'evertoken';
import { AuthServer } from 'evertoken/testing';

/** What `call` gives where the API refuses its first token, and how often the API is called. */
async function recovered(call) {
  const server = await AuthServer.start();
  const api = server.client();
  server.fail({ kind: 'oauth', status: 401, error: 'invalid_token' }, { at: 'api' });
  try {
    return `${await call(api, server.apiUrl)} ${server.apiCalls}`;
  } catch (error) {
    return `${error.code} ${error.message}`;
  } finally {
    await Promise.all([api.close(), server.stop()]);
  }
}

async function byAxios(api, baseURL) {
  const http = axios.create({ baseURL });
  axiosInterceptor(api, http);
  return (await http.get('orders')).status;
}

async function byUndici(api, base) {
  const { Agent, request } = await import('undici');
  const dispatcher = new Agent().compose(undiciInterceptor(api));
  const { statusCode, body } = await request(new URL('orders', base), { dispatcher });
  await body.dump();
  await dispatcher.close();
  return statusCode;
}

console.log('axios', await recovered(byAxios));
console.log('undici', await recovered(byUndici));
