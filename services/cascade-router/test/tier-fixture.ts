import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type Batch,
  type BytesColumn,
  column,
  type Component,
  rowMeta,
  type Stage,
  type StageContext,
  systemClock,
  type Tensor,
  tensor,
  textValues,
} from '@spillway/core'
import { parsePipeline, type Pipeline } from '@spillway/mesh'
import { LocalModelClient, type ModelClient, ModelManager } from '@spillway/serving'
import { createMeshMetrics, createTelemetry, type MeshMetrics, type OwnedTelemetry } from '@spillway/telemetry'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { logisticModel, mlpModel, onnxModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { tierStages } from '../src/mod.ts'

export const never: AbortSignal = new AbortController().signal
export const stream: StageContext = { signal: never, mode: 'stream' }
export const request: StageContext = { signal: never, mode: 'request' }
export const cascade = '{ model: cheap, accept: { below: 0.1, above: 0.9 } }, { model: heavy }'

/** A node that gives the features as they are. */
const copy = (output: string): { op: string; inputs: string[]; outputs: string[] } => ({
  op: 'Identity',
  inputs: ['features'],
  outputs: [output],
})

/** Models in a repository of their own, for all tests of a file; what a test opens is drained after it. */
export class TierRig {
  readonly telemetry: OwnedTelemetry = createTelemetry({ service: 'tier-test', logLevel: 'silent', otlp: false })
  readonly metrics: MeshMetrics = createMeshMetrics(this.telemetry.registry)
  /** Drained from the last to the first. */
  readonly open: Component[] = []
  #repository = ''
  #manager: ModelManager | undefined
  #local: ModelClient | undefined

  constructor() {
    beforeAll(async () => {
      this.#repository = await mkdtemp(join(tmpdir(), 'spillway-tiers-'))
      await writeModels(this.#repository)
      this.#manager = new ModelManager({ repository: this.#repository, telemetry: this.telemetry })
      await this.#manager.start(never)
      this.#local = new LocalModelClient(this.#manager)
    })
    afterEach(async () => {
      for (const component of this.open.splice(0).toReversed()) await component.drain()
    })
    afterAll(async () => {
      await this.#manager!.drain()
      await this.telemetry.shutdown()
      await rm(this.#repository, { recursive: true })
    })
  }

  get repository(): string {
    return this.#repository
  }

  get manager(): ModelManager {
    return this.#manager!
  }

  get local(): ModelClient {
    return this.#local!
  }

  stagesOf(pipeline: Pipeline, client: ModelClient = this.local): Promise<readonly Stage[]> {
    const { metrics, telemetry } = this
    return tierStages({ pipeline, modelOf: () => client, clock: systemClock, metrics, telemetry, signal: never })
  }
}

async function writeModels(repository: string): Promise<void> {
  await writeModel(repository, 'cheap', 3, logisticModel([1], 0))
  await writeModel(repository, 'heavy', 1, logisticModel([2], 1))
  await writeModel(repository, 'classes', 1, mlpModel([1, 4, 3]))
  const rows = { name: 'features', datatype: 'FP32', shape: ['rows', 1] } as const
  const outputs = ['a', 'b'].map((name) => ({ ...rows, name }))
  await writeModel(repository, 'raw', 1, onnxModel({ inputs: [rows], outputs: [{ ...rows, name: 'score' }], nodes: [copy('score')] }))
  await writeModel(repository, 'two-outputs', 1, onnxModel({ inputs: [rows], outputs, nodes: [copy('a'), copy('b')] }))
}

/** A pipeline whose model takes the events' one number. */
export function pipelineWith(tiers: string, more = ''): Pipeline {
  const source = `{ pipeline: test, inputs: { events: { fields: { x: number } } }, cascade: { tiers: [${tiers}] }${more} }`
  return parsePipeline(source, 'test.yaml')
}

export function features(xs: readonly number[]): Tensor {
  return tensor('FP32', [xs.length, 1], Float32Array.from(xs))
}

/** A row a number, in the order of their offsets. */
export function rows(xs: readonly number[], deadlinesMs?: readonly number[]): Batch {
  const offsets = BigInt64Array.from(xs, (_, row) => BigInt(row))
  const meta = rowMeta(xs.length, { offsets, ...(deadlinesMs === undefined ? {} : { deadlinesMs: Float64Array.from(deadlinesMs) }) })
  return { rowCount: xs.length, meta, columns: new Map([['features', features(xs)]]) }
}

export interface Answer {
  readonly offset: number
  readonly score: number
  readonly model: string
  readonly version: string
  readonly reason: number
}

export function answers(batch: Batch | undefined): readonly Answer[] {
  if (batch === undefined) return []
  const numbers = (name: string): ArrayLike<number> => column(batch, name).data as Float64Array
  const texts = (name: string): readonly string[] => textValues(column(batch, name).data as BytesColumn)
  return Array.from({ length: batch.rowCount }, (_, row) => ({
    offset: Number(batch.meta.offsets[row]),
    score: numbers('score')[row]!,
    model: texts('model')[row]!,
    version: texts('model_version')[row]!,
    reason: numbers('reason')[row]!,
  }))
}

export const sixDecimals = (score: number): number => Math.round(score * 1e6) / 1e6
