import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eventJson, eventKey } from '../src/events.ts'
import { type PlayEvent, playEvents } from '../src/play-list.ts'
import { resumeFrom, type Tail } from '../src/resume.ts'
import { buildWorld, smallSize } from '../src/world.ts'

const world = buildWorld(smallSize)
const play: readonly PlayEvent[] = playEvents(world).take(6000).toArray()
const partitions = 3
const windowEvents = 50

/** What lies on the topics after `whole` events were published and then those of the interrupted batch that `landed` picks. */
function tailsOf(published: readonly PlayEvent[], depth: number, foreign: readonly string[] = []): Tail[] {
  return (['transactions', 'labels'] as const).flatMap((topic) =>
    Array.from({ length: partitions }, (_, partition) => {
      const own = published.filter((event) => event.topic === topic && Number(eventKey(event)) % partitions === partition).map(eventJson)
      const all = [...own, ...foreign].map((value) => new TextEncoder().encode(value))
      return { topic, values: all.slice(-depth), whole: all.length <= depth }
    }),
  )
}

describe('going on after an interruption', () => {
  it('neither repeats nor loses an event, whatever part of the last batch landed', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5500 }),
        fc.array(fc.boolean(), { minLength: windowEvents, maxLength: windowEvents }),
        (whole, landed) => {
          const batch = play.slice(whole, whole + windowEvents)
          const published = [...play.slice(0, whole), ...batch.filter((_, index) => landed[index])]
          const point = resumeFrom(world, tailsOf(published, 400), windowEvents)!
          const names = new Set(published.map((event) => `${event.topic} ${event.transaction.transactionId}`))
          const next = [...point.missing, ...point.events.take(100)]
          const expected = play.filter((event) => !names.has(`${event.topic} ${event.transaction.transactionId}`)).slice(0, next.length)
          expect(next).toEqual(expected)
          expect(point.transactionsBefore).toBe(published.filter((event) => event.topic === 'transactions').length)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('takes no notice of what others published', () => {
    const foreign = [
      'not JSON',
      '[]',
      '{"transaction_id":1,"customer_id":1,"terminal_id":1,"amount":1,"tx_datetime":"2018-04-03T10:00:00Z"}',
      '{"tx_datetime":"2999-01-01T00:00:00Z"}',
    ]
    const point = resumeFrom(world, tailsOf(play.slice(0, 3000), 400, foreign), windowEvents)!
    expect([...point.missing, ...point.events.take(10)]).toEqual(play.slice(3000, 3010))
  })

  it('asks for more where the tails are too short to tell', () => {
    expect(resumeFrom(world, tailsOf(play.slice(0, 3000), 3), windowEvents)).toBeUndefined()
    expect(resumeFrom(world, tailsOf(play.slice(0, 3000), 2, ['nothing', 'of', 'ours']), windowEvents)).toBeUndefined()
  })

  it('begins at the beginning where the topics are empty', () => {
    const point = resumeFrom(world, tailsOf([], 10), windowEvents)!
    expect([...point.missing, ...point.events.take(10)]).toEqual(play.slice(0, 10))
  })
})
