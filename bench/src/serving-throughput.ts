import { alternate, type Figures, median, writeResult } from './rounds.ts'
import { callOf, type Call, type CallersReport, type Protocol } from './serving-calls.ts'
import { bareRuns, checkScores, makeRepository, smallModel, type Repository } from './serving-model.ts'
import {
  Callers,
  type Contender,
  cpuUsOf,
  type ServingBenchOptions,
  startEcho,
  startPeers,
  startServing,
  stopAll,
} from './serving-servers.ts'

/** A server as it is called: one line of the figures for each count of callers. */
interface Entry {
  readonly name: string
  readonly contender: Contender
  readonly protocol: Protocol
  readonly call: Call
  /** How many callers at once. */
  readonly counts: readonly number[]
}

interface Line extends Entry {
  readonly callers: number
  readonly figures: Figures
  /** CPU a call: the server's, where it is known, and the callers'. */
  readonly serverUs: number | undefined
  readonly callersUs: number
}

const counts = [16, 64]
const width = smallModel.widths[0]!

/** Single rows by gRPC, against an echo of an equal message and against MLServer. */
export async function benchServingGrpc(options: ServingBenchOptions): Promise<void> {
  await withContenders('grpc', async (entries, callers, missing) => {
    report('serving-grpc', 'grpc', options, await measure(entries, callers, options), missing)
  })
}

/** The same by REST; as context by the binary tensor extension and by TensorFlow Serving's protocol. */
export async function benchServingRest(options: ServingBenchOptions): Promise<void> {
  await withContenders('rest', async (entries, callers, missing) => {
    const { contender } = entries[0]!
    const context = (['rest-binary', 'tensorflow'] as const).map((protocol) =>
      entryOf(contender, protocol, `${contender.name}, ${protocol}`, [64]),
    )
    report('serving-rest', 'rest', options, await measure([...entries, ...context], callers, options), missing)
  })
}

function entryOf(contender: Contender, protocol: Protocol, name: string = contender.name, at: readonly number[] = counts): Entry {
  return { name, contender, protocol, call: callOf(protocol, smallModel.name, 1, width), counts: at }
}

/** Spillway first, then the echo, then the peers, where there are any. */
async function withContenders(
  protocol: 'grpc' | 'rest',
  play: (entries: readonly Entry[], callers: Callers, missing: string | undefined) => Promise<void>,
): Promise<void> {
  const repository = await makeRepository(smallModel)
  const callers = new Callers()
  const contenders: Contender[] = []
  try {
    const serving = await startServing('Spillway', smallModel, repository)
    contenders.push(serving)
    // What it answers is what the echo answers.
    const { answer } = await callers.allAnswered(serving, callOf(protocol, smallModel.name, 1, width), {
      kind: 'closed',
      callers: 1,
      seconds: 0.2,
    })
    contenders.push(await startEcho(protocol === 'grpc' ? 'grpc' : 'http', answer))
    const peers = await startPeers(smallModel, repository)
    contenders.push(...peers.contenders)
    const entries = contenders.map((contender) => entryOf(contender, protocol))
    await play(entries, callers, peers.missing)
  } finally {
    await callers.stop()
    await stopAll(contenders)
    await repository.remove()
  }
}

async function measure(entries: readonly Entry[], callers: Callers, { rounds, seconds }: ServingBenchOptions): Promise<readonly Line[]> {
  const repository = await makeRepository(smallModel)
  try {
    await warmUp(entries, callers, repository)
  } finally {
    await repository.remove()
  }
  const pairs = counts.flatMap((count) =>
    entries
      .filter((entry) => entry.counts.includes(count))
      .map((entry) => ({ ...entry, callers: count, serverUs: [] as number[], callersUs: [] as number[] })),
  )
  const figures = await alternate(
    rounds,
    pairs.map((pair) => ({
      name: `${pair.name}, ${pair.callers} callers`,
      run: async () => {
        const before = cpuUsOf(pair.contender.pid)
        const { perSecond, answered, cpuUsPerCall } = await callers.allAnswered(pair.contender, pair.call, {
          kind: 'closed',
          callers: pair.callers,
          seconds,
        })
        const after = cpuUsOf(pair.contender.pid)
        if (before !== undefined && after !== undefined) pair.serverUs.push((after - before) / answered)
        pair.callersUs.push(cpuUsPerCall)
        return perSecond
      },
    })),
  )
  return pairs.map((pair, i) => ({
    ...pair,
    figures: figures[i]!,
    serverUs: pair.serverUs.length === 0 ? undefined : median(pair.serverUs),
    callersUs: median(pair.callersUs),
  }))
}

/** Each is called until it is warm, and its answer held against what the model alone says. */
async function warmUp(entries: readonly Entry[], callers: Callers, repository: Repository): Promise<void> {
  const { scores } = await bareRuns({ file: repository.file, rows: 1, width, seconds: 0.01 })
  for (const { contender, protocol, call } of entries) {
    const { answer }: CallersReport = await callers.allAnswered(contender, call, { kind: 'closed', callers: 64, seconds: 1.5 })
    checkScores(contender.name, protocol, answer, scores)
  }
}

function report(
  benchmark: string,
  protocol: Protocol,
  { rounds, seconds }: ServingBenchOptions,
  lines: readonly Line[],
  missing: string | undefined,
): void {
  const reached: string[] = []
  let met = missing === undefined
  for (const count of counts) {
    const [own, echo, ...peers] = lines.filter((line) => line.callers === count && line.protocol === protocol)
    const ofEcho = ratio(own!, echo!)
    const strongest = peers.toSorted((a, b) => b.figures.median - a.figures.median)[0]
    const ofPeer = strongest === undefined ? undefined : ratio(own!, strongest)
    reached.push(
      `${count} callers: ${(100 * ofEcho).toFixed(0)} % of the echo, ${ofPeer === undefined ? 'MLServer not measured' : `${ofPeer.toFixed(1)} × ${strongest!.name}`}`,
    )
    met &&= ofEcho >= 0.6 && ofPeer !== undefined && ofPeer >= 4
  }
  writeResult({
    benchmark,
    unit: 'calls/s',
    setup: `single rows of an MLP ${smallModel.widths.join('-')}, callers that wait for their answers, ${seconds} s a round, ${rounds} rounds; each server in a process of its own, and the callers in another, the same for all, ${protocol === 'grpc' ? 'on one HTTP/2 connection' : 'each with a connection'}. Echo: a bare ${protocol === 'grpc' ? 'grpc-js server with the same messages' : 'node:http server, bodies of the same size'}. MLServer 1.7.1: ONNX Runtime with one thread, no log of requests; the fastest of its settings counts.`,
    figures: lines.map(({ figures }) => figures),
    target: '≥ 60 % of the echo and ≥ 4 × MLServer',
    reached: reached.join('; '),
    met,
    notes: [
      ...(missing === undefined ? [] : [missing]),
      'ratios are the medians of the rounds’ own',
      ...lines.map(
        ({ figures: { name }, serverUs, callersUs }) =>
          `${name}: CPU of the server ${serverUs === undefined ? 'unknown' : `${serverUs.toFixed(0)} µs`} a call, of the callers ${callersUs.toFixed(0)} µs`,
      ),
    ],
  })
}

/** Round by round, so that the machine's moods fall on both. */
function ratio(a: Line, b: Line): number {
  return median(a.figures.rounds.map((figure, i) => figure / b.figures.rounds[i]!))
}
