import { setTimeout as wait } from 'node:timers/promises'
import type { Fault } from './plan.ts'
import type { SeededRandom } from './random.ts'
import type { System } from './system.ts'
import type { Traffic } from './traffic.ts'

/** A process is started again within this of a broker's return, so that the next fault finds it there or on its way. */
const readyMs = 60_000

/** Does it, and resolves when it is over: processes are started again (not yet ready), lines are whole, servers answer. */
export async function inject(fault: Fault, system: System, traffic: Traffic, random: SeededRandom): Promise<void> {
  switch (fault.kind) {
    case 'kill':
    case 'burst':
    case 'repeat':
      await Promise.all(fault.victims.map(({ instance, signal }) => endAndStart(fault, instance, signal, system)))
      break
    case 'pause': {
      const instance = system.instances.get(fault.instance)!
      instance.pause()
      await wait(fault.forMs)
      instance.resume()
      break
    }
    case 'broker':
    case 'redis': {
      const server = system.servers.get(fault.kind)!
      await server.kill()
      await wait(fault.downMs)
      await server.restart()
      break
    }
    case 'cut':
    case 'stall':
    case 'slow': {
      const link = system.links.get(fault.link)!
      if (fault.kind === 'cut') link.cut()
      else if (fault.kind === 'stall') link.stall()
      else link.slow(fault.delayMs)
      await wait(fault.forMs)
      link.heal()
      break
    }
    case 'scale': {
      const added = await system.add(fault.service)
      await added.ready(readyMs)
      await wait(fault.forMs)
      await system.remove(added, fault.signal)
      break
    }
    case 'poison':
      await traffic.publishPoison(fault.records, random)
      break
  }
}

async function endAndStart(
  { timesEach, betweenMs, downMs }: Extract<Fault, { readonly victims: unknown }>,
  name: string,
  signal: 'SIGKILL' | 'SIGTERM',
  system: System,
): Promise<void> {
  const instance = system.instances.get(name)!
  for (let time = 0; time < timesEach; time++) {
    if (time > 0) await wait(betweenMs)
    await instance.end(signal)
    await wait(downMs)
    instance.start()
  }
}
