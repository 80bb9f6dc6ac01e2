#!/usr/bin/env node
import { parseArgs } from 'node:util';

import { diagnose } from './check.js';
import { Client } from './client.js';

const HELP = `evertoken check [--env-prefix WORD]

Tries the credentials and settings in the environment (EVERTOKEN_APP_ID, EVERTOKEN_APP_SECRET, EVERTOKEN_ISSUER, …), at the price
of one token, and says what is wrong. Ends with 0 where all is well, with 1 where something is to be mended.
`;

async function main(): Promise<number> {
  const options = { 'env-prefix': { type: 'string', default: 'EVERTOKEN' }, help: { type: 'boolean' } } as const;
  let given: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    given = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    return 2;
  }
  if (given.values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (given.positionals.join(' ') !== 'check') {
    process.stderr.write(HELP);
    return 2;
  }
  const warnings: string[] = [];
  // What is warned of is in the diagnosis as well, if there is one.
  const logger = { warn: (line: string) => warnings.push(line) };
  try {
    await using client = Client.fromEnv({ prefix: given.values['env-prefix'], logger });
    const { well, text } = await diagnose(client);
    process.stdout.write(`${text}\n`);
    return well ? 0 : 1;
  } catch (error) {
    process.stdout.write(`${[...warnings, error instanceof Error ? error.message : error].join('\n')}\n`);
    return 1;
  }
}

main().then((code) => {
  process.exitCode = code;
});
