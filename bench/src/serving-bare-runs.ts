// A process of the serving benchmarks: ONNX Runtime in a loop, and nothing else.
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { rowsOf } from './serving-calls.ts'
import { answerMessages } from './serving-child.ts'
import type { BareRun, BareRunTask } from './serving-model.ts'

// As the model service does: it would report to its maker, from threads of its own.
process.env['ORT_DISABLE_TELEMETRY'] = '1'

async function run({ file, rows, width, seconds }: BareRunTask): Promise<BareRun> {
  const session = await InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential' })
  const features = new Tensor('float32', rowsOf(rows, width), [rows, width])
  let scores: readonly number[] = []
  const runsFor = async (ms: number): Promise<number> => {
    const endMs = performance.now() + ms
    let runs = 0
    for (; runs === 0 || performance.now() < endMs; runs++) {
      const { score } = await session.run({ features })
      scores = Array.from(score!.data as Float32Array)
    }
    return runs
  }
  await runsFor(seconds * 250)
  const before = process.cpuUsage()
  const startedMs = performance.now()
  const runs = await runsFor(seconds * 1000)
  const { user, system } = process.cpuUsage(before)
  return { cpuUsPerRow: (user + system) / (runs * rows), rowsPerSecond: (runs * rows) / ((performance.now() - startedMs) / 1000), scores }
}

answerMessages({ run })
