import type { RecordHeaders } from '@spillway/bus'

/** Headers of a dead letter, beside those that the event came with. */
export const letterHeaders = {
  code: 'spillway-code',
  message: 'spillway-message',
  field: 'spillway-field',
  segment: 'spillway-segment',
  stage: 'spillway-stage',
  eventId: 'spillway-event-id',
  /** When the event happened and when it was taken in, ms since the epoch. */
  eventTimeMs: 'spillway-event-time-ms',
  ingestTimeMs: 'spillway-ingest-time-ms',
  sourceTopic: 'spillway-source-topic',
  sourcePartition: 'spillway-source-partition',
  sourceOffset: 'spillway-source-offset',
  /** The row that the failing stage was given, as a base64 frame. */
  frame: 'spillway-frame',
  /** What was cut so that the letter fits a record: `key`, `event`, `headers`. */
  incomplete: 'spillway-incomplete',
} as const

/** Headers of a record on the redrive topic, beside the letter's own. It lies on the letter's partition. */
export const settlementHeaders = {
  /** The letter's offset on the dead-letter topic. */
  letter: 'spillway-letter',
  outcome: 'spillway-outcome',
} as const

/** What became of a letter: given back to the segment that failed it, or done with. */
export type LetterOutcome = 'redriven' | 'dropped'

/** What a record of the redrive topic says; undefined where it says nothing that can be understood. */
export function settlementOf(headers: RecordHeaders | undefined): { readonly letter: bigint; readonly outcome: LetterOutcome } | undefined {
  const letter = headers?.[settlementHeaders.letter]
  const outcome = headers?.[settlementHeaders.outcome]
  if (letter === undefined || !/^\d{1,18}$/.test(letter) || (outcome !== 'redriven' && outcome !== 'dropped')) return undefined
  return { letter: BigInt(letter), outcome }
}
