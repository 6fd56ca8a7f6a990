import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

const cache: string = join(import.meta.dirname, '..', '..', '.cache', 'redis')
/** Of the packages that a Debian system has in any case; one from elsewhere must not come before the system's own. */
const system = new Set(['libc6', 'libgcc-s1', 'libcrypt1'])

/** A server's program, and what it needs in its environment. */
export interface RedisBinary {
  readonly command: string
  readonly environment: Readonly<Record<string, string>>
}

async function runs({ command, environment }: RedisBinary): Promise<boolean> {
  return run(command, ['--version'], { timeout: 10_000, env: { ...process.env, ...environment } }).then(
    () => true,
    () => false,
  )
}

/** Every folder that holds a shared library, for `LD_LIBRARY_PATH`: Debian's lie under the machine's triplet. */
async function unpacked(folder: string): Promise<RedisBinary> {
  const files = await readdir(folder, { recursive: true, withFileTypes: true })
  const libraries = new Set(files.filter(({ name }) => /\.so(\.|$)/.test(name)).map(({ parentPath }) => parentPath))
  return { command: join(folder, 'usr', 'bin', 'redis-server'), environment: { LD_LIBRARY_PATH: [...libraries].join(':') } }
}

async function cached(): Promise<RedisBinary | undefined> {
  const folders = await readdir(cache).catch((): string[] => [])
  for (const folder of folders
    .filter((name) => name.startsWith('debian-'))
    .toSorted()
    .toReversed()) {
    const binary = await unpacked(join(cache, folder))
    if (await runs(binary)) return binary
  }
  return undefined
}

async function text(command: string, args: readonly string[], cwd?: string): Promise<string> {
  const { stdout } = await run(command, [...args], { timeout: 120_000, maxBuffer: 16_000_000, ...(cwd === undefined ? {} : { cwd }) })
  return stdout
}

/** The version that apt would install; a machine without package lists gets them where we may write them. */
async function candidate(): Promise<string> {
  const show = async (): Promise<string> => text('apt-cache', ['show', '--no-all-versions', 'redis-server'])
  const shown = await show().catch(async (error: unknown) => {
    if (process.getuid?.() !== 0) throw error
    await text('apt-get', ['update', '-q'])
    return show()
  })
  const version = /^Version: (?:\d+:)?(.+)$/m.exec(shown)?.[1]
  if (version === undefined) throw new Error('apt knows no redis-server')
  return version
}

/** Debian's packages, unpacked and not installed: nothing on the machine changes but `.cache`. */
async function fetched(): Promise<RedisBinary> {
  const folder = join(cache, `debian-${await candidate()}`)
  const depends = await text('apt-cache', ['depends', 'redis-tools'])
  const libraries = [...depends.matchAll(/^\s*\|?Depends: ((?:lib|lua)\S+)$/gm)]
    .map(([, name]) => name!)
    .filter((name) => !system.has(name))
  await mkdir(cache, { recursive: true })
  // Each process fetches into a folder of its own, and the first to finish moves it into place whole: nobody ever sees half of it.
  const scratch = await mkdtemp(join(cache, 'fetching-'))
  try {
    await text('apt-get', ['download', '-q', 'redis-server', 'redis-tools', ...libraries], scratch)
    for (const name of (await readdir(scratch)).filter((file) => file.endsWith('.deb')))
      await text('dpkg-deb', ['-x', join(scratch, name), join(scratch, 'root')])
    await rename(join(scratch, 'root'), folder).catch(async (error: unknown) => {
      await access(folder).catch(() => {
        throw error
      })
    })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
  const binary = await unpacked(folder)
  if (!(await runs(binary))) throw new Error(`${binary.command} does not run here`)
  return binary
}

/** A server on the path, else Debian's from `.cache`, fetched where it is not there yet; or why it cannot be had. */
export async function redisBinary(): Promise<RedisBinary | { readonly missing: string }> {
  for (const command of ['redis-server', 'valkey-server']) if (await runs({ command, environment: {} })) return { command, environment: {} }
  const found = await cached()
  if (found !== undefined) return found
  try {
    return await fetched()
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 400) : String(error)
    return { missing: `no redis-server or valkey-server on the path, and Debian's package cannot be fetched: ${why}` }
  }
}
