import { MeshError } from '@spillway/core'

/** A time on the command line: a day (`2018-05-08`, its beginning in UTC) or RFC 3339. In ms since the epoch. @throws MeshError INVALID_ARGUMENT */
export function parseTime(text: string): number {
  const timeMs = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text) ? Date.parse(text) : NaN
  if (Number.isNaN(timeMs))
    throw new MeshError('INVALID_ARGUMENT', `"${text}" is no time: write a day as 2018-05-08, or RFC 3339 as 2018-05-08T12:00:00Z`)
  return timeMs
}
