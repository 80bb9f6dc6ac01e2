// Puts the licences' texts, which stand at the top of the repository, where npm packs them from.
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '..');
for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) copyFileSync(join(folder, '../..', name), join(folder, name));
