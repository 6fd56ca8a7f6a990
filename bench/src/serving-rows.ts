import { alternate, type Contender as Turn, figures, median, writeResult } from './rounds.ts'
import { callOf } from './serving-calls.ts'
import { bareRuns, checkScores, smallModel } from './serving-model.ts'
import { type Contender, type ServingBenchOptions, startPeers, stopAll, withServings } from './serving-servers.ts'

const rows = 64
const callerCount = 16
const bareRows = 1024
/** V8 compiles what a call takes, and compiles it anew, over some 15,000 calls: until then they take up to half of the CPU again. */
const warmUpSeconds = 8
const width = smallModel.widths[0]!

/** 64 rows a call by gRPC: rows a second against MLServer, and the serving process's CPU a row against ONNX Runtime's alone. */
export function benchServingRows({ rounds, seconds }: ServingBenchOptions): Promise<void> {
  return withServings({ model: smallModel, batching: { Spillway: {} } }, async ([serving], callers, repository) => {
    const { contenders: peers, missing } = await startPeers(smallModel, repository)
    try {
      const call = callOf('grpc', smallModel.name, rows, width)
      const bareTask = { file: repository.file, width, seconds }
      const { scores } = await bareRuns({ ...bareTask, rows, seconds: 0.1 })
      for (const contender of [serving!, ...peers]) {
        const { answer } = await callers.allAnswered(contender, call, { kind: 'closed', callers: callerCount, seconds: warmUpSeconds })
        checkScores(contender.name, 'grpc', answer, scores)
      }
      const ownUs: number[] = []
      const bareUs: number[] = []
      const turn = (contender: Contender): Turn => ({
        name: contender.name,
        run: async () => {
          const before = await serving!.usage()
          const { perSecond } = await callers.allAnswered(contender, call, { kind: 'closed', callers: callerCount, seconds })
          const after = await serving!.usage()
          if (contender === serving) ownUs.push((after.cpuUs - before.cpuUs) / (after.rows - before.rows))
          return perSecond * rows
        },
      })
      const bare: Turn = {
        name: `ONNX Runtime alone, ${bareRows} rows a run`,
        run: async () => {
          const { cpuUsPerRow, rowsPerSecond } = await bareRuns({ ...bareTask, rows: bareRows })
          bareUs.push(cpuUsPerRow)
          return rowsPerSecond
        },
      }
      const measured = await alternate(rounds, [turn(serving!), bare, ...peers.map(turn)])
      const strongest = measured.slice(2).toSorted((a, b) => b.median - a.median)[0]
      const ofPeer = strongest && median(measured[0]!.rounds.map((rate, i) => rate / strongest.rounds[i]!))
      const cpu = median(ownUs.map((us, i) => us / bareUs[i]!))
      writeResult({
        benchmark: 'serving-rows',
        unit: 'rows/s',
        setup: `${rows} rows a call by gRPC, MLP ${smallModel.widths.join('-')}, ${callerCount} callers that wait for their answers, ${seconds} s a round after ${warmUpSeconds} s that do not count; servers and callers in processes of their own. CPU: of all threads of the serving process, and of a process that runs the model in a loop with ${bareRows} rows and one thread.`,
        figures: [
          ...measured,
          { ...figures('Spillway, CPU a row', ownUs), unit: 'µs' },
          { ...figures(`ONNX Runtime alone, CPU a row`, bareUs), unit: 'µs' },
        ],
        target: '≥ 4 × MLServer; CPU a row ≤ 1.3 × ONNX Runtime alone',
        reached: `${ofPeer === undefined ? 'MLServer not measured' : `${ofPeer.toFixed(1)} × ${strongest!.name}`}; CPU a row ${cpu.toFixed(2)} × ONNX Runtime alone`,
        met: ofPeer !== undefined && ofPeer >= 4 && cpu <= 1.3,
        notes: ['ratios are the medians of the rounds’ own', ...(missing === undefined ? [] : [missing])],
      })
    } finally {
      await stopAll(peers)
    }
  })
}
