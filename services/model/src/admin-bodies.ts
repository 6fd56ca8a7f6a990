import { MeshError } from '@spillway/core'
import type { Traffic } from '@spillway/serving'

/** More than any body of these has. */
const mostBytes = 64 * 1024

type Members = Readonly<Record<string, unknown>>

/** @throws MeshError INVALID_ARGUMENT where there is a body that says anything */
export function readNoBody(body: Buffer | undefined): void {
  if (body !== undefined && body.length > 0) known(parse(body), '', [])
}

/** `{"version": "3"}`, or a number; `"latest"` too where that can be meant. */
export function readVersionBody(body: Buffer | undefined): string {
  return version(known(parse(body), '', ['version']), 'version')
}

/** `{"split": [{"to": "3", "weight": 90}, {"to": "label:canary", "weight": 10}], "shadow": {"to": "5", "fraction": 0.1}}`; both may be absent. */
export function readTrafficBody(body: Buffer | undefined): Traffic {
  const { split = [], shadow } = known(parse(body), '', ['split', 'shadow'])
  if (!Array.isArray(split)) throw invalid('split', 'expected an array of {"to", "weight"}')
  return {
    split: split.map((share: unknown, index) => {
      const members = known(share, `split[${index}]`, ['to', 'weight'])
      return { to: version(members, 'to', `split[${index}].`), weight: number(members, 'weight', `split[${index}].`) }
    }),
    ...(shadow !== undefined && shadow !== null && { shadow: readShadow(shadow) }),
  }
}

function readShadow(shadow: unknown): NonNullable<Traffic['shadow']> {
  const members = known(shadow, 'shadow', ['to', 'fraction'])
  return { to: version(members, 'to', 'shadow.'), fraction: number(members, 'fraction', 'shadow.') }
}

function parse(body: Buffer | undefined): unknown {
  if (body === undefined || body.length === 0) throw invalid('', 'the request has no body: expected a JSON object')
  if (body.length > mostBytes) throw invalid('', `the body has ${body.length} bytes: at most ${mostBytes}`)
  try {
    return JSON.parse(body.toString()) as unknown
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `the body is not valid JSON: ${(error as Error).message}`, { cause: error })
  }
}

function known(value: unknown, field: string, names: readonly string[]): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(field, 'expected a JSON object')
  const other = Object.keys(value).find((name) => !names.includes(name))
  if (other !== undefined)
    throw invalid(field === '' ? other : `${field}.${other}`, `there is no such member: expected ${names.join(', ') || 'none'}`)
  return value as Members
}

function version(members: Members, name: string, above: string = ''): string {
  const value = members[name]
  if (typeof value === 'string' && value !== '') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  throw invalid(above + name, 'expected a version, as in "3"')
}

function number(members: Members, name: string, above: string): number {
  const value = members[name]
  if (typeof value === 'number') return value
  throw invalid(above + name, 'expected a number')
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', field === '' ? message : `${field}: ${message}`, field === '' ? {} : { field })
}
