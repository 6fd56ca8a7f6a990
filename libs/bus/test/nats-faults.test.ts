import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Kvm } from '@nats-io/kv'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startNats } from '../../../test/brokers/nats.ts'
import { NatsLink } from '../src/nats/link.ts'
import { positionKey, positionsBucket, streamOf, subjectOf } from '../src/nats/names.ts'
import { NatsBus, type NatsBusOptions } from '../src/nats/nats-bus.ts'
import { Positions } from '../src/nats/positions.ts'
import { Writer } from '../src/nats/writer.ts'
import type { Handler, ProcessOptions, Processor, ProcessorEvent } from '../src/port.ts'
import { type Copier, copyTo, fill, readAll, until, valuesOf } from './conformance/fixture.ts'

const processor = async (
  on: NatsBus,
  topic: string,
  group: string,
  handle: Handler,
  options: Partial<ProcessOptions> = {},
): Promise<Processor> => {
  const limits = { from: 'earliest', maxSliceRecords: 50, maxSliceBytes: 1 << 20, concurrency: 4, drainGraceMs: 2000 } as const
  const made = on.process({ topics: [topic], group, ...limits, ...options }, handle)
  await made.start(AbortSignal.timeout(20_000))
  return made
}

const slowly =
  (topic: string): Copier =>
  async (slice, signal) => {
    await new Promise((resolve) => setTimeout(resolve, 2))
    return copyTo(topic)(slice, signal)
  }

