import { MeshError } from '@spillway/core'
import type { ParameterValue } from '@spillway/wire'
import type { LoadOverrides, Models, VersionState, VersionStatus } from '../models.ts'

/** A line of the repository index; '' where nothing is to be said. */
export interface IndexLine {
  readonly name: string
  readonly version: string
  readonly state: '' | 'READY' | 'LOADING' | 'UNLOADING' | 'UNAVAILABLE'
  readonly reason: string
}

const states: Readonly<Record<VersionState, IndexLine['state']>> = {
  START: 'LOADING',
  LOADING: 'LOADING',
  AVAILABLE: 'READY',
  UNLOADING: 'UNLOADING',
  END: 'UNAVAILABLE',
}

/** A line for each version of which something is known, and one for each model that was never loaded. What is wrong with a model is said of its newest version. */
export function repositoryIndex(models: Models, readyOnly: boolean): IndexLine[] {
  const lines: IndexLine[] = []
  for (const name of models.names()) {
    const statuses = models.statuses(name)
    const problem = models.problem(name)
    if (statuses.length === 0)
      lines.push({ name, version: '', state: problem === undefined ? '' : 'UNAVAILABLE', reason: problem?.message ?? '' })
    for (const [index, status] of statuses.entries()) lines.push(indexLine(status, index === 0 ? problem : undefined))
  }
  return readyOnly ? lines.filter(({ state }) => state === 'READY') : lines
}

function indexLine({ model, version, state, error }: VersionStatus, problem: MeshError | undefined): IndexLine {
  return { name: model, version, state: states[state], reason: (error ?? problem)?.message ?? (state === 'END' ? 'unloaded' : '') }
}

/** One repository is all there is. @throws MeshError UNIMPLEMENTED */
export function refuseRepositoryName(name: string): void {
  if (name !== '') throw new MeshError('UNIMPLEMENTED', "'repository_name' specification is not supported", { field: 'repository_name' })
}

const fileParameter = 'file:'

/**
 * What a load request's parameters stand for: `config` (the configuration as JSON) and `file:<path>` (a file's content).
 * @param content a file's, from how the protocol carries it; undefined where it is nothing that could be one
 * @throws MeshError INVALID_ARGUMENT naming the parameter
 */
export function loadOverrides<Value>(
  parameters: Iterable<readonly [string, Value]>,
  config: (value: Value) => string | undefined,
  content: (value: Value) => Uint8Array | undefined,
): LoadOverrides | undefined {
  const files = new Map<string, Uint8Array>()
  let configText: string | undefined
  for (const [name, value] of parameters) {
    if (name === 'config') {
      configText = config(value)
      if (configText === undefined) throw invalid(name, "parameter 'config' must be a string: the model configuration as JSON")
    } else if (name.startsWith(fileParameter)) {
      const bytes = content(value)
      if (bytes === undefined) throw invalid(name, `parameter '${name}' must be the file's content: bytes, which in JSON are base64`)
      files.set(filePath(name), bytes)
    } else throw invalid(name, `unexpected load parameter '${name}': expected 'config' or 'file:<version>/<file>'`)
  }
  if (files.size > 0 && configText === undefined)
    throw invalid('config', "files of a model that stand for the repository's need the parameter 'config' beside them")
  if (configText === undefined) return undefined
  return { config: configText, ...(files.size > 0 && { files }) }
}

/** Below the model's folder: nothing that leads out of it. */
function filePath(parameter: string): string {
  const path = parameter.slice(fileParameter.length)
  const parts = path.split('/')
  if (path.includes('\0') || path.includes('\\') || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw invalid(parameter, `parameter '${parameter}': expected a path below the model's folder, as in 'file:1/model.onnx'`)
  return path
}

/** `unload_dependents` of an unload request. @throws MeshError INVALID_ARGUMENT */
export function unloadDependents(parameters: Iterable<readonly [string, ParameterValue]>): boolean {
  let dependents = false
  for (const [name, value] of parameters) {
    if (name !== 'unload_dependents') throw invalid(name, `unexpected unload parameter '${name}': expected 'unload_dependents'`)
    if (typeof value !== 'boolean') throw invalid(name, "parameter 'unload_dependents' must be a boolean")
    dependents = value
  }
  return dependents
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
