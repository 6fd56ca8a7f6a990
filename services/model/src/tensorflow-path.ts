import { MeshError } from '@spillway/core'
import type { VersionChoice } from '@spillway/serving'

export type PredictionVerb = 'predict' | 'classify' | 'regress'

/** Which servable of which model a path names. */
interface ModelPath {
  readonly model: string
  readonly choice: VersionChoice
}

export interface PredictionPath extends ModelPath {
  readonly verb: PredictionVerb
}

export interface StatusPath extends Partial<ModelPath> {
  readonly metadata: boolean
}

// tensorflow.org/tfx/serving/api_rest, "URL" of each API; the server takes them in any case.
const predictionPath = /^\/v1\/models\/([^/:]+)(?:\/versions\/(\d+)|\/labels\/([^/:]+))?:(predict|classify|regress)$/i
const statusPath = /^\/v1\/models(?:\/([^/:]+)(?:\/versions\/(\d+)|\/labels\/([^/:]+))?(\/metadata)?)?$/i

/** Versions are 64-bit signed integers. */
const largestVersion = 2n ** 63n - 1n

/** Of a POST; undefined where the path is none. @throws MeshError INVALID_ARGUMENT */
export function parsePredictionPath(path: string): PredictionPath | undefined {
  const match = predictionPath.exec(path)
  if (match === null) return undefined
  const [, model = '', version, label, verb = ''] = match
  return { ...modelPath(model, version, label), verb: verb.toLowerCase() as PredictionVerb }
}

/** Of a GET; without a model where it asks for all. @throws MeshError INVALID_ARGUMENT */
export function parseStatusPath(path: string): StatusPath | undefined {
  const match = statusPath.exec(path)
  if (match === null) return undefined
  const [, model, version, label, metadata] = match
  return { ...(model === undefined ? {} : modelPath(model, version, label)), metadata: metadata !== undefined }
}

function modelPath(model: string, version: string | undefined, label: string | undefined): ModelPath {
  const choice =
    version !== undefined ? { version: decimal(version) } : label !== undefined ? { label: decoded(label, 'model version label') } : {}
  return { model: decoded(model, 'model name'), choice }
}

/** Without leading zeros. */
function decimal(version: string): string {
  // A longer one is too large whatever its digits; turning it into a number would take long.
  const value = version.length > 1_000 ? largestVersion + 1n : BigInt(version)
  if (value > largestVersion) throw new MeshError('INVALID_ARGUMENT', `Failed to convert version: ${version.slice(0, 50)} to numeric.`)
  return value.toString()
}

function decoded(text: string, what: string): string {
  try {
    return decodeURIComponent(text)
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `Failed to decode ${what}: ${text}`, { cause: error })
  }
}
