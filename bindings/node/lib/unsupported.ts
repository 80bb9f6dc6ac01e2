/** What is thrown where there is no Node-API: in browsers, edge runtimes and React Native. */
class UnsupportedRuntimeError extends Error {
  override readonly name = 'UnsupportedRuntimeError';
  readonly code = 'ERR_EVERTOKEN_UNSUPPORTED_RUNTIME';
}

throw new UnsupportedRuntimeError(
  'evertoken runs on Node.js, and not in browsers or edge runtimes: an app secret has no place there. Call your API from a server ' +
    'route with the Node.js runtime; bundlers leave the package as it is where it is named as external (`serverExternalPackages`)',
);

export {};
