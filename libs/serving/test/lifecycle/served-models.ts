import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Component, type Tensor, tensor } from '@spillway/core'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { expect } from 'vitest'
import { ModelManager, type ModelManagerOptions, type Models, type Tensors, type VersionChoice } from '../../src/mod.ts'
import { logisticModel, writeModel } from '../onnx-builder.ts'

export const signal: AbortSignal = new AbortController().signal
export const weights: readonly number[] = [0.5, -1, 2]

/** A repository of its own, and what is to be closed after a test. */
export class TestBed {
  readonly telemetry: OwnedTelemetry = createTelemetry({ service: 'lifecycle-test', logLevel: 'silent', otlp: false })
  readonly repository: string
  readonly #open: Component[] = []

  private constructor(repository: string) {
    this.repository = repository
  }

  static async make(): Promise<TestBed> {
    return new TestBed(await mkdtemp(join(tmpdir(), 'spillway-lifecycle-')))
  }

  async close(): Promise<void> {
    for (const component of this.#open.splice(0).toReversed()) await component.drain()
    await this.telemetry.shutdown()
    await rm(this.repository, { recursive: true })
  }

  manager(options: Partial<ModelManagerOptions> = {}): ModelManager {
    const manager = new ModelManager({
      repository: this.repository,
      telemetry: this.telemetry,
      workers: 1,
      settleMs: 0,
      pollMs: 20,
      ...options,
    })
    this.#open.push(manager)
    return manager
  }

  async started(options: Partial<ModelManagerOptions> = {}): Promise<ModelManager> {
    const manager = this.manager(options)
    await manager.start(signal)
    return manager
  }

  /** A model whose answer to `features` 0 tells its version: `sigmoid(version)`. */
  async write(model: string, version: number | string, bias: number = Number(version)): Promise<string> {
    return writeModel(this.repository, model, version, logisticModel(weights, bias))
  }

  /** The value of a series of the registry; 0 where it is not there. */
  async metric(name: string, labels: Record<string, string>): Promise<number> {
    const metrics = await this.telemetry.registry.getMetricsAsJSON()
    const found = metrics.find((metric) => metric.name === name)?.values as { labels: Record<string, string>; value: number }[] | undefined
    return found?.find((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))?.value ?? 0
  }
}

export const features = (rows: number = 1): Tensors =>
  new Map<string, Tensor>([['features', tensor('FP32', [rows, 3], new Float32Array(rows * 3))]])

export interface Answer {
  readonly version: string
  readonly score: number
}

export async function ask(models: Models, model: string, choice: VersionChoice = {}): Promise<Answer> {
  const handle = await models.acquire(model, choice)
  try {
    const outputs = await handle.infer(features(), 1, { deadlineMs: Infinity, signal })
    return { version: handle.version, score: (outputs.get('score')!.data as Float32Array)[0]! }
  } finally {
    handle.release()
  }
}

export async function versionOf(models: Models, model: string, choice: VersionChoice = {}): Promise<string> {
  return (await ask(models, model, choice)).version
}

/** `version:STATE`, newest first. */
export const states = (models: Models, model: string): string[] => models.statuses(model).map(({ version, state }) => `${version}:${state}`)

export const eventually = <T>(read: () => T | Promise<T>): ReturnType<typeof expect.poll<T>> => expect.poll(read, { interval: 10 })
