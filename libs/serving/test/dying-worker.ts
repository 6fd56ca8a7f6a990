import { parentPort, workerData } from 'node:worker_threads'
import { WorkerLoop } from '../src/backends/worker-loop.ts'
import { makeControl } from '../src/backends/worker-protocol.ts'

// A worker thread that gives back what it is given, and ends at once, in the middle of a call, where that is negative; NaN it refuses.

const columns = new Map([['x', { datatype: 'FP32', rowShape: [1] }]]) as ReadonlyMap<string, { datatype: 'FP32'; rowShape: number[] }>
const { control } = workerData as { control: SharedArrayBuffer }
const description = { signature: { inputs: columns, outputs: columns }, maxBatchRows: Infinity }
await new WorkerLoop(parentPort!, makeControl(control), description).serve((inputs) => {
  const [first] = inputs.get('x')!.data as Float32Array
  if (first! < 0) process.exit(3)
  if (Number.isNaN(first)) throw new Error('not a number')
  return inputs
})
