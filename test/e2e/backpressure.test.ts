import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KafkaBus } from '@spillway/bus'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HeavyServer } from '../../cli/test/pressure/heavy-server.ts'
import { sharedKafka } from '../brokers/mod.ts'
import { drainAll, killAll, lastWords, type ServiceProcess, startServices } from './mesh-services.ts'
import { escalatedMiB, growthLimitMiB, lagOf, partitions, PressureRun, queueOf } from './pressure-run.ts'
import { freePorts } from '../brokers/ports.ts'
import { until } from './processes.ts'

const warmUpS = 3
const beforeS = 6
const outageS = 22
/**
 * What the 99th percentile of the accepted rows may be while the heavy model is away: 3 s, or twice what it was before on a machine that is slower
 * than that, or as many round trips to the broker as there are on a row's way where the machine stands still meanwhile.
 */
const limitMs = (beforeMs: number, slowestPublishMs: number): number => Math.max(3000, 2 * beforeMs, 10 * slowestPublishMs)
const services = ['model', 'postprocessing', 'cascade-router', 'preprocessing']

const kafka = await sharedKafka()

describe.skipIf('skipped' in kafka)('over Kafka, a heavy model that does not keep up', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const address = `kafka://${brokers.join(',')}`
  const folder = mkdtempSync(join(tmpdir(), 'spillway-pressure-'))
  let bus: KafkaBus
  let processes: ServiceProcess[] = []

  beforeAll(async () => {
    bus = new KafkaBus({ brokers, clientId: 'e2e' })
    await bus.start(AbortSignal.timeout(60_000))
  })
  afterAll(async () => {
    await killAll(processes)
    await bus.drain()
    rmSync(folder, { recursive: true, force: true })
  })

  const serve = (run: PressureRun, links: 'topic' | 'grpc'): Promise<ServiceProcess[]> =>
    startServices({ pipeline: run.pipeline, bus: address, links, services, data: join(folder, run.name) })

  /** A mesh, and the second tier's model in a process of its own, which can be stopped. */
  async function withHeavyProcess(
    links: 'topic' | 'grpc',
  ): Promise<{ run: PressureRun; heavy: ServiceProcess; router: ServiceProcess; head: ServiceProcess }> {
    const run = new PressureRun(bus, folder, `pressure-${links}-${Date.now()}`)
    const [port] = await freePorts(1)
    await run.write(port!)
    const [heavy] = await startServices({
      pipeline: run.heavyPipeline,
      bus: address,
      links,
      services: ['model'],
      data: join(folder, `${run.name}-heavy`),
      grpcPort: port!,
    })
    processes = [heavy!]
    processes.push(...(await serve(run, links)))
    await warmUp(run)
    return { run, heavy: heavy!, router: processes[3]!, head: processes[4]! }
  }

  /** Groups have found together, and code is compiled, before anything is measured. */
  async function warmUp(run: PressureRun): Promise<void> {
    run.watch()
    await run.play(warmUpS, processes)
    await answered(run, () => run.sent)
  }

  const answered = (run: PressureRun, count: () => number): Promise<true> =>
    until(
      'the answers',
      () => (run.answerCount >= count() ? true : undefined),
      60_000,
      () => `${run.answerCount} answers to ${run.sent} events\n${lastWords(processes)}`,
    )

  /** All is answered, once, by the tier whose it is; nobody has held what waited. */
  async function expectMadeUpFor(
    run: PressureRun,
    before: ReadonlyMap<string, number>,
    during: ReadonlyMap<string, number>,
  ): Promise<void> {
    await answered(run, () => run.sent)
    expect(await drainAll(processes)).toEqual([])
    await run.end()
    expect(run.answered().size).toBe(run.sent)
    expect(run.wrong()).toEqual([])
    const grown = new Map([...during].map(([name, mib]) => [name, Math.round(mib - before.get(name)!)]))
    console.info(
      `${run.sent} events; resident memory, and what it grew by in MiB: ${[...grown].map(([name, more]) => `${name} ${Math.round(during.get(name)!)} +${more}`).join(', ')}`,
    )
    for (const [name, more] of grown) expect(more, name).toBeLessThan(growthLimitMiB)
  }

  test(
    'with escalations on a topic, stopped: accepted rows go on as before, the escalated wait on their topic, and are answered once it is back',
    { timeout: 180_000 },
    async () => {
      const { run, heavy, router } = await withHeavyProcess('topic')
      const escalations = `${run.name}.tier-2`
      const normal = await run.play(beforeS, processes)
      await answered(run, () => run.sent)
      const before = run.held()
      heavy.child.kill('SIGSTOP')
      try {
        const early = await run.play(outageS / 2, processes)
        const slowestEarlyMs = run.slowestPublishMs
        const lagEarly = await lagOf(router, escalations)
        const late = await run.play(outageS / 2, processes)
        const [lagLate, queue] = [await lagOf(router, escalations), await queueOf(router, 'cascade-router.tier-2')]
        const away = [early[0], late[1]] as const
        await answered(run, () => run.sent - (run.escalated - run.answeredBy('heavy')))
        console.info(
          `p99 of accepted rows ${run.p99(normal).toFixed(0)} ms before, ${run.p99(away).toFixed(0)} ms during (slowest publish ${Math.max(slowestEarlyMs, run.slowestPublishMs).toFixed(0)} ms); lag of ${escalations} ${lagEarly}, then ${lagLate}; ` +
            `depth ${queue.depth}, age ${queue.ageS.toFixed(1)} s; ${escalatedMiB(away).toFixed(0)} MiB wait`,
        )
        expect(run.p99(away)).toBeLessThan(limitMs(run.p99(normal), Math.max(slowestEarlyMs, run.slowestPublishMs)))
        expect(lagEarly).toBeGreaterThan(0)
        expect(lagLate).toBeGreaterThan(lagEarly * 1.5)
        expect(queue.ageS).toBeGreaterThan(outageS / 2)
        expect(queue.depth).toBeGreaterThan(0)
        expect(queue.depth).toBeLessThanOrEqual(partitions)
        expect(escalatedMiB(away)).toBeGreaterThan(growthLimitMiB)
      } finally {
        heavy.child.kill('SIGCONT')
      }
      await expectMadeUpFor(run, before, run.held())
    },
  )

  test('with escalations on a topic, 100 times slower: the same, at its pace', { timeout: 180_000 }, async () => {
    const heavy = new HeavyServer()
    heavy.rowDelayMs = 0.5
    const run = new PressureRun(bus, folder, `pressure-slow-${Date.now()}`)
    try {
      await run.write(await heavy.start())
      processes = await serve(run, 'topic')
      await warmUp(run)
      const normal = await run.play(beforeS, processes)
      await answered(run, () => run.sent)
      const before = run.held()
      heavy.rowDelayMs *= 100
      const slow = await run.play(outageS, processes)
      const lag = await lagOf(processes[2]!, `${run.name}.tier-2`)
      await answered(run, () => run.sent - (run.escalated - run.answeredBy('heavy')))
      console.info(`p99 of accepted rows ${run.p99(normal).toFixed(0)} ms before, ${run.p99(slow).toFixed(0)} ms during; lag ${lag}`)
      expect(run.p99(slow)).toBeLessThan(limitMs(run.p99(normal), run.slowestPublishMs))
      expect(lag).toBeGreaterThan(0)
      expect(heavy.mostInFlight).toBeLessThanOrEqual(partitions)
      heavy.rowDelayMs = 0
      await expectMadeUpFor(run, before, run.held())
    } finally {
      await heavy.stop()
    }
  })

  test(
    'with escalations within the segment, stopped: reading pauses, little is held, and all is answered once it is back',
    { timeout: 180_000 },
    async () => {
      const { run, heavy, head } = await withHeavyProcess('grpc')
      await run.play(beforeS, processes)
      await answered(run, () => run.sent)
      const before = run.held()
      heavy.child.kill('SIGSTOP')
      try {
        const early = await run.play(outageS / 2, processes)
        const lagEarly = await lagOf(head, `${run.name}.in`)
        const stoodAt = run.answerCount
        const late = await run.play(outageS / 2, processes)
        const [lagLate, queue] = [await lagOf(head, `${run.name}.in`), await queueOf(head, 'preprocessing')]
        const away = [early[0], late[1]] as const
        console.info(
          `lag of the input ${lagEarly}, then ${lagLate}; depth ${queue.depth}, age ${queue.ageS.toFixed(1)} s; ${escalatedMiB(away).toFixed(0)} MiB wait`,
        )
        expect(run.answerCount).toBe(stoodAt)
        expect(lagLate).toBeGreaterThan(lagEarly * 1.5)
        expect(queue.ageS).toBeGreaterThan(outageS / 2)
        expect(queue.depth).toBeLessThanOrEqual(2 * partitions)
        expect(escalatedMiB(away)).toBeGreaterThan(growthLimitMiB)
      } finally {
        heavy.child.kill('SIGCONT')
      }
      await expectMadeUpFor(run, before, run.held())
    },
  )
})
