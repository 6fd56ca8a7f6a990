#!/usr/bin/env -S node --max-semi-space-size=16
// A mesh makes much short-lived garbage: V8 would let its nursery grow to 128 MiB for it, and gains little by that.
// Runs the command under the Node.js that the workspace brings, whichever one started it: TypeScript runs as it is from version 24 on.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import module from 'node:module'
import { fileURLToPath } from 'node:url'

// gRPC writes lines of its own to the terminal; what they mean is said in the mesh's errors and log.
process.env.GRPC_VERBOSITY ??= 'NONE'

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
if (Number(process.versions.node.split('.')[0]) >= 24) {
  // What was compiled is kept in the workspace, where it can be written: the next start takes half the time.
  module.enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/spillway', import.meta.url)))
  await import(main)
} else {
  const own = fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url))
  if (!existsSync(own)) {
    console.error('spillway needs Node.js 24 or later, and the workspace has none: run "npm install" in it first')
    process.exit(2)
  }
  const child = spawn(own, [...process.execArgv, main, ...process.argv.slice(2)], { stdio: 'inherit' })
  // A terminal sends Ctrl-C to both processes: the child decides when to end, this one only passes on what reaches it alone.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)))
}
