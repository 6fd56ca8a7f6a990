// `node --import <this>`: in that process the bus on Kafka delivers at least once. All is the product as it is (fetching, group, slices, stages, encoding),
// but for the one module that writes a slice's outputs and its position.
import { registerHooks } from 'node:module'
import { isMainThread } from 'node:worker_threads'

const exactlyOnce = new URL('../../libs/bus/src/kafka/transaction.ts', import.meta.url).href
const atLeastOnce = new URL('at-least-once-writer.ts', import.meta.url).href
let replaced = false

registerHooks({
  resolve: (specifier, context, nextResolve) => {
    const resolved = nextResolve(specifier, context)
    if (resolved.url !== exactlyOnce) return resolved
    replaced = true
    return { ...resolved, url: atLeastOnce }
  },
})

// Else both contenders would be the same one, and nobody would see it.
process.on('exit', (code) => {
  // Workers are started with the same flags, and have no bus.
  if (code !== 0 || replaced || !isMainThread) return
  console.error('the writer was not replaced: has libs/bus/src/kafka/transaction.ts moved?')
  process.exitCode = 1
})
