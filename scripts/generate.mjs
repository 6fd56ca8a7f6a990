// `npm run generate`: TypeScript of the contracts in proto/, and their descriptors for gRPC reflection.
// With --check it writes nothing, and fails where what is committed differs from what would be generated.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const committed = join(root, 'libs/wire/src/generated')
const binaries = join(root, 'node_modules/.bin')
// Reflection describes the health service too, whose contract comes with its implementation.
const withHealth = { version: 'v2', modules: [{ path: 'proto' }, { path: 'node_modules/grpc-health-check/proto' }] }

function buf(...args) {
  const env = { ...process.env, PATH: `${binaries}${delimiter}${process.env.PATH}` }
  const { status, error } = spawnSync(join(binaries, 'buf'), args, { cwd: root, env, stdio: 'inherit' })
  if (status !== 0) throw new Error(`buf ${args[0]} failed`, { cause: error })
}

function generate(folder) {
  buf('generate', '--output', folder)
  buf('build', '--config', JSON.stringify(withHealth), '--exclude-source-info', '--output', join(folder, 'descriptors.binpb'))
}

function filesIn(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  return new Map(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) => [join(entry.parentPath, entry.name).slice(folder.length), join(entry.parentPath, entry.name)]),
  )
}

/** Paths that only one folder has, or whose content differs. */
function differences(left, right) {
  const [ours, theirs] = [filesIn(left), filesIn(right)]
  const paths = [...new Set([...ours.keys(), ...theirs.keys()])].sort((a, b) => a.localeCompare(b))
  return paths.filter(
    (path) => !ours.has(path) || !theirs.has(path) || !readFileSync(ours.get(path)).equals(readFileSync(theirs.get(path))),
  )
}

buf('lint')
if (process.argv.includes('--check')) {
  const fresh = mkdtempSync(join(tmpdir(), 'spillway-generate-'))
  try {
    generate(fresh)
    const stale = differences(committed, fresh)
    if (stale.length > 0) {
      console.error(`generated code is stale, run npm run generate: ${stale.join(', ')}`)
      process.exitCode = 1
    }
  } finally {
    rmSync(fresh, { recursive: true })
  }
} else {
  rmSync(committed, { recursive: true, force: true })
  generate(committed)
}
