// `npm run check`: types, lint, format, layers, unused code, generated files. Runs all of them and fails where any did.
import { spawn } from 'node:child_process'

const checks = [
  ['types', 'tsc', ['-b']],
  ['lint', 'oxlint', ['--type-aware', '--deny-warnings']],
  ['format', 'oxfmt', ['--check', '.']],
  ['layers', 'depcruise', ['--config', '.dependency-cruiser.cjs', 'libs', 'services', 'cli', 'examples']],
  ['unused', 'knip', []],
  ['generated', 'node', ['scripts/generate.mjs', '--check']],
]

async function run([name, command, args]) {
  const startedMs = Date.now()
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  const code = await new Promise((resolve) => child.on('close', resolve))
  console.log(`${code === 0 ? 'ok  ' : 'FAIL'} ${name} (${((Date.now() - startedMs) / 1000).toFixed(1)} s)`)
  if (code !== 0) console.log(output)
  return code === 0
}

const results = []
for (const check of checks) results.push(await run(check))
process.exitCode = results.every(Boolean) ? 0 : 1
