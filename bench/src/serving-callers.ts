// A process of the serving benchmarks: the callers, the same for every server.
import type { CallersReport, CallersTask } from './serving-calls.ts'
import { answerMessages } from './serving-child.ts'
import type { Answer, Caller } from './serving-caller.ts'
import { grpcCaller } from './serving-grpc-caller.ts'
import { httpCaller } from './serving-http-caller.ts'
import { percentile } from './rounds.ts'

/** How long the last answers are waited for. */
const patienceMs = 10_000

class Tally {
  readonly #latenciesMs: number[] = []
  readonly #sentLateMs: number[] = []
  readonly #outcomes: Record<string, number> = {}
  readonly #startedMs = performance.now()
  readonly #startedCpu = process.cpuUsage()
  #calls = 0
  #answer: Buffer = Buffer.alloc(0)
  #lastMs = 0

  sent(lateMs: number): void {
    this.#sentLateMs.push(lateMs)
  }

  add({ outcome, body }: Answer, sinceMs: number): void {
    this.#calls++
    this.#outcomes[outcome] = (this.#outcomes[outcome] ?? 0) + 1
    if (outcome !== '0' && outcome !== '200') return
    this.#lastMs = performance.now()
    this.#latenciesMs.push(this.#lastMs - sinceMs)
    this.#answer = body
  }

  report(lost: number): CallersReport {
    const { user, system } = process.cpuUsage(this.#startedCpu)
    const answered = this.#latenciesMs.length
    return {
      answered,
      perSecond: answered === 0 ? 0 : answered / ((this.#lastMs - this.#startedMs) / 1000),
      outcomes: lost === 0 ? this.#outcomes : { ...this.#outcomes, lost: (this.#outcomes['lost'] ?? 0) + lost },
      p50Ms: percentile(this.#latenciesMs, 0.5),
      p99Ms: percentile(this.#latenciesMs, 0.99),
      maxMs: percentile(this.#latenciesMs, 1),
      sentLateP99Ms: this.#sentLateMs.length === 0 ? 0 : percentile(this.#sentLateMs, 0.99),
      cpuUsPerCall: (user + system) / Math.max(1, this.#calls),
      answer: Buffer.from(this.#answer),
    }
  }
}

async function run({ call, port, load, deadlineMs }: CallersTask): Promise<CallersReport> {
  const caller = call.protocol === 'grpc' ? await grpcCaller(port, call, deadlineMs) : httpCaller(port, call)
  try {
    return load.kind === 'closed' ? await closed(caller, load.callers, load.seconds) : await open(caller, load.perSecond, load.seconds)
  } finally {
    await caller.close()
  }
}

async function closed(caller: Caller, callers: number, seconds: number): Promise<CallersReport> {
  const tally = new Tally()
  const endMs = performance.now() + seconds * 1000
  let running = callers
  await within(patienceMs + seconds * 1000, (finished) => {
    const next = (): void => {
      const sentMs = performance.now()
      if (sentMs >= endMs) {
        if (--running === 0) finished()
        return
      }
      caller.call((answer) => {
        tally.add(answer, sentMs)
        next()
      })
    }
    for (let i = 0; i < callers; i++) next()
  })
  return tally.report(running)
}

/** A call that is sent late, since the process was busy, has waited all the same: its clock runs from the time in the timetable. */
async function open(caller: Caller, perSecond: number, seconds: number): Promise<CallersReport> {
  const tally = new Tally()
  const total = Math.round(perSecond * seconds)
  const startMs = performance.now() + 5
  const dueMs = (index: number): number => startMs + (index / perSecond) * 1000
  let sent = 0
  let settled = 0
  await within(patienceMs + seconds * 1000, (finished) => {
    const step = (): void => {
      for (const nowMs = performance.now(); sent < total && dueMs(sent) <= nowMs; sent++) {
        const sinceMs = dueMs(sent)
        tally.sent(nowMs - sinceMs)
        caller.call((answer) => {
          tally.add(answer, sinceMs)
          if (++settled === total) finished()
        })
      }
      if (sent === total) return
      // To wait turn by turn for the very time would take a core from the server: a call may be sent a millisecond late, and its clock runs all the same.
      setTimeout(step, Math.max(0, dueMs(sent) - performance.now() - 1))
    }
    step()
  })
  return tally.report(total - settled)
}

/** Resolves when the work says so, or when the time is over. */
async function within(limitMs: number, work: (finished: () => void) => void): Promise<void> {
  await new Promise<void>((resolve) => {
    const limit = setTimeout(resolve, limitMs)
    work(() => {
      clearTimeout(limit)
      resolve()
    })
  })
}

answerMessages({ run })
