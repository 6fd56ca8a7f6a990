import { parentPort, workerData } from 'node:worker_threads'
import type { Tensors } from '../backend.ts'
import type { ModuleTask } from './module-backend.ts'
import { ModuleHost } from './module-host.ts'
import { ownCopy } from './shared-tensors.ts'
import { WorkerLoop } from './worker-loop.ts'
import { deadlineNumber, failedMessage, makeControl } from './worker-protocol.ts'

// The entry of a worker thread: loads one module, then answers one call after the other.

const port = parentPort!
try {
  const { control: memory, load } = workerData as ModuleTask
  const control = makeControl(memory)
  const host = await ModuleHost.open(load)
  const { signal } = new AbortController()
  // The module may keep what it is given, and the memory is the next call's.
  const run = (inputs: Tensors): Promise<Tensors> => host.run(ownCopy(inputs), signal, control.numbers[deadlineNumber]!)
  await new WorkerLoop(port, control, host.description).serveAsync(run)
  await host.stop()
} catch (error) {
  port.postMessage(failedMessage(error))
}
