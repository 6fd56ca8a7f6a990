import { createHash } from 'node:crypto'
import type { LaneReport, WatermarkBoard } from '../store.ts'
import type { RedisConnection } from './connection.ts'

/** A hash of lanes for each set of histories: `<watermark in ms, or empty> <1 where idle, else 0> <beat>`. */
export class RedisWatermarkBoard implements WatermarkBoard {
  private readonly connection: RedisConnection
  private readonly key: string

  constructor(connection: RedisConnection, prefix: string, histories: readonly string[]) {
    this.connection = connection
    const set = createHash('sha256').update(JSON.stringify(histories.toSorted()))
    this.key = `${prefix}watermarks:${set.digest('hex').slice(0, 16)}`
  }

  /** Both commands are on their way before the first is answered: one round trip. */
  async exchange(own: readonly LaneReport[]): Promise<readonly LaneReport[]> {
    const { connection, key } = this
    const fields = own.flatMap((report) => [report.lane, encode(report)])
    const written = fields.length === 0 ? undefined : connection.send('HSET', [key, ...fields])
    const [, found] = await Promise.all([written, connection.send('HGETALL', [key])])
    const pairs = found as readonly Buffer[]
    return Array.from({ length: pairs.length / 2 }, (_, index) => decode(pairs[2 * index]!.toString(), pairs[2 * index + 1]!.toString()))
  }
}

function encode({ watermarkMs, idle, beat }: LaneReport): string {
  return `${watermarkMs === -Infinity ? '' : watermarkMs} ${idle ? 1 : 0} ${beat}`
}

function decode(lane: string, text: string): LaneReport {
  const [watermark, idle, beat] = text.split(' ') as [string, string, string]
  return { lane, watermarkMs: watermark === '' ? -Infinity : Number(watermark), idle: idle === '1', beat: Number(beat) }
}
