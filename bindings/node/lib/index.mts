// One implementation for both kinds of modules, so that there is one class of each name.
export * from './index.js';
