import { parentPort, workerData } from 'node:worker_threads'
import { OnnxSession } from './onnx-session.ts'
import type { OnnxTask } from './onnx-backend.ts'
import { WorkerLoop } from './worker-loop.ts'
import { failedMessage, makeControl } from './worker-protocol.ts'

// The entry of a worker thread: loads one model, then answers one call after the other.

const port = parentPort!
try {
  const { control, session: options } = workerData as OnnxTask
  const session = OnnxSession.open(options)
  await new WorkerLoop(port, makeControl(control), session.description).serve((inputs) => session.run(inputs))
  session.release()
} catch (error) {
  port.postMessage(failedMessage(error))
}
