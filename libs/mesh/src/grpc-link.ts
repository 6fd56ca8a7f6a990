import {
  type Batch,
  type Code,
  earliestDeadlineMs,
  type FailedRows,
  isCode,
  MeshError,
  type Mode,
  type Runner,
  type RunResult,
  type StageContext,
} from '@spillway/core'
import { type GrpcChannel, type GrpcService, unaryHandler } from '@spillway/rpc'
import { type FrameInfo, fromInferRequest, meshV1, toInferRequest } from '@spillway/wire'
import type { StageId } from './graph.ts'
import { otherSchema } from './sources.ts'

/** Most bytes of one call over a link: a slice of the largest events fits. */
export const maxLinkMessageBytes: number = 64 * 1024 * 1024

/** A stage in another process, and all that lies behind it there. */
export class GrpcRunner implements Runner {
  private readonly channel: GrpcChannel
  private readonly pipeline: string
  private readonly stage: StageId
  private readonly frame: FrameInfo

  constructor(options: { channel: GrpcChannel; pipeline: string; stage: StageId; frame: FrameInfo }) {
    this.channel = options.channel
    this.pipeline = options.pipeline
    this.stage = options.stage
    this.frame = options.frame
  }

  async run(batch: Batch, context: StageContext): Promise<RunResult> {
    const { MODE_REQUEST, MODE_STREAM } = meshV1.ProcessRequest_Mode
    const response = await this.channel.unary(
      meshV1.MeshService.process,
      {
        pipeline: this.pipeline,
        stage: this.stage,
        mode: context.mode === 'request' ? MODE_REQUEST : MODE_STREAM,
        frame: toInferRequest(batch, { ...this.frame, target: this.stage }),
      },
      // On streams a deadline is the row's, and the stages answer it: cutting the call would lose the degraded answers.
      { signal: context.signal, deadlineMs: context.mode === 'request' ? earliestDeadlineMs(batch.meta.deadlinesMs) : Infinity },
    )
    return fromResponse(response)
  }
}

/** A process's stages by pipeline and id, as other processes and its own gateway enter them. */
export type RunnerLookup = (pipeline: string, stage: StageId, mode: Mode) => Runner

/** The `spillway.v1.Mesh` service. @throws (as status) NOT_FOUND for a stage that this process does not host */
export function meshService(lookup: RunnerLookup, frame: FrameInfo): GrpcService {
  return {
    definition: meshV1.MeshService,
    implementation: {
      process: unaryHandler(async (request: meshV1.ProcessRequest, call) => {
        const { MODE_REQUEST, MODE_STREAM } = meshV1.ProcessRequest_Mode
        if (request.mode !== MODE_REQUEST && request.mode !== MODE_STREAM)
          throw new MeshError('INVALID_ARGUMENT', 'mode: expected stream or request', { field: 'mode' })
        if (request.frame === undefined) throw new MeshError('INVALID_ARGUMENT', 'frame: expected the rows to process', { field: 'frame' })
        const mode = request.mode === MODE_REQUEST ? 'request' : 'stream'
        const runner = lookup(request.pipeline, request.stage, mode)
        const { batch, info } = fromInferRequest(request.frame)
        if (info.schema !== frame.schema) throw otherSchema(info)
        const rows = mode === 'request' ? withCallDeadline(batch, call.deadlineMs) : batch
        return toResponse(await runner.run(rows, { signal: call.signal, mode }), frame)
      }),
    },
  }
}

/** What is kept of a call's time for the way back over the link: a twentieth, at most this. */
const longestReserveMs = 20

/** A call's deadline comes as the time that is left, whatever the clocks of the two machines say; the rows' own is by the other's clock. */
function withCallDeadline(batch: Batch, deadlineMs: number): Batch {
  if (deadlineMs === Infinity) return batch
  const reserveMs = Math.min(longestReserveMs, (deadlineMs - Date.now()) / 20)
  return { ...batch, meta: { ...batch.meta, deadlinesMs: new Float64Array(batch.rowCount).fill(deadlineMs - reserveMs) } }
}

function toResponse(result: RunResult, frame: FrameInfo): meshV1.ProcessResponse {
  return {
    outputs: [...result.outputs].map(([sink, batch]) => ({ sink, frame: toInferRequest(batch, { ...frame, target: sink }) })),
    failures: result.failures.map(({ stage, batch, errors }) => ({
      stage,
      frame: toInferRequest(batch, { ...frame, target: stage }),
      errors: errors.map(({ code, message, field }) => (field === undefined ? { code, message } : { code, message, field })),
    })),
  }
}

function fromResponse(response: meshV1.ProcessResponse): RunResult {
  const outputs = new Map(response.outputs.map(({ sink, frame }) => [sink, batchOf(frame)]))
  const failures = response.failures.map(({ stage, frame, errors }): FailedRows => {
    const batch = batchOf(frame)
    if (batch.rowCount !== errors.length)
      throw new MeshError('INTERNAL', `stage ${stage} gave ${errors.length} errors for ${batch.rowCount} failed rows`)
    return {
      stage,
      batch,
      errors: errors.map(({ code, message, field }) => new MeshError(codeOf(code), message, field === undefined ? {} : { field })),
    }
  })
  return { outputs, failures }
}

function codeOf(name: string): Code {
  return isCode(name) ? name : 'UNKNOWN'
}

function batchOf(frame: meshV1.SinkOutput['frame']): Batch {
  if (frame === undefined) throw new MeshError('INTERNAL', 'a link answered without the rows it should hold')
  return fromInferRequest(frame).batch
}
