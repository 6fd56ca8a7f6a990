import { type Batch, bytesAt, type BytesColumn, bytesColumn, type Clock, column, MeshError, type Runner } from '@spillway/core'
import type { GatewayPipeline, PredictCall, PredictResult } from './gateway-pipeline.ts'
import { type Graph, pipelineTopics, preprocessingStage } from './graph.ts'
import type { Pipeline } from './pipeline.ts'
import { eventColumn } from './sinks.ts'
import { InputReader } from './sources.ts'

/** What the gateway offers of a pipeline: its synchronous path and its topics. */
export function gatewayPipeline(pipeline: Pipeline, graph: Graph, entry: Runner, clock: Clock): Omit<GatewayPipeline, 'deadLetters'> {
  const readers = new Map<string, InputReader>()
  for (const input of pipeline.inputs.values()) readers.set(input.topic, new InputReader(pipeline, input, preprocessingStage(input.name)))
  const predicted = [...pipeline.inputs.values()].find((input) => input.predict)!
  const topics = pipelineTopics(pipeline, graph)
  return {
    name: pipeline.name,
    topics: topics.filter((topic) => !topic.internal).map((topic) => topic.name),
    inputTopics: [...readers.keys()],
    keyOf: (topic, event) => {
      const reader = readers.get(topic)
      if (reader === undefined) return undefined
      const { batch } = reader.read({ count: 1, values: bytesColumn([event]), timestampsMs: Float64Array.of(0) }, undefined, clock.nowMs())
      const key = batch.rowCount === 1 ? batch.meta.keys[0]! : ''
      return key === '' ? undefined : Buffer.from(key)
    },
    predict: (events, call) =>
      predict(events, call, { pipeline, reader: readers.get(predicted.topic)!, stage: preprocessingStage(predicted.name), entry, clock }),
  }
}

interface Target {
  readonly pipeline: Pipeline
  readonly reader: InputReader
  readonly stage: string
  readonly entry: Runner
  readonly clock: Clock
}

async function predict(events: readonly Uint8Array[], call: PredictCall, target: Target): Promise<readonly PredictResult[]> {
  const nowMs = target.clock.nowMs()
  const { deadlineMs } = call
  const results = new Array<PredictResult | undefined>(events.length)
  const { batch, failures, refused } = target.reader.read(
    { count: events.length, values: bytesColumn(events), timestampsMs: new Float64Array(events.length).fill(nowMs) },
    undefined,
    nowMs,
  )
  failures
    .flatMap((failed) => failed.errors)
    .forEach((error, index) => {
      results[refused[index]!] = { error, stage: target.stage }
    })
  const refusedRows = new Set(refused)
  if (batch.rowCount > 0) {
    // Answers come back by topic, not by row: a row's place in the request travels as its offset.
    const good = BigInt64Array.from(
      Array.from(events.keys()).filter((row) => !refusedRows.has(row)),
      BigInt,
    )
    const meta = {
      ...batch.meta,
      offsets: good,
      deadlinesMs: new Float64Array(batch.rowCount).fill(deadlineMs),
      traceParents: new Array<string>(batch.rowCount).fill(call.traceParent),
      principals: new Array<string>(batch.rowCount).fill(call.principal),
    }
    const result = await target.entry.run({ ...batch, meta }, { signal: call.signal, mode: 'request' })
    for (const { stage, batch: failed, errors } of result.failures)
      errors.forEach((error, row) => (results[placeOf(failed, row)] = { error, stage }))
    collect(results, result.outputs.get(target.pipeline.predictions.topic), result.outputs.get(target.pipeline.alerts.topic))
  }
  return results.map(
    (result, row) => result ?? { error: new MeshError('INTERNAL', `event ${row} was given no answer`), stage: target.stage },
  )
}

function placeOf(batch: Batch, row: number): number {
  return Number(batch.meta.offsets[row])
}

function collect(results: (PredictResult | undefined)[], predictions: Batch | undefined, alerts: Batch | undefined): void {
  const raised = new Map<number, Uint8Array>()
  forEachEvent(alerts, (place, event) => raised.set(place, event))
  forEachEvent(predictions, (place, prediction) => {
    const alert = raised.get(place)
    results[place] = alert === undefined ? { prediction } : { prediction, alert }
  })
}

function forEachEvent(batch: Batch | undefined, visit: (place: number, event: Uint8Array) => void): void {
  if (batch === undefined) return
  const events = column(batch, eventColumn).data as BytesColumn
  for (let row = 0; row < batch.rowCount; row++) visit(placeOf(batch, row), bytesAt(events, row))
}
