import type { CheckedRecord } from './record.ts'
import { Collector } from './report.ts'

export interface DeadLetterFindings {
  /** `<topic>/<partition>/<offset>` of the inputs that became dead letters. */
  readonly sources: ReadonlySet<string>
  /** Those of them that failed behind the features, so that histories have them; none where letters have no headers. */
  readonly remembered: ReadonlySet<string>
  readonly duplicated: Collector
  readonly unexpected: Collector
  readonly wrong: Collector
  ofInput(topic: string): number
}

/** Each dead letter names its input, holds its bytes and says why; no input has two. */
export function checkDeadLetters(
  deadLetters: readonly CheckedRecord[],
  inputs: Readonly<Record<string, readonly CheckedRecord[]>>,
): DeadLetterFindings {
  const duplicated = new Collector()
  const unexpected = new Collector()
  const wrong = new Collector()
  const originals = new Map<string, CheckedRecord>()
  for (const [topic, records] of Object.entries(inputs))
    for (const record of records) originals.set(`${topic}/${record.partition}/${record.offset}`, record)
  const byValue = Map.groupBy(originals.keys(), (place) => originals.get(place)!.value)
  const sources = new Set<string>()
  const remembered = new Set<string>()
  for (const letter of deadLetters) {
    const at = `dead letter ${letter.partition}/${letter.offset}`
    const source = letter.headers === undefined ? sourceByValue(letter, byValue, sources) : sourceByHeaders(letter.headers)
    const original = originals.get(source)
    if (original === undefined) unexpected.add(`${at} has no input`)
    else if (sources.has(source)) duplicated.add(`${at} is the second one of ${source}`)
    else if (letter.value !== original.value) wrong.add(`${at} does not hold the bytes of ${source}`)
    const silent = ['spillway-code', 'spillway-message', 'spillway-stage'].filter(
      (name) => letter.headers?.[name] === '' || (letter.headers && !(name in letter.headers)),
    )
    if (silent.length > 0) wrong.add(`${at} lacks ${silent.join(', ')}`)
    if (original === undefined) continue
    sources.add(source)
    if (letter.headers !== undefined && !letter.headers['spillway-stage']?.startsWith('preprocessing.')) remembered.add(source)
  }
  const ofInput = (topic: string): number => [...sources].filter((source) => source.startsWith(`${topic}/`)).length
  return { sources, remembered, duplicated, unexpected, wrong, ofInput }
}

function sourceByHeaders(headers: Readonly<Record<string, string>>): string {
  return `${headers['spillway-source-topic']}/${headers['spillway-source-partition']}/${headers['spillway-source-offset']}`
}

/** Without headers, the first input with the same bytes that has no dead letter yet; the last one where all have. */
function sourceByValue(letter: CheckedRecord, byValue: ReadonlyMap<string, readonly string[]>, taken: ReadonlySet<string>): string {
  const places = byValue.get(letter.value) ?? []
  return places.find((place) => !taken.has(place)) ?? places.at(-1) ?? ''
}
