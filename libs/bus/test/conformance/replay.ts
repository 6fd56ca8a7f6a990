import { textValues } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { recordsOf } from '../../src/records.ts'
import { ReplayBus } from '../../src/replay/replay-bus.ts'
import type { ReplaySink } from '../../src/replay/replay-sink.ts'
import { TopicSource } from '../../src/replay/topic-source.ts'
import { copyTo, fill, keysByPartition, type MakeHarness, until, useFixture } from './fixture.ts'

export function replayTests(makeHarness: MakeHarness): void {
  describe('replayed', () => {
    const fixture = useFixture(makeHarness)

    test('a topic that slices were committed to comes to its end, with each record once', async () => {
      const [input, topic] = [await fixture.topic('in', 3), await fixture.topic('replayed', 3)]
      await fill(fixture.bus, input, 3, 50)
      const live = await fixture.processor([input], fixture.unique('group'), copyTo(topic), { maxSliceRecords: 7 })
      await until(async () => (await live.lags()).every((lag) => lag.committedOffset === lag.endOffset), 'the copies')
      const written = new Map<number, string[]>([0, 1, 2].map((partition) => [partition, []]))
      const sink: ReplaySink = {
        resume: () => Promise.resolve(),
        flush: () => Promise.resolve(),
        write: ({ partition }, writes) => {
          for (const { records } of writes) written.get(partition)!.push(...textValues(records.values))
          return Promise.resolve()
        },
      }
      const replay = new ReplayBus({ sources: [new TopicSource(fixture.bus, topic)], sink })
      try {
        await replay.start(AbortSignal.timeout(10_000))
        await fixture.bus.publish(topic, recordsOf(keysByPartition(3).map((key) => ({ key, value: 'later' }))))
        const limits = { from: 'earliest', maxSliceRecords: 9, maxSliceBytes: 1 << 20, concurrency: 3 } as const
        const processor = replay.process({ topics: [topic], group: 'replay', ...limits }, copyTo('out'))
        await processor.start(AbortSignal.timeout(10_000))
        await replay.done()
        expect((await processor.lags()).every((lag) => lag.committedOffset === lag.endOffset)).toBe(true)
      } finally {
        await replay.drain()
      }
      for (const [partition, values] of written) expect(values).toEqual(Array.from({ length: 50 }, (_, i) => `p${partition}-${i}`))
    })
  })
}
