import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** What Go builds where Debian's package cannot be had. */
const goVersion = 'v2.15.2'
const cache: string = join(import.meta.dirname, '..', '..', '.cache', 'nats')

async function runs(command: string): Promise<boolean> {
  return run(command, ['--version'], { timeout: 10_000 }).then(
    () => true,
    () => false,
  )
}

async function text(command: string, args: readonly string[], options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {}) {
  const { stdout } = await run(command, [...args], { timeout: 300_000, maxBuffer: 16_000_000, ...options })
  return stdout
}

/** Each process makes its own, and the first to finish moves it into place whole: nobody ever sees half of it. */
async function made(name: string, make: (folder: string) => Promise<unknown>): Promise<void> {
  await mkdir(cache, { recursive: true })
  const scratch = await mkdtemp(join(cache, 'making-'))
  try {
    await make(scratch)
    const there = (): Promise<boolean> => readdir(cache).then((names) => names.includes(name))
    await rename(scratch, join(cache, name)).catch(async (error: unknown) => {
      if (!(await there())) throw error
    })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

const debianBinary: string = join(cache, 'debian', 'usr', 'sbin', 'nats-server')
const goBinary: string = join(cache, goVersion, 'nats-server')

/** Debian's package, unpacked and not installed. */
async function unpackDebian(): Promise<void> {
  await made('debian', async (folder) => {
    const download = (): Promise<string> => text('apt-get', ['download', '-q', 'nats-server'], { cwd: folder })
    await download().catch(async (error: unknown) => {
      // A machine without package lists gets them where we may write them.
      if (process.getuid?.() !== 0) throw error
      await text('apt-get', ['update', '-q'])
      await download()
    })
    for (const name of (await readdir(folder)).filter((file) => file.endsWith('.deb')))
      await text('dpkg-deb', ['-x', join(folder, name), folder])
  })
}

/** Takes a minute and a half on two cores. */
async function buildWithGo(): Promise<void> {
  await made(goVersion, async (folder) =>
    text('go', ['install', `github.com/nats-io/nats-server/v2@${goVersion}`], { env: { ...process.env, GOBIN: folder } }),
  )
}

/** A server on the path; else one from `.cache`; else Debian's package; else one built by Go; or why none can be had. */
export async function natsBinary(): Promise<{ readonly command: string } | { readonly missing: string }> {
  for (const command of ['nats-server', goBinary, debianBinary]) if (await runs(command)) return { command }
  const failures: string[] = []
  for (const [command, make] of [
    [debianBinary, unpackDebian],
    [goBinary, buildWithGo],
  ] as const) {
    try {
      await make()
      if (await runs(command)) return { command }
      failures.push(`${command} does not run here`)
    } catch (error) {
      failures.push(error instanceof Error ? error.message.slice(0, 300) : String(error))
    }
  }
  return { missing: `no nats-server on the path, and none can be fetched: ${failures.join('; ')}` }
}
