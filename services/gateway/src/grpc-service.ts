import { MeshError } from '@spillway/core'
import { bytesAt } from '@spillway/core'
import type { PredictResult } from '@spillway/mesh'
import { type GrpcService, type RpcCall, serverStreamHandler, unaryHandler } from '@spillway/rpc'
import { currentTraceParent } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import type { Calls, NewEvent } from './calls.ts'
import type { PositionedSlice, Subscriptions, SubscriptionStart } from './subscriptions.ts'

const { PredictionService, SubscribeRequest_Named } = predictionV1

export interface PredictionServiceOptions {
  readonly calls: Calls
  readonly subscriptions: Subscriptions
}

/** spillway.v1.Prediction. */
export function predictionService({ calls, subscriptions }: PredictionServiceOptions): GrpcService {
  const predict = async (request: predictionV1.PredictRequest, call: RpcCall): Promise<predictionV1.PredictResponse> => {
    const { signal, deadlineMs, principal } = call
    const results = await calls.predict(request.pipeline, request.events, {
      signal,
      deadlineMs,
      principal,
      traceParent: currentTraceParent(),
    })
    return { results: results.map(eventResult) }
  }
  const publish = async (request: predictionV1.PublishRequest): Promise<predictionV1.PublishResponse> => {
    const traceparent = currentTraceParent()
    const positions = await calls.publish(request.topic, request.events as readonly NewEvent[], traceparent === '' ? {} : { traceparent })
    return { positions: [...positions] }
  }
  async function* subscribe(request: predictionV1.SubscribeRequest, call: RpcCall): AsyncGenerator<predictionV1.SubscribeResponse> {
    const subscription = await subscriptions.open(request.topic, startOf(request), call.signal)
    try {
      for await (const slice of subscription.slices) yield* responses(slice)
    } finally {
      subscription.close()
    }
  }
  return {
    definition: PredictionService,
    implementation: { predict: unaryHandler(predict), publish: unaryHandler(publish), subscribe: serverStreamHandler(subscribe) },
    admissions: { predict: calls, publish: calls, subscribe: calls.requestBytes },
  }
}

function eventResult(result: PredictResult): predictionV1.EventResult {
  if (!('error' in result)) return { result: { $case: 'prediction', value: result.prediction }, alert: result.alert }
  const { code, message, field } = result.error
  return { result: { $case: 'failure', value: { code, message, field, stage: result.stage } } }
}

/** The latest record where the request names no start. */
function startOf({ start }: predictionV1.SubscribeRequest): SubscriptionStart {
  if (start?.$case === 'afterPosition') return { kind: 'after', position: start.value, field: 'after_position' }
  const named = start?.value ?? SubscribeRequest_Named.NAMED_LATEST
  if (named === SubscribeRequest_Named.NAMED_EARLIEST) return { kind: 'earliest' }
  if (named === SubscribeRequest_Named.NAMED_LATEST || named === SubscribeRequest_Named.NAMED_UNSPECIFIED) return { kind: 'latest' }
  throw new MeshError('INVALID_ARGUMENT', `${String(named)} is no start: give NAMED_LATEST or NAMED_EARLIEST`, { field: 'named' })
}

function* responses({ slice, positions }: PositionedSlice): Generator<predictionV1.SubscribeResponse> {
  const { keys, values, headers, timestampsMs } = slice.records
  for (const [row, position] of positions.entries()) {
    yield {
      position,
      partition: slice.partition,
      offset: slice.offsets[row]!,
      key: keys === undefined ? new Uint8Array(0) : bytesAt(keys, row),
      value: bytesAt(values, row),
      headers: { ...headers?.[row] },
      timestampMs: BigInt(Math.trunc(timestampsMs[row]!)),
    }
  }
}