const nats = await startNats({ withFaults: true })
if ('skipped' in nats) test.skip(`NATS under faults: ${nats.skipped}`, () => {})
else
  describe('NATS under faults', { timeout: 60_000 }, () => {
    const { servers } = nats
    const faults = nats.faults!
    const partitions = 4
    let bus: NatsBus
    let ends: (() => Promise<unknown>)[] = []

    const startBus = async (options: Partial<NatsBusOptions> = {}): Promise<NatsBus> => {
      const started = new NatsBus({ servers, sessionTimeoutMs: 2000, ...options })
      await started.start(AbortSignal.timeout(20_000))
      ends.push(() => started.drain())
      return started
    }
    const topics = async (label: string, on = bus): Promise<[string, string]> => {
      await on.topics.ensure([`${label}-in`, `${label}-out`].map((name) => ({ name, partitions })))
      return [`${label}-in`, `${label}-out`]
    }
    /** Kept alive until the test ends. */
    const copier = async (...args: readonly string[]): Promise<{ readonly child: ChildProcess; said(line: string): boolean }> => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'nats-copier.ts'), servers.join(','), ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const lines: string[] = []
      createInterface(child.stdout).on('line', (line) => lines.push(line))
      ends.push(async () => child.kill('SIGKILL'))
      await until(() => lines.includes('started'), 'the copier to start')
      return { child, said: (line) => lines.includes(line) }
    }
    const written = async (topic: string): Promise<bigint> => (await bus.topics.offsets(topic)).reduce((sum, { end }) => sum + end, 0n)
    const expectExactly = async (topic: string, count: number): Promise<void> => {
      const rows = await readAll(bus, topic)
      for (let partition = 0; partition < partitions; partition++)
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(
          Array.from({ length: count }, (_, i) => `p${partition}-${i}`),
        )
    }
    const untilCommitted = async (running: Processor, count: number): Promise<void> =>
      until(
        async () => (await running.lags()).filter(({ committedOffset }) => committedOffset === BigInt(count)).length === partitions,
        'all to be committed',
        40_000,
      )
    beforeAll(async () => {
      bus = await startBus()
      ends = []
    })
    afterEach(async () => {
      for (const end of ends.toReversed()) await end()
      ends = []
    })
    afterAll(async () => {
      await bus.drain()
      await nats.stop()
    })

    test('a process killed in the middle: the next one goes on, each record once', async () => {
      const [input, output] = await topics('killed')
      await fill(bus, input, partitions, 3000)
      const first = await copier('killed', input, output)
      await until(async () => (await written(output)) > 2000n, 'some output')
      first.child.kill('SIGKILL')
      await once(first.child, 'exit')
      const killedMs = Date.now()
      const before = await written(output)
      expect(before).toBeLessThan(12_000n)
      const second = await copier('killed', input, output)
      await until(async () => (await written(output)) > before, 'output to resume')
      // The session of two seconds, and a little more; more still on a machine that is busy.
      expect(Date.now() - killedMs).toBeLessThan(2000 + 8000)
      await until(() => second.said('done'), 'the second to finish', 40_000)
      await expectExactly(output, 3000)
    })

    test('the last record was deleted: those before it are processed, though the first slice waits for all that there is', async () => {
      const [input, output] = await topics('tail')
      await fill(bus, input, partitions, 100)
      const link = await NatsLink.open({ servers, name: 'tail', onAway: () => {}, onBack: () => {} }, AbortSignal.timeout(5000))
      ends.push(() => link.close())
      await link.manager.streams.deleteMessage(streamOf(input, 0), 100)
      await processor(await startBus(), input, 'tail', copyTo(output))
      await until(async () => (await written(output)) === 399n, 'all that is there')
    })

    test('a process paused past its session wakes up: it commits nothing more, each record once', async () => {
      const [input, output] = await topics('zombie')
      await fill(bus, input, partitions, 3000)
      const zombie = await copier('zombie', input, output)
      await until(async () => (await written(output)) > 2000n, 'some output')
      zombie.child.kill('SIGSTOP')
      const before = await written(output)
      expect(before).toBeLessThan(12_000n)
      const running = await processor(await startBus(), input, 'zombie', slowly(output))
      await until(async () => (await written(output)) > before + 1000n, 'output to resume', 20_000)
      zombie.child.kill('SIGCONT')
      await fill(bus, input, partitions, 1000, 3000)
      await until(async () => (await written(output)) >= 16_000n, 'all output', 40_000)
      await until(async () => (await running.lags()).length === partitions / 2, 'the two to share the partitions again')
      await running.drain()
      await until(() => zombie.said('done'), 'the one that woke up to finish')
      await expectExactly(output, 4000)
    })

    test('instances that join, leave and are killed under load: each record once, in order', async () => {
      const [input, output] = await topics('rebalanced')
      let sent = 0
      const publish = async (): Promise<void> => {
        await fill(bus, input, partitions, 100, sent)
        sent += 100
      }
      const [one, two] = [await startBus(), await startBus()]
      const first = await processor(one, input, 'rebalanced', slowly(output))
      for (let i = 0; i < 5; i++) await publish()
      const doomed = await copier('rebalanced', input, output)
      let handled = 0
      const second = await processor(two, input, 'rebalanced', (slice, signal) => (handled++, slowly(output)(slice, signal)))
      await until(async () => {
        await publish()
        return handled > 10
      }, 'the second to have work')
      doomed.child.kill('SIGKILL')
      for (let i = 0; i < 5; i++) await publish()
      await first.drain()
      await publish()
      await untilCommitted(second, sent)
      await second.drain()
      await expectExactly(output, sent)
    })

    test('a drain gives its partitions to the others within a second', async () => {
      const [input, output] = await topics('drained')
      const [one, two] = [await startBus(), await startBus()]
      const leaving = await processor(one, input, 'drained', slowly(output))
      const staying = await processor(two, input, 'drained', slowly(output))
      await until(async () => (await staying.lags()).length === partitions / 2, 'both to have partitions')
      const drainedMs = Date.now()
      await leaving.drain()
      await until(async () => (await staying.lags()).length === partitions, 'the other to have all')
      expect(Date.now() - drainedMs).toBeLessThan(1000)
    })

    test.each([
      ['by their ids', 600_000, 3],
      ['by looking into the stream, past the duplicate window', 200, 3],
      ['in parts larger than a message', 600_000, 3_000_000],
    ])(
      'what a dead owner had committed is delivered once, %s, whatever the handler would say now',
      async (label, duplicateWindowMs, bytes) => {
        const own = await startBus({ duplicateWindowMs })
        const [input, output] = await topics(`dead-${bytes}-${duplicateWindowMs}`, own)
        await fill(own, input, partitions, 10)
        const group = `dead ${label}`
        const link = await NatsLink.open({ servers, name: 'dead', onAway: () => {}, onBack: () => {} }, AbortSignal.timeout(5000))
        const bucket = await new Kvm(link.jetstream).open(positionsBucket)
        const values = Array.from({ length: 4 }, (_, i) => `committed-${i}`.padEnd(Math.floor(bytes / 4), '.'))
        const outputs = values.map((value) => ({
          stream: streamOf(output, 0),
          subject: subjectOf(output, 0),
          headers: 'kept: yes\r\n',
          payload: Buffer.from(value),
        }))
        const positions = new Positions(link, bucket, 'the-dead')
        const { signal } = new AbortController()
        const committed = await positions.write(positionKey(group, input, 0), 0, { next: 7n, stamp: undefined }, outputs, signal)
        const writer = new Writer(link, {
          duplicateWindowMs: () => Promise.resolve(duplicateWindowMs),
          findStored: () => Promise.resolve(new Map()),
        })
        await writer.write(committed.outputs.slice(0, 2))
        writer.close()
        await link.close()
        // Past the window: the server no longer knows the ids.
        await new Promise((resolve) => setTimeout(resolve, 500))
        const running = await processor(own, input, group, (slice) =>
          Promise.resolve({ writes: [{ topic: output, partition: slice.partition, records: slice.records }] }),
        )
        await untilCommitted(running, 10)
        await running.drain()
        const rows = (await readAll(own, output)).filter(({ partition }) => partition === 0)
        expect(valuesOf(rows)).toEqual([...values, 'p0-7', 'p0-8', 'p0-9'])
        expect(rows[3]!.headers).toEqual({ kept: 'yes' })
      },
    )

    test.each([
      ['the duplicate window', 600_000],
      ['the streams themselves, past the window', 100],
    ])('a server killed and started again: what runs goes on, what starts meanwhile waits, each record once by %s', async (_, windowMs) => {
      const own = await startBus({ duplicateWindowMs: windowMs })
      const [input, output] = await topics(`outage-${windowMs}`, own)
      const events: ProcessorEvent[] = []
      const running = await processor(own, input, 'outage', slowly(output), { onEvent: (event) => events.push(event) })
      let sent = 0
      const stop = new AbortController()
      const publishing = (async () => {
        while (!stop.signal.aborted) {
          await fill(own, input, partitions, 20, sent)
          sent += 20
        }
      })()
      for (let round = 0; round < 3; round++) {
        const enough = (await written(output)) + 500n
        await until(async () => (await written(output)) > enough, 'some output')
        await faults.kill()
        if (round === 0) {
          const late = new NatsBus({ servers })
          ends.push(() => late.drain())
          await expect(new NatsBus({ servers }).start(AbortSignal.timeout(500))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
          const starting = late.start(AbortSignal.timeout(40_000))
          await until(() => events.some(({ kind }) => kind === 'disconnected'), 'the processor to say so')
          await faults.restart()
          await starting
        } else await faults.restart()
        const before = sent
        await until(() => sent > before + 100, 'publishing to go on')
      }
      stop.abort()
      await publishing
      await untilCommitted(running, sent)
      expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['disconnected', 'connected']))
      await expectExactly(output, sent)
    })

    test('a server that stands still is waited for, each record once', async () => {
      const [input, output] = await topics('paused')
      await fill(bus, input, partitions, 500)
      const running = await processor(await startBus(), input, 'paused', slowly(output))
      await until(async () => (await written(output)) > 100n, 'some output')
      faults.pause()
      // Past the acknowledgements' time-out and the session.
      await new Promise((resolve) => setTimeout(resolve, 6000))
      faults.resume()
      await untilCommitted(running, 500)
      await expectExactly(output, 500)
    })
  })
