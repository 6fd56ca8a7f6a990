import { getPriority, setPriority } from 'node:os'
import { platform } from 'node:process'
import { parentPort, workerData } from 'node:worker_threads'
import { OnnxSession } from './onnx-session.ts'
import type { OnnxTask } from './onnx-backend.ts'
import { WorkerLoop } from './worker-loop.ts'
import { failedMessage, makeControl } from './worker-protocol.ts'

// The entry of a worker thread: loads one model, then answers one call after the other.

/** How far below the process's own priority runs are (nice). */
const givesWay = 5
const leastPriority = 19

// Where cores are few, what serves everything else goes first. Only Linux has a priority for each thread: elsewhere it would be the whole process's.
if (platform === 'linux') setPriority(Math.min(getPriority() + givesWay, leastPriority))

const port = parentPort!
try {
  const { control, session: options } = workerData as OnnxTask
  const session = OnnxSession.open(options)
  await new WorkerLoop(port, makeControl(control), session.description).serve((inputs) => session.run(inputs))
  session.release()
} catch (error) {
  port.postMessage(failedMessage(error))
}
