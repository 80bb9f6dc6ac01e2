/** The platforms with a native package of their own, `evertoken-…`: what `napi.targets` in `package.json` builds. */
export const PLATFORMS: readonly string[] = [
  'linux-x64-gnu',
  'linux-arm64-gnu',
  'linux-x64-musl',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64-msvc',
  'win32-arm64-msvc',
];

/** The name of the platform that this process runs on, as the native packages have it: `linux-x64-gnu`, `darwin-arm64`, … */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform === 'linux') return `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}`;
  if (platform === 'win32') return `win32-${arch}-msvc`;
  return `${platform}-${arch}`;
}

/** `excludeNetwork` is newer than Node.js 20.4, where it does nothing. */
function isMusl(): boolean {
  const report: (NodeJS.ProcessReport & { excludeNetwork?: boolean }) | undefined = process.report;
  if (!report) return false;
  const { excludeNetwork } = report;
  // Else it asks the name server for the name of every open socket's peer, and blocks meanwhile.
  report.excludeNetwork = true;
  try {
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header !== undefined && header.glibcVersionRuntime === undefined;
  } catch {
    // Deno asks for `--allow-sys`; there is none for musl.
    return false;
  } finally {
    report.excludeNetwork = excludeNetwork;
  }
}
