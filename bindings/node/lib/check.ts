import { type Client, coreOf } from './client.js';
import { native } from './native.js';

/** What was found out about a client's credentials and settings, line by line; and whether all is well. */
export interface Diagnosis {
  well: boolean;
  text: string;
}

/** Asks the authorization server for one token by the settings of this client, and says what came of it. */
export async function diagnose(client: Client): Promise<Diagnosis> {
  const core = coreOf(client);
  const read = ({ well, found }: { well?: boolean; found?: string }): Diagnosis => ({ well: well === true, text: found ?? '' });
  return core.waits.wait((id) => native.check(core.handle, id), read, undefined, diagnose);
}
