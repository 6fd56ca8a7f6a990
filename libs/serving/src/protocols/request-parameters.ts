import { MeshError } from '@spillway/core'
import type { ParameterValue } from '@spillway/wire'
import type { VersionChoice } from '../models.ts'

export type Parameters = ReadonlyMap<string, ParameterValue>

/** What a request's own parameters ask of the service. */
export interface RequestOptions {
  /** How long it may wait in the queue, ms; undefined: as long as the model allows. */
  readonly queueTimeoutMs: number | undefined
  readonly label: string | undefined
  /** Requests of one key go to one version where traffic is split. */
  readonly key: string | undefined
}

const noOptions: RequestOptions = { queueTimeoutMs: undefined, label: undefined, key: undefined }

/** The two of Triton's own that mean something here: the first is asked for by its streaming client. */
const understood = new Set(['triton_enable_empty_final_response', 'triton_final_response'])

/**
 * Reads the parameters that Triton reserves ("Parameters Extension", "Schedule Policy Extension") and this service's own (`spillway.key`, `spillway.label`). A
 * priority is taken and changes nothing, since no model has priority levels; others than these are the caller's own, and left alone.
 * @throws MeshError INVALID_ARGUMENT naming the parameter
 */
export function readRequestParameters(parameters: Parameters): RequestOptions {
  if (parameters.size === 0) return noOptions
  for (const name of ['sequence_id', 'sequence_start', 'sequence_end']) refuseSequence(name, parameters.get(name))
  wholeNumber('priority', parameters.get('priority'))
  const timeoutUs = wholeNumber('timeout', parameters.get('timeout'))
  for (const name of parameters.keys())
    if (name.startsWith('triton_') && !understood.has(name))
      throw invalid(name, `parameter "${name}": names that begin with "triton_" are reserved, and this one is not supported`)
  return {
    queueTimeoutMs: timeoutUs === undefined || timeoutUs === 0 ? undefined : timeoutUs / 1000,
    label: textOf('spillway.label', parameters),
    key: textOf('spillway.key', parameters),
  }
}

/** Clients send what stands for no sequence too. */
function refuseSequence(name: string, value: ParameterValue | undefined): void {
  if (value === undefined || value === false || value === 0 || value === 0n || value === '') return
  throw invalid(name, `parameter "${name}": sequences are not supported: every request stands alone`)
}

function wholeNumber(name: string, value: ParameterValue | undefined): number | undefined {
  if (value === undefined) return undefined
  const number = typeof value === 'bigint' ? Number(value) : value
  if (typeof number === 'number' && Number.isInteger(number) && number >= 0) return number
  throw invalid(name, `parameter "${name}" is ${typeof value === 'string' ? `"${value}"` : value}: expected a whole number of 0 or more`)
}

function textOf(name: string, parameters: Parameters): string | undefined {
  const value = parameters.get(name)
  if (value === undefined || typeof value === 'string') return value
  throw invalid(name, `parameter "${name}" is ${value}: expected a string`)
}

/**
 * The version that a request names, '' for none. @throws MeshError INVALID_ARGUMENT where it is no whole number, or comes with a label.
 */
export function versionChoice(version: string, options: RequestOptions = noOptions): VersionChoice {
  if (version === '' && options === noOptions) return anyVersion
  const { label, key } = options
  if (version !== '' && label !== undefined)
    throw invalid('spillway.label', `the request names version ${version} and label "${label}": expected one of them`)
  return {
    ...(version !== '' && { version: versionNumber(version) }),
    ...(label !== undefined && { label }),
    ...(key !== undefined && { key }),
  }
}

const anyVersion: VersionChoice = {}

/** In decimal, without leading zeros. @throws MeshError INVALID_ARGUMENT */
export function versionNumber(version: string): string {
  if (/^\d{1,19}$/.test(version)) return version.replace(/^0+(?=\d)/, '')
  throw invalid(
    'version',
    `failed to get model version from specified version string '${version.slice(0, 64)}': version should be a whole number above 0`,
  )
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
