import { type Clock, MeshError } from '@spillway/core'
import type { LaneReport, WatermarkBoard } from '@spillway/features'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Alignment } from '../src/alignment.ts'
import { AlignmentExchange } from '../src/alignment-exchange.ts'
import { telemetry } from './fixture.ts'

const skewMs = 100
const idleMs = 2000
/** Longer than a beat holds for. */
const longMs = 10_000

/** What a shared store keeps: the last report of each lane. It can be away. */
class MemoryBoard implements WatermarkBoard {
  readonly lanes = new Map<string, LaneReport>()
  away = false

  exchange(own: readonly LaneReport[]): Promise<readonly LaneReport[]> {
    if (this.away) return Promise.reject(new MeshError('UNAVAILABLE', 'the store is away'))
    for (const report of own) this.lanes.set(report.lane, report)
    return Promise.resolve([...this.lanes.values()])
  }
}

class HeldClock implements Clock {
  ms = 1_000_000

  nowMs(): number {
    return this.ms
  }
}

/** One process of several that share the lanes. */
class Process {
  readonly alignment: Alignment
  private readonly exchange: AlignmentExchange

  constructor(clock: Clock, board: WatermarkBoard, lanes: readonly string[]) {
    this.alignment = new Alignment({ maxSkewMs: skewMs, idleMs, clock, sharedLanes: lanes })
    this.exchange = new AlignmentExchange({ alignment: this.alignment, board, logger: telemetry.logger })
  }

  tell(): Promise<void> {
    return this.exchange.exchange()
  }

  /** How many of the rows go on, and are processed. */
  process(lane: string, ...timesMs: number[]): number {
    const { admission } = this.alignment.offer(lane, Float64Array.from(timesMs))
    if (admission === undefined) return 0
    admission.done(timesMs[admission.rowCount - 1]!)
    return admission.rowCount
  }
}

/** Two processes over lanes a and b, one each, that know of each other. */
async function pair(): Promise<{ clock: HeldClock; board: MemoryBoard; first: Process; second: Process; tellAll: () => Promise<void> }> {
  const clock = new HeldClock()
  const board = new MemoryBoard()
  const [first, second] = [new Process(clock, board, ['a', 'b']), new Process(clock, board, ['a', 'b'])]
  first.alignment.add('a')
  second.alignment.add('b')
  const tellAll = async (): Promise<void> => {
    for (const each of [first, second, first, second]) await each.tell()
  }
  await tellAll()
  return { clock, board, first, second, tellAll }
}

describe('processes that share the partitions', () => {
  test('are kept together: what another tells counts as what is one’s own', async () => {
    const { first, second, tellAll } = await pair()
    expect(first.process('a', 0, 50)).toBe(0)
    expect(second.process('b', 10)).toBe(0)
    await tellAll()
    expect(second.process('b', 10)).toBe(1)
    await tellAll()
    expect(first.process('a', 0, 50, 110, 111)).toBe(3)
  })

  test('a partition that nobody has told of holds all the others', async () => {
    const { first } = await pair()
    expect(first.process('a', 0)).toBe(0)
  })

  test('an idle partition holds nobody, as long as its owner goes on saying so', async () => {
    const { clock, first, second, tellAll } = await pair()
    clock.ms += idleMs
    second.alignment.markBacklog('b', false)
    await tellAll()
    expect(first.process('a', 5)).toBe(1)
    clock.ms += longMs
    expect(first.process('a', 500)).toBe(0)
    second.alignment.markBacklog('b', false)
    await tellAll()
    expect(first.process('a', 500)).toBe(1)
  })

  test('an idle partition is told as such only while its backlog can be read', async () => {
    const { clock, second, board } = await pair()
    clock.ms += idleMs
    second.alignment.markBacklog('b', false)
    await second.tell()
    expect(board.lanes.get('b')!.idle).toBe(true)
    clock.ms += longMs
    await second.tell()
    expect(board.lanes.get('b')!.idle).toBe(false)
  })

  test('an idle report of long ago is no sign of an owner', async () => {
    const { clock, board, first, second, tellAll } = await pair()
    clock.ms += idleMs
    second.alignment.markBacklog('b', false)
    await tellAll()
    expect(first.process('a', 500)).toBe(1)
    const late = new Process(clock, board, ['a', 'b'])
    await late.tell()
    expect(late.process('a', 501)).toBe(0)
  })

  test('a partition whose owner is gone holds the others where it was', async () => {
    const { clock, first, second, tellAll } = await pair()
    first.process('a', 0)
    second.process('b', 0)
    await tellAll()
    expect(second.process('b', 40)).toBe(1)
    await tellAll()
    clock.ms += longMs
    for (let round = 0; round < 3; round++) await first.tell()
    expect(first.process('a', 90, 140, 141)).toBe(2)
    expect(first.process('a', 141)).toBe(0)
  })

  test('the next owner of a partition goes on from where the last was, and what it does not know yet stands in nobody’s place', async () => {
    const { clock, board, first, second, tellAll } = await pair()
    first.process('a', 0)
    second.process('b', 0)
    await tellAll()
    second.process('b', 90)
    await tellAll()
    const third = new Process(clock, board, ['a', 'b'])
    third.alignment.add('b')
    await third.tell()
    await third.tell()
    expect(board.lanes.get('b')).toMatchObject({ watermarkMs: 90, idle: false })
    await first.tell()
    expect(first.process('a', 140, 190, 191)).toBe(2)
    expect(third.process('b', 60)).toBe(1)
    second.alignment.remove('b')
    expect(second.alignment.reports()).toEqual([])
  })

  test('while the board is away, what was known stays', async () => {
    const { board, first, second, tellAll } = await pair()
    first.process('a', 0)
    second.process('b', 0)
    await tellAll()
    board.away = true
    expect(second.process('b', 50, 100, 101)).toBe(2)
    await tellAll()
    expect(first.process('a', 50, 100, 101)).toBe(2)
    expect(first.process('a', 101)).toBe(0)
    board.away = false
    await tellAll()
    expect(first.process('a', 101)).toBe(1)
  })
})

