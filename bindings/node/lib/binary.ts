/**
 * What the headers of a native library tell, where the system's loader is silent: it calls a library for another processor "no
 * such file", and the process dies of a bus error if a library is cut off.
 *
 * @module
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';

const ELF = 0x7f454c46;

const ELF_MACHINES: Record<number, string> = {
  3: 'ia32',
  21: 'ppc64',
  22: 's390x',
  40: 'arm',
  62: 'x64',
  183: 'arm64',
  243: 'riscv64',
  258: 'loong64',
};
const MACH_O_CPUS: Record<number, string> = { 16777223: 'x64', 16777228: 'arm64' };
const PE_MACHINES: Record<number, string> = { 332: 'ia32', 34404: 'x64', 43620: 'arm64' };

/** The platform's name as in `platformName`; null if it is no native library, undefined if the file cannot be read. */
export function builtFor(file: string): string | null | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch {
    return undefined;
  }
  try {
    return named(bytes);
  } catch {
    // It ends within its headers.
    return null;
  }
}

function named(bytes: Buffer): string | null {
  if (bytes.readUInt32BE(0) === ELF) {
    const machine = bytes[5] === 2 ? bytes.readUInt16BE(18) : bytes.readUInt16LE(18);
    // What is built for glibc asks for it by this name.
    const libc = bytes.includes('libc.so.6\0') ? 'gnu' : 'musl';
    return `linux-${ELF_MACHINES[machine] ?? 'unknown'}-${libc}`;
  }
  if (bytes.readUInt32LE(0) === 0xfeedfacf) return `darwin-${MACH_O_CPUS[bytes.readUInt32LE(4)] ?? 'unknown'}`;
  if (bytes.toString('latin1', 0, 2) === 'MZ') {
    const machine = bytes.readUInt16LE(bytes.readUInt32LE(0x3c) + 4);
    return `win32-${PE_MACHINES[machine] ?? 'unknown'}-msvc`;
  }
  return null;
}

/** Whether the file ends before the table that a 64-bit ELF library has at its end. Reads 64 bytes; other formats pass. */
export function isCutOff(file: string): boolean {
  const descriptor = openSync(file, 'r');
  try {
    const head = Buffer.alloc(64);
    const { size } = fstatSync(descriptor);
    if (readSync(descriptor, head) < head.length || head.readUInt32BE(0) !== ELF || head[4] !== 2 || head[5] !== 1) return false;
    const end = head.readBigUInt64LE(0x28) + BigInt(head.readUInt16LE(0x3a) * head.readUInt16LE(0x3c));
    return BigInt(size) < end;
  } finally {
    closeSync(descriptor);
  }
}
