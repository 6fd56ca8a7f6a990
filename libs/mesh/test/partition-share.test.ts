import { describe, expect, test } from 'vitest'
import { PartitionShare } from '../src/partition-share.ts'
import { never, telemetry } from './fixture.ts'

const share = (): PartitionShare => new PartitionShare({ segment: 'preprocessing', partitions: 4, logger: telemetry.logger })

async function waits(promise: Promise<void>): Promise<boolean> {
  return Promise.race([promise.then(() => false), new Promise<boolean>((resolve) => setImmediate(resolve, true))])
}

describe('a store that one process has', () => {
  test('lets nothing be processed until that process has every partition', async () => {
    const partitions = share()
    const whole = partitions.whole(never)
    partitions.change({ came: ['a/0', 'a/1'] })
    partitions.change({ came: ['a/1'] })
    expect(await waits(whole)).toBe(true)
    expect(partitions.problem).toMatch(/has 2 of 4 partitions.*--store redis:\/\/host:port/)
    partitions.change({ came: ['b/0', 'b/1'] })
    await whole
    expect(partitions.problem).toBeUndefined()
  })

  test('holds again what comes once a partition has gone', async () => {
    const partitions = share()
    partitions.change({ came: ['a/0', 'a/1', 'b/0', 'b/1'] })
    await partitions.whole(never)
    partitions.change({ went: ['a/1', 'b/1'] })
    const whole = partitions.whole(never)
    expect([await waits(whole), partitions.problem]).toEqual([true, expect.stringContaining('2 of 4')])
    partitions.change({ came: ['a/1', 'b/1'] })
    await whole
  })

  test('lets go of what it holds when its partition goes, or when it stops', async () => {
    const partitions = share()
    partitions.change({ came: ['a/0'] })
    const gone = new AbortController()
    const held = partitions.whole(gone.signal)
    gone.abort(new Error('the partition went'))
    await expect(held).rejects.toThrow('the partition went')
    const stopped = partitions.whole(never)
    partitions.close()
    await expect(stopped).rejects.toMatchObject({ code: 'CANCELLED' })
  })
})
