import { SeededRandom } from './random.ts'

type Signal = 'SIGKILL' | 'SIGTERM'

/** One thing that goes wrong. Times are ms. */
export type Fault =
  /** Each of the processes is ended, `timesEach` times, `betweenMs` after it was started again; started again `downMs` after its end. */
  | {
      readonly kind: 'kill' | 'burst' | 'repeat'
      readonly victims: readonly { readonly instance: string; readonly signal: Signal }[]
      readonly downMs: number
      readonly timesEach: number
      readonly betweenMs: number
    }
  /** SIGSTOP, and SIGCONT after `forMs`: a zombie wakes where that is longer than its session. */
  | { readonly kind: 'pause'; readonly instance: string; readonly forMs: number }
  /** `kill -9` of a server, started again `downMs` later. */
  | { readonly kind: 'broker' | 'redis'; readonly downMs: number }
  | { readonly kind: 'cut'; readonly link: string; readonly forMs: number }
  | { readonly kind: 'stall'; readonly link: string; readonly forMs: number }
  | { readonly kind: 'slow'; readonly link: string; readonly forMs: number; readonly delayMs: number }
  /** One more instance of a service, drained (or killed) again after `forMs`. */
  | { readonly kind: 'scale'; readonly service: string; readonly forMs: number; readonly signal: Signal }
  | { readonly kind: 'poison'; readonly records: number }

export type FaultKind = Fault['kind']

export interface PlannedFault {
  readonly fault: Fault
  /** Quiet time before it. */
  readonly gapMs: number
  /** Whether outputs must have resumed before the next one comes; else the next one comes on top of it. */
  readonly settles: boolean
}

/** What there is to break. */
export interface Menu {
  readonly instances: readonly string[]
  /** Of a service's line to a server. */
  readonly links: readonly string[]
  readonly servers: readonly ('broker' | 'redis')[]
  /** Services of which there may be more instances. */
  readonly scalable: readonly string[]
  /** A pause must be longer than this for others to take over. */
  readonly sessionTimeoutMs: number
}

/** How often each kind is drawn before all have been drawn so often; kinds that the menu has nothing for are left out. */
const deck: Readonly<Record<FaultKind, number>> = {
  kill: 4,
  burst: 1,
  repeat: 1,
  pause: 1,
  broker: 1,
  redis: 1,
  cut: 2,
  stall: 1,
  slow: 1,
  scale: 1,
  poison: 2,
}

/** Faults without end, the same for the same seed and menu. Every kind comes up in each round through the deck. */
export function* planFaults(seed: number, menu: Menu): Generator<PlannedFault, never, undefined> {
  const random = new SeededRandom(seed)
  const possible = (Object.keys(deck) as FaultKind[]).filter((kind) => isPossible(kind, menu))
  for (;;) {
    const round = possible.flatMap((kind) => Array.from({ length: deck[kind] }, () => kind))
    for (const kind of random.sample(round, round.length)) {
      const fault = draw(kind, menu, random)
      yield { fault, gapMs: random.between(500, 2500), settles: random.chance(0.8) }
    }
  }
}

function isPossible(kind: FaultKind, { links, servers, scalable, instances }: Menu): boolean {
  switch (kind) {
    case 'broker':
    case 'redis':
      return servers.includes(kind)
    case 'cut':
    case 'stall':
    case 'slow':
      return links.length > 0
    case 'scale':
      return scalable.length > 0
    case 'burst':
      return instances.length > 1
    case 'kill':
    case 'repeat':
    case 'pause':
    case 'poison':
      return true
  }
}

function draw(kind: FaultKind, menu: Menu, random: SeededRandom): Fault {
  const signal = (): Signal => (random.chance(0.6) ? 'SIGKILL' : 'SIGTERM')
  const victims = (count: number): { instance: string; signal: Signal }[] =>
    random.sample(menu.instances, count).map((instance) => ({ instance, signal: signal() }))
  const once = { timesEach: 1, betweenMs: 0 }
  switch (kind) {
    case 'kill':
      return { kind, victims: victims(1), downMs: random.between(0, 3000), ...once }
    case 'burst':
      return { kind, victims: victims(random.between(2, 4)), downMs: random.between(0, 2000), ...once }
    case 'repeat':
      return {
        kind,
        victims: victims(1),
        downMs: random.between(0, 500),
        timesEach: random.between(2, 4),
        betweenMs: random.between(300, 2500),
      }
    case 'pause':
      return { kind, instance: random.pick(menu.instances), forMs: menu.sessionTimeoutMs + random.between(1000, 4000) }
    case 'broker':
    case 'redis':
      return { kind, downMs: random.between(0, 3000) }
    case 'cut':
      return { kind, link: random.pick(menu.links), forMs: random.between(0, 5000) }
    case 'stall':
      return { kind, link: random.pick(menu.links), forMs: random.between(2000, menu.sessionTimeoutMs + 4000) }
    case 'slow':
      return { kind, link: random.pick(menu.links), forMs: random.between(4000, 8000), delayMs: random.between(20, 200) }
    case 'scale':
      return { kind, service: random.pick(menu.scalable), forMs: random.between(4000, 9000), signal: signal() }
    case 'poison':
      return { kind, records: random.between(1, 20) }
  }
}

/** As it is printed. */
export function describeFault(fault: Fault): string {
  const s = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
  switch (fault.kind) {
    case 'kill':
    case 'burst':
    case 'repeat': {
      const names = fault.victims.map(({ instance, signal }) => `${instance} ${signal}`).join(', ')
      const times = fault.timesEach > 1 ? `, ${fault.timesEach} times, ${s(fault.betweenMs)} after each start` : ''
      return `${fault.kind} ${names}${times}, down ${s(fault.downMs)}`
    }
    case 'pause':
      return `pause ${fault.instance} for ${s(fault.forMs)}`
    case 'broker':
    case 'redis':
      return `${fault.kind} SIGKILL, down ${s(fault.downMs)}`
    case 'cut':
    case 'stall':
      return `${fault.kind} ${fault.link} for ${s(fault.forMs)}`
    case 'slow':
      return `slow ${fault.link} by ${fault.delayMs} ms for ${s(fault.forMs)}`
    case 'scale':
      return `scale ${fault.service} up, and down by ${fault.signal} after ${s(fault.forMs)}`
    case 'poison':
      return `poison, ${fault.records} records`
  }
}
