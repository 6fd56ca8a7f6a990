import type { InputDefinition } from '@spillway/wire'

/** The integer is an id that a stream is not likely to have: an event of a known key goes stale as the key's newer ones come. */
const samples = { string: 'text', number: 12.5, integer: 999_999_999, boolean: true } as const

/** An event that the input takes: a value a required field, its time as given. */
export function sampleEvent(input: InputDefinition, timeMs: number): string {
  const event: Record<string, unknown> = {}
  for (const [name, field] of Object.entries(input.fields)) {
    if (field.optional) continue
    if (field.type === 'timestamp') event[name] = new Date(timeMs).toISOString()
    else if (field.type === 'string' || field.type === 'boolean') event[name] = samples[field.type]
    else event[name] = Math.min(Math.max(samples[field.type], field.min ?? -Infinity), field.max ?? Infinity)
  }
  return JSON.stringify(event)
}
