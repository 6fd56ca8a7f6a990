// Installs the workspace's packages where they are missing or older than the lockfile: `npm start` and `npm test` run it first,
// so that a fresh clone needs nothing but Node.js and npm. Runs under any Node.js from 20 on.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const stamp = join(root, 'node_modules', '.spillway-installed')
const lockfile = join(root, 'package-lock.json')
// What npm last installed, by whichever command.
const installed = join(root, 'node_modules', '.package-lock.json')
const wanted = createHash('sha256').update(readFileSync(lockfile)).digest('hex')

function upToDate() {
  if (!existsSync(installed)) return false
  if (statSync(installed).mtimeMs >= statSync(lockfile).mtimeMs) return true
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted
}

if (!upToDate()) {
  console.error('Installing packages (once; about half a minute) …')
  // Not `npm ci`: it refuses a lockfile without the optional packages of platforms that the registry at hand does not serve.
  const npm = process.env.npm_execpath
  const [command, before] = npm ? [process.execPath, [npm]] : ['npm', []]
  const { status } = spawnSync(command, [...before, 'install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  })
  if (status !== 0) {
    console.error('npm install failed: see its message above')
    process.exit(status ?? 1)
  }
  writeFileSync(stamp, wanted)
}
