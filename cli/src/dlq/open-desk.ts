import { MeshError } from '@spillway/core'
import { compileGraph, type DeadLetterDesk, DeadLetters, loadPipeline } from '@spillway/mesh'
import { batchTelemetry } from '../batch/batch-telemetry.ts'
import { makeBus } from '../make-bus.ts'
import { parseBus } from '../bus-address.ts'
import { GatewayDesk } from './gateway-desk.ts'

export interface DeskFlags {
  /** The pipeline file; through a gateway its name will do. */
  readonly pipeline: string
  readonly bus?: string
  readonly gateway?: string
}

const defaultGateway = 'http://127.0.0.1:8080'

/** Does a piece of work with a pipeline's dead letters, at its bus where that is given, else through a gateway. */
export async function withDesk<T>(flags: DeskFlags, signal: AbortSignal, work: (desk: DeadLetterDesk) => Promise<T>): Promise<T> {
  const { bus: address, gateway } = flags
  if (address !== undefined && gateway !== undefined)
    throw new MeshError('INVALID_ARGUMENT', '--bus and --gateway are two ways to the same letters: give one', { field: '--bus' })
  if (address === undefined) return work(new GatewayDesk(urlOf(gateway ?? defaultGateway), await nameOf(flags.pipeline)))
  const pipeline = await loadPipeline(flags.pipeline)
  const telemetry = batchTelemetry('warn')
  const bus = makeBus(parseBus(address), `spillway-${pipeline.name}-dlq`, telemetry)
  try {
    await bus.start(signal)
    return await work(new DeadLetters({ bus, pipeline, graph: compileGraph(pipeline) }))
  } catch (thrown) {
    const error = MeshError.from(thrown)
    if (error.code !== 'FAILED_PRECONDITION' || !address.startsWith('embedded:')) throw thrown
    throw new MeshError(error.code, `${error.message}; while the mesh runs, its letters are reached through its gateway, with --gateway`, {
      cause: thrown,
    })
  } finally {
    await bus.drain()
    await telemetry.shutdown()
  }
}

async function nameOf(pipeline: string): Promise<string> {
  return /[./\\]/.test(pipeline) ? (await loadPipeline(pipeline)).name : pipeline
}

function urlOf(gateway: string): string {
  if (/^https?:\/\//.test(gateway) && URL.canParse(gateway)) return gateway
  throw new MeshError('INVALID_ARGUMENT', `--gateway ${gateway}: expected http://host:port`, { field: '--gateway' })
}
