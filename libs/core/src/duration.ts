import { MeshError } from './error.ts'

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `500ms`, `2s`, `5m`, `1.5h` or `7d` in milliseconds. @throws MeshError INVALID_ARGUMENT */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim())
  if (match === null)
    throw new MeshError('INVALID_ARGUMENT', `"${text}" is no duration: write a number and a unit, as in 500ms, 2s, 5m, 1h or 7d`)
  return Number(match[1]) * unitMs[match[2]!]!
}
