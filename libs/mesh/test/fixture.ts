import {
  type Batch,
  bytesColumn,
  type Exit,
  rowMeta,
  type Stage,
  type StageObserver,
  type StageResult,
  StageRunner,
  text,
} from '@spillway/core'
import { createMeshMetrics, createTelemetry, type MeshMetrics, type Telemetry } from '@spillway/telemetry'
import { parsePipeline, type Pipeline } from '../src/mod.ts'
import { stageObserver } from '../src/stage-observer.ts'

export const telemetry: Telemetry = createTelemetry({ service: 'mesh-test', logLevel: 'silent', otlp: false })
export const metrics: MeshMetrics = createMeshMetrics(telemetry.registry)
export const observer: StageObserver = stageObserver(telemetry, metrics)
export const never: AbortSignal = new AbortController().signal

/** One input, `events`, of one field, `x`. */
export function pipelineOf(more = ''): Pipeline {
  const source = `{ pipeline: test, partitions: 1, inputs: { events: { key: name, fields: { name: string, x: number } } }, cascade: { tiers: [{ model: m }] }${more} }`
  return parsePipeline(source, 'test.yaml')
}

/** A row an id, at offsets 0, 1, …, each with its event and the column `event`. */
export function rows(ids: readonly string[]): Batch {
  const offsets = BigInt64Array.from(ids, (_, row) => BigInt(row))
  const events = bytesColumn(ids.map((id) => Buffer.from(`{"id":"${id}"}`)))
  const meta = rowMeta(ids.length, { ids, offsets, events, topics: ids.map(() => 'events'), partitions: new Int32Array(ids.length) })
  return { rowCount: ids.length, meta, columns: new Map([['event', text(ids)]]) }
}

/** A stage that does what the function says. */
export function stageOf(process: (batch: Batch) => StageResult | Promise<StageResult>): Stage {
  return { name: 'stage', accepts: new Map(), ports: {}, process: async (batch) => process(batch) }
}

export function runnerOf(
  process: (batch: Batch) => StageResult | Promise<StageResult>,
  exits: Readonly<Record<string, Exit>> = {},
): StageRunner {
  return new StageRunner({ stage: stageOf(process), exits: new Map(Object.entries(exits)), observer })
}

/** All rows, on one port. */
export function through(port: string, batch: Batch): StageResult {
  return { outputs: new Map([[port, batch]]), failures: [] }
}
