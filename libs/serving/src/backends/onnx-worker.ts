import { parentPort, workerData } from 'node:worker_threads'
import { OnnxSession } from './onnx-session.ts'
import { failedReply, movable, type WorkerReply, type WorkerRequest, type WorkerTask } from './worker-protocol.ts'

// The entry of a worker thread: loads one model, then answers one request after the other.

const port = parentPort!

function reply(message: WorkerReply, buffers: ArrayBuffer[] = []): void {
  port.postMessage(message, buffers)
}

async function answer(session: OnnxSession, { inputs }: WorkerRequest): Promise<void> {
  const startedMs = performance.now()
  const outputs = await session.run(inputs)
  const runUs = (performance.now() - startedMs) * 1000
  const { tensors, buffers } = movable(outputs)
  reply({ kind: 'done', outputs: tensors, runUs }, buffers)
}

try {
  const { path, threads } = workerData as WorkerTask
  const session = await OnnxSession.open(path, threads)
  port.on('message', (request: WorkerRequest) => {
    answer(session, request).catch((error: unknown) => reply(failedReply(error)))
  })
  reply({ kind: 'ready', description: session.description })
} catch (error) {
  reply(failedReply(error))
}
