import type { Figures } from './rounds.ts'
import { figures, median, writeResult } from './rounds.ts'
import { callOf, type CallersReport } from './serving-calls.ts'
import { type BenchModel, smallModel, wideModel } from './serving-model.ts'
import { type Callers, type Serving, type ServingBenchOptions, withServings } from './serving-servers.ts'

const deadlineMs = 200
const callerCount = 256
/** Answered later than the deadline, or run though nobody waited any more: no more of all calls than that. */
const mostWasted = 0.01

interface Round {
  readonly offered: number
  readonly report: CallersReport
  /** Calls refused as they should be, and neither answered nor refused. */
  readonly refused: number
  readonly lost: number
  /** Rows run that were not answered. */
  readonly wasted: number
  readonly saturatedUs: number
  readonly refusalUs: number
}

/** Twice what the service can take: are those that it admits answered in time, and is nothing done for the others? */
export async function benchServingOverload({ rounds, seconds }: ServingBenchOptions): Promise<void> {
  const models = { 'a run inline': smallModel, 'runs in workers': wideModel }
  const measured: { name: string; rounds: readonly Round[] }[] = []
  for (const [name, model] of Object.entries(models)) measured.push({ name, rounds: await overload(name, model, { rounds, seconds }) })
  const p99s = measured.map(({ name, rounds: own }) =>
    figures(
      `${name}, p99 of the admitted`,
      own.map(({ report }) => report.p99Ms),
    ),
  )
  const shares = measured.map(({ rounds: own }) => ({
    wasted: median(own.map(({ wasted, offered }) => wasted / offered)),
    lost: Math.max(...own.map(({ lost, offered }) => lost / offered)),
  }))
  writeResult({
    benchmark: 'serving-overload',
    unit: 'ms',
    setup: `single rows by gRPC with ${deadlineMs} ms each, twice as many a second as ${callerCount} callers that wait get answered, whatever becomes of them, ${seconds} s a round; latency from the time at which a call was due; callers in a process of their own. Models: MLP ${smallModel.widths.join('-')}, which is run inline, and MLP ${wideModel.widths.join('-')}, run in workers.`,
    figures: [...p99s, ...measured.flatMap(({ name, rounds: own }) => rates(name, own, seconds))],
    target: `p99 of the admitted ≤ ${deadlineMs} ms; the rest refused (RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED) before work`,
    reached: measured
      .map(
        ({ name }, i) =>
          `${name}: p99 ${p99s[i]!.median.toFixed(0)} ms, ${(100 * shares[i]!.wasted).toFixed(2)} % run for nobody, ${(100 * shares[i]!.lost).toFixed(2)} % lost`,
      )
      .join('; '),
    met: p99s.every(({ median: p99 }) => p99 <= deadlineMs) && shares.every(({ wasted, lost }) => wasted <= mostWasted && lost === 0),
    notes: measured.flatMap(({ name, rounds: own }) => [
      `${name}: a served call takes ${median(own.map(({ saturatedUs }) => saturatedUs)).toFixed(0)} µs CPU of the serving process, a refused one about ${median(own.map(({ refusalUs }) => refusalUs)).toFixed(0)} µs`,
      `${name}: calls were sent late, p99 ${median(own.map(({ report }) => report.sentLateP99Ms)).toFixed(0)} ms (the callers' process has the same two cores), which is part of what is measured`,
      `${name}: outcomes by gRPC status, last round: ${JSON.stringify(own.at(-1)!.report.outcomes)}`,
    ]),
  })
}

function rates(name: string, rounds: readonly Round[], seconds: number): readonly Figures[] {
  const rate = (what: string, read: (round: Round) => number): Figures => ({
    ...figures(
      `${name}, ${what}`,
      rounds.map((round) => read(round) / seconds),
    ),
    unit: 'calls/s',
  })
  return [
    rate('offered', ({ offered }) => offered),
    rate('answered', ({ report }) => report.answered),
    rate('refused', ({ refused }) => refused),
  ]
}

function overload(name: string, model: BenchModel, { rounds, seconds }: ServingBenchOptions): Promise<readonly Round[]> {
  return withServings({ model, batching: { Spillway: {} } }, async ([serving], callers) => {
    const found: Round[] = []
    await callers.allAnswered(serving!, callOf('grpc', model.name, 1, model.widths[0]!), {
      kind: 'closed',
      callers: callerCount,
      seconds: 1.5,
    })
    for (let round = 0; round < rounds; round++) {
      const one = await overloadRound(serving!, callers, model, seconds)
      found.push(one)
      console.log(
        `  round ${round + 1}/${rounds} ${name}: ${one.offered} offered, ${JSON.stringify(one.report.outcomes)}, p99 ${one.report.p99Ms.toFixed(0)} ms`,
      )
    }
    return found
  })
}

async function overloadRound(serving: Serving, callers: Callers, model: BenchModel, seconds: number): Promise<Round> {
  const call = callOf('grpc', model.name, 1, model.widths[0]!)
  const idle = await serving.usage()
  const saturation = await callers.allAnswered(serving, call, { kind: 'closed', callers: callerCount, seconds })
  const before = await serving.usage()
  const perSecond = Math.round(2 * saturation.perSecond)
  const report = await callers.run(serving, call, { kind: 'open', perSecond, seconds }, deadlineMs)
  const after = await serving.usage()
  const { 0: answered = 0, 4: late = 0, 8: exhausted = 0, ...others } = report.outcomes
  const refused = late + exhausted
  const saturatedUs = (before.cpuUs - idle.cpuUs) / saturation.answered
  return {
    offered: Math.round(perSecond * seconds),
    report,
    refused,
    lost: Object.values(others).reduce((sum, calls) => sum + calls, 0),
    wasted: Math.max(0, after.rows - before.rows - answered),
    saturatedUs,
    refusalUs: Math.max(0, after.cpuUs - before.cpuUs - answered * saturatedUs) / Math.max(1, refused),
  }
}