/** One lane's records: event times, in order. */
const laneArbitrary = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 30 }).map((steps) => {
  let timeMs = 0
  return steps.map((step) => (timeMs += step))
})

interface Action {
  readonly lane: number
  readonly kind: 'process' | 'tell' | 'move' | 'pass'
  readonly rows: number
}

const actionArbitrary: fc.Arbitrary<Action> = fc.record({
  lane: fc.nat(5),
  kind: fc.constantFrom(
    'process' as const,
    'process' as const,
    'process' as const,
    'tell' as const,
    'tell' as const,
    'move' as const,
    'pass' as const,
  ),
  rows: fc.integer({ min: 1, max: 8 }),
})

describe('for any speeds, arrivals and rebalances', () => {
  test('no row goes on that is further ahead than maxSkew of a partition with records left, and all get done', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(laneArbitrary, { minLength: 2, maxLength: 6 }),
        fc.integer({ min: 2, max: 3 }),
        fc.array(actionArbitrary, { maxLength: 150 }),
        async (records, processes, actions) => {
          const run = new Run(records, processes)
          for (const action of actions) await run.act(action)
          await run.finish()
        },
      ),
      { numRuns: 200 },
    )
  })
})

/** Lanes spread over processes. A lane's records are all there from the start, so that only one which is through can be idle. */
class Run {
  private readonly clock = new HeldClock()
  private readonly board = new MemoryBoard()
  private readonly names: readonly string[]
  private readonly records: readonly (readonly number[])[]
  /** The next record that its owner is given. */
  private readonly next: number[]
  /** The first record that was never processed. */
  private readonly reached: number[]
  private readonly owners: number[]
  private readonly processes: readonly Process[]

  constructor(records: readonly (readonly number[])[], processes: number) {
    this.records = records
    this.names = records.map((_, lane) => `lane/${lane}`)
    this.next = records.map(() => 0)
    this.reached = records.map(() => 0)
    this.owners = records.map((_, lane) => lane % processes)
    this.processes = Array.from({ length: processes }, () => new Process(this.clock, this.board, this.names))
    this.owners.forEach((owner, lane) => this.processes[owner]!.alignment.add(this.names[lane]!))
  }

  async act({ lane: any, kind, rows }: Action): Promise<void> {
    const lane = any % this.records.length
    this.clock.ms += 10
    if (kind === 'process') this.process(lane, rows)
    else if (kind === 'tell') await this.processes[lane % this.processes.length]!.tell()
    else if (kind === 'move') this.move(lane, rows)
    else this.readBacklogs(rows * 500)
  }

  private process(lane: number, rows: number): void {
    const pending = this.records[lane]!.slice(this.next[lane], this.next[lane]! + rows)
    if (pending.length === 0) return
    const count = this.processes[this.owners[lane]!]!.process(this.names[lane]!, ...pending)
    for (const timeMs of pending.slice(0, count))
      this.records.forEach((times, other) => {
        const head = times[this.reached[other]!]
        if (other !== lane && head !== undefined) expect(timeMs).toBeLessThanOrEqual(head + skewMs)
      })
    this.next[lane]! += count
    this.reached[lane] = Math.max(this.reached[lane]!, this.next[lane]!)
  }

  /** To another process, and back by some records: what was not committed comes again. */
  private move(lane: number, back: number): void {
    this.processes[this.owners[lane]!]!.alignment.remove(this.names[lane]!)
    this.owners[lane] = (this.owners[lane]! + 1) % this.processes.length
    this.processes[this.owners[lane]!]!.alignment.add(this.names[lane]!)
    this.next[lane] = Math.max(0, this.next[lane]! - back)
  }

  private readBacklogs(passedMs: number): void {
    this.clock.ms += passedMs
    this.owners.forEach((owner, lane) =>
      this.processes[owner]!.alignment.markBacklog(this.names[lane]!, this.next[lane]! < this.records[lane]!.length),
    )
  }

  async finish(): Promise<void> {
    for (let round = 0; round < 500 && this.next.some((next, lane) => next < this.records[lane]!.length); round++) {
      this.readBacklogs(100)
      for (const process of this.processes) await process.tell()
      this.records.forEach((_, lane) => this.process(lane, 8))
    }
    expect(this.next).toEqual(this.records.map(({ length }) => length))
  }
}
