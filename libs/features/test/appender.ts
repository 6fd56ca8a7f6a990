import { EmbeddedHistoryStore } from '../src/mod.ts'

/** Appends without end, and says after each append that it is done: for a test that kills it. */
const store = new EmbeddedHistoryStore({ path: process.argv[2]! })
await store.start(new AbortController().signal)
const history = { name: 'h', valueCount: 2, retentionMs: 1e9 }
for (let offset = 0; ; offset++) {
  await store.append([{ history, key: `k${offset % 10}`, entries: [{ timeMs: offset, origin: 1, offset, values: [1, 2] }] }])
  process.stdout.write(`${offset}\n`)
  if (offset % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
}
