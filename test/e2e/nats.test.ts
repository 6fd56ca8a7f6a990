import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NatsBus } from '@spillway/bus'
import { afterAll, describe, expect, test } from 'vitest'
import { sharedNats } from '../brokers/mod.ts'
import { isClean, summary } from '../checker/report.ts'
import { brokenEvents, fraudNames, publishBacklog, writePipeline } from './fraud-run.ts'
import { checkOnNats, writtenOn } from './nats-run.ts'
import { anyPorts, SpillwayProcess, until } from './processes.ts'

const transactionCount = 20_000
const nats = await sharedNats()

describe.skipIf('skipped' in nats)('the fraud pipeline over NATS JetStream, every link a topic', () => {
  const servers = 'skipped' in nats ? [] : nats.servers
  const folder = mkdtempSync(join(tmpdir(), 'spillway-e2e-'))
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true })
    if (!('skipped' in nats)) await nats.stop()
  })

  test('killed in the middle and started again: every event answered once, in order, as recomputed', { timeout: 300_000 }, async () => {
    const names = fraudNames(`fraud-nats-${Date.now()}`)
    const pipeline = writePipeline(folder, names)
    const broken = brokenEvents()
    const bus = new NatsBus({ servers, clientName: 'e2e' })
    await bus.start(AbortSignal.timeout(20_000))
    await publishBacklog(
      bus,
      names,
      transactionCount,
      broken.map(({ value }) => value),
    )
    let mesh = new SpillwayProcess(
      [
        'up',
        '--pipeline',
        pipeline,
        '--bus',
        `nats://${servers.join(',')}`,
        '--links',
        'topic',
        '--data',
        join(folder, 'data'),
        ...anyPorts,
      ],
      folder,
    )
    try {
      await until(
        'the first predictions',
        async () => ((await writtenOn(bus, names.predictions)) > 500 ? true : undefined),
        60_000,
        () => mesh.output,
      )
      await mesh.stop('SIGKILL')
      expect(await writtenOn(bus, names.predictions), 'predictions at the kill').toBeLessThan(transactionCount)
      mesh = mesh.again()
      await until(
        'every transaction to be answered',
        async () =>
          (await writtenOn(bus, names.predictions)) >= transactionCount && (await writtenOn(bus, names.deadLetters)) >= broken.length
            ? true
            : undefined,
        180_000,
        () => mesh.output.slice(-4000),
      )
      expect(await mesh.stop(), mesh.output.slice(-2000)).toBe(0)
    } finally {
      await mesh.stop('SIGKILL')
      await bus.drain()
    }
    const report = await checkOnNats(servers, names)
    expect(isClean(report), summary(report)).toBe(true)
    expect(report.predictions).toBe(transactionCount)
    expect(report.deadLetters).toBe(broken.length)
  })
})
