import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, expect, test } from 'vitest'
import { EmbeddedHistoryStore } from '../src/mod.ts'
import { openStore } from './fixture.ts'
import { describeStore, history, listed } from './store-conformance.ts'

const folder = mkdtempSync(join(tmpdir(), 'feature-store-'))
afterAll(() => rmSync(folder, { recursive: true }))

let places = 0
describeStore('The embedded store', () => {
  const path = join(folder, `place-${places++}.db`)
  return { open: async (options = {}) => openStore(path, options.cacheBytes) }
})

test('An exclusive store keeps others off its file', async () => {
  const path = join(folder, 'exclusive.db')
  const holder = new EmbeddedHistoryStore({ path, exclusive: true })
  await holder.start(new AbortController().signal)
  const other = new EmbeddedHistoryStore({ path, exclusive: true })
  await expect(other.start(new AbortController().signal)).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining('another process') as string,
  })
  await holder.drain()
  await other.start(new AbortController().signal)
  await other.drain()
})

test('Given a process killed in the middle of its appends, when the store starts again, then all that were acknowledged are there', async () => {
  const path = join(folder, 'killed.db')
  const child = spawn(process.execPath, [join(import.meta.dirname, 'appender.ts'), path], { stdio: ['ignore', 'pipe', 'inherit'] })
  let acknowledged = -1
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged = Number(line)
    if (acknowledged === 2000) child.kill('SIGKILL')
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  expect(child.signalCode).toBe('SIGKILL')
  expect(acknowledged).toBeGreaterThanOrEqual(2000)
  const store = await openStore(path)
  const keys = Array.from({ length: 10 }, (_, i) => `k${i}`)
  const [found] = await store.read([{ history: { ...history, retentionMs: 1e9 }, keys }])
  const offsets = new Set(found!.flatMap((packed) => listed(packed).map(([, , offset]) => offset)))
  for (let offset = 0; offset <= acknowledged; offset++) expect(offsets.has(offset)).toBe(true)
  await store.drain()
})
