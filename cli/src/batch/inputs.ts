import { FileSource, type Bus, type ReplaySource, TopicSource } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import type { Pipeline, PipelineInput } from '@spillway/mesh'
import type { Telemetry } from '@spillway/telemetry'
import { makeBus } from '../make-bus.ts'
import { type BusAddress, parseBus } from '../bus-address.ts'

/** Where a batch run reads: a bus's topics, or files. */
export type InputAddress =
  | { readonly kind: 'bus'; readonly address: BusAddress }
  /** Paths by input. */
  | { readonly kind: 'files'; readonly paths: ReadonlyMap<string, readonly string[]> }

export interface InputFlags {
  readonly bus?: string
  readonly input: readonly string[]
}

/** Every input of the pipeline is read: what is missing would be missing in the histories. @throws MeshError INVALID_ARGUMENT */
export function parseInputs(flags: InputFlags, pipeline: Pipeline): InputAddress {
  const names = [...pipeline.inputs.keys()]
  if (flags.bus !== undefined && flags.input.length > 0) throw wrong('give either --bus or --input: a run reads topics or files')
  if (flags.bus !== undefined) return { kind: 'bus', address: parseBus(flags.bus) }
  const paths = new Map<string, string[]>()
  for (const text of flags.input) {
    const at = text.indexOf('=')
    const name = text.slice(0, Math.max(0, at))
    const files = text
      .slice(at + 1)
      .split(',')
      .filter((path) => path !== '')
    if (at < 1 || files.length === 0) throw wrong(`--input ${text}: expected input=FILE[,FILE], as in ${names[0]}=${names[0]}.ndjson`)
    if (!names.includes(name)) throw wrong(`--input ${text}: the pipeline has no input "${name}": it has ${names.join(', ')}`)
    paths.set(name, [...(paths.get(name) ?? []), ...files])
  }
  const missing = names.filter((name) => !paths.has(name))
  if (missing.length === names.length) throw wrong(`say where to read: --bus kafka://host:port, or ${names.map(example).join(' ')}`)
  if (missing.length > 0) throw wrong(`the pipeline reads ${names.join(', ')}: give ${missing.map(example).join(' ')} too`)
  return { kind: 'files', paths }
}

function example(name: string): string {
  return `--input ${name}=FILE`
}

function wrong(message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field: '--input' })
}

/** The inputs of a run, open for as long as it lasts. */
export interface BatchInputs {
  /** The bus that they come from; undefined for files. */
  readonly bus: Bus | undefined
  /** A new reader of an input. */
  source(input: PipelineInput): ReplaySource
  close(): Promise<void>
}

/** @throws MeshError UNAVAILABLE where the bus is away, FAILED_PRECONDITION where an embedded bus's file is in use by a running mesh */
export async function openInputs(
  address: InputAddress,
  pipeline: Pipeline,
  telemetry: Telemetry,
  signal: AbortSignal,
): Promise<BatchInputs> {
  if (address.kind === 'files') {
    const source = ({ name, topic }: PipelineInput): ReplaySource =>
      new FileSource({ topic, paths: address.paths.get(name)!, maxRecordBytes: pipeline.maxEventBytes })
    return { bus: undefined, source, close: () => Promise.resolve() }
  }
  const bus = batchBus(address.address, pipeline, telemetry)
  await bus.start(signal)
  return { bus, source: ({ topic }) => new TopicSource(bus, topic), close: () => bus.drain() }
}

/** A bus to be read, not started. */
export function batchBus(address: BusAddress, pipeline: Pipeline, telemetry: Telemetry): Bus {
  return makeBus(address, `spillway-${pipeline.name}-batch`, telemetry)
}
