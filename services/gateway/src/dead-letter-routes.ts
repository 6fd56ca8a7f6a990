import { MeshError } from '@spillway/core'
import { type DeadLetterFilter, maxSettledAtOnce, type Settlement } from '@spillway/mesh'
import type { Telemetry } from '@spillway/telemetry'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Catalog } from './catalog.ts'
import { parseJson } from './json-slices.ts'
import { bodyBytes, clientSignal, mediaType, traced, unsupported } from './request.ts'

export interface DeadLetterRoutesOptions {
  readonly catalog: Catalog
  readonly telemetry: Telemetry
}

type Query = Readonly<Record<string, string | readonly string[] | undefined>>

const defaultLimit = 100
const largestLimit = 1000
const outcomes = ['open', 'redriven', 'dropped', 'any'] as const
const filters = ['segment', 'stage', 'code', 'key', 'id'] as const

/** `/v1/pipelines/{name}/dead-letters`: listed, shown, given back to their segments, and done with. */
export function deadLetterRoutes(app: FastifyInstance, { catalog, telemetry }: DeadLetterRoutesOptions): void {
  const path = '/v1/pipelines/:name/dead-letters'
  app.get<{ Params: { name: string }; Querystring: Query }>(path, (request, reply) =>
    traced(telemetry, request, reply, async () => {
      const { query } = request
      const known: readonly string[] = [...filters, 'from', 'to', 'outcome', 'after', 'limit']
      const unknown = Object.keys(query).find((name) => !known.includes(name))
      if (unknown !== undefined) throw wrong(unknown, `"${unknown}" is not known: ask by ${known.join(', ')}`)
      const after = text(query, 'after')
      const page = { limit: limitOf(query), ...(after !== undefined && { after }) }
      return catalog.pipeline(request.params.name).deadLetters.list(filterOf(query), page, clientSignal(reply))
    }),
  )

  app.get<{ Params: { name: string; position: string } }>(`${path}/:position`, (request, reply) =>
    traced(telemetry, request, reply, () => {
      const { name, position } = request.params
      return catalog.pipeline(name).deadLetters.show(position, clientSignal(reply))
    }),
  )

  for (const [verb, outcome] of [
    ['redrive', 'redriven'],
    ['drop', 'dropped'],
  ] as const)
    app.post<{ Params: { name: string } }>(`${path}::${verb}`, (request, reply) =>
      traced(telemetry, request, reply, () => {
        const { positions, ...settlement } = readBody(request, outcome)
        return catalog.pipeline(request.params.name).deadLetters.settle(positions, settlement, clientSignal(reply))
      }),
    )
}

function wrong(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}

function text(query: Query, name: string): string | undefined {
  const value = query[name]
  if (value !== undefined && typeof value !== 'string') throw wrong(name, `"${name}" is given more than once`)
  return value
}

function limitOf(query: Query): number {
  const given = text(query, 'limit')
  if (given === undefined) return defaultLimit
  const limit = Number(given)
  if (!Number.isInteger(limit) || limit < 1 || limit > largestLimit)
    throw wrong('limit', `"${given}" is no limit: give 1 to ${largestLimit}`)
  return limit
}

function filterOf(query: Query): DeadLetterFilter {
  const timeOf = (name: string): number | undefined => {
    const given = text(query, name)
    if (given === undefined) return undefined
    const timeMs = Date.parse(given)
    if (Number.isNaN(timeMs)) throw wrong(name, `"${given}" is no time: write RFC 3339, as in 2026-05-08T12:00:00Z`)
    return timeMs
  }
  const [fromMs, toMs] = [timeOf('from'), timeOf('to')]
  const asked = text(query, 'outcome')
  const outcome = outcomes.find((each) => each === asked)
  if (asked !== undefined && outcome === undefined) throw wrong('outcome', `"${asked}" is no outcome: choose among ${outcomes.join(', ')}`)
  const given = filters.flatMap((name) => {
    const value = text(query, name)
    return value === undefined ? [] : [[name, value] as const]
  })
  return {
    ...(Object.fromEntries(given) as DeadLetterFilter),
    ...(fromMs !== undefined && { fromMs }),
    ...(toMs !== undefined && { toMs }),
    ...(outcome !== undefined && { outcome }),
  }
}

function readBody(request: FastifyRequest, outcome: Settlement['outcome']): Settlement & { readonly positions: readonly string[] } {
  const type = mediaType(request)
  if (type !== 'application/json') unsupported(type, ['application/json'])
  const { value } = parseJson(bodyBytes(request), 'the body')
  const expected = `send {"positions": ["0-12", …]} with at most ${maxSettledAtOnce}`
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('body', `the body is no JSON object: ${expected}`)
  const { positions, at, dryRun, ...rest } = value as Record<string, unknown>
  const [unknown] = Object.keys(rest)
  if (unknown !== undefined) throw wrong(unknown, `"${unknown}" is not known: ${expected}`)
  if (!Array.isArray(positions) || positions.some((position) => typeof position !== 'string')) throw wrong('positions', expected)
  if (at !== undefined && ((at !== 'segment' && at !== 'input') || outcome === 'dropped'))
    throw wrong('at', '"at" is where a letter is given back: "segment" or "input"')
  if (dryRun !== undefined && typeof dryRun !== 'boolean') throw wrong('dryRun', '"dryRun" is true or false')
  return {
    positions: positions as string[],
    outcome,
    ...(at !== undefined && { at }),
    ...(dryRun !== undefined && { dryRun }),
  }
}
