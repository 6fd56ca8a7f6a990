import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mlpModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { scoresOf, type Protocol } from './serving-calls.ts'
import { Child } from './serving-child.ts'

/** A model of a benchmark: FP32 `features` [rows, widths[0]] to FP32 `score` [rows, 1], the same weights in every run. */
export interface BenchModel {
  readonly name: string
  readonly widths: readonly number[]
}

/** 1.6 MB; about 25 µs a row alone, 3 µs in a batch. */
export const smallModel: BenchModel = { name: 'mlp', widths: [30, 512, 512, 256, 1] }

/** 34 MB of weights, which are read from memory once a run: a run of one row costs nearly what a run of 16 does. */
export const wideModel: BenchModel = { name: 'wide', widths: [64, 2048, 2048, 2048, 1] }

export interface Repository {
  readonly folder: string
  /** The file of version 1. */
  readonly file: string
  remove(): Promise<void>
}

/** A repository with one model in so many versions, of different weights. */
export async function makeRepository({ name, widths }: BenchModel, versions = 1): Promise<Repository> {
  const folder = await mkdtemp(join(tmpdir(), 'spillway-models-'))
  const files: string[] = []
  for (let version = 1; version <= versions; version++) files.push(await writeModel(folder, name, version, mlpModel(widths, version)))
  return { folder, file: files[0]!, remove: () => rm(folder, { recursive: true, force: true }) }
}

export interface BareRun {
  /** CPU of the process a row. */
  readonly cpuUsPerRow: number
  readonly rowsPerSecond: number
  readonly scores: readonly number[]
}

export interface BareRunTask {
  readonly file: string
  readonly rows: number
  readonly width: number
  readonly seconds: number
}

/** ONNX Runtime alone, one thread, in a process of its own. */
export async function bareRuns(task: BareRunTask): Promise<BareRun> {
  const child = new Child('serving-bare-runs.ts')
  try {
    return await child.ask<BareRun>('run', task)
  } finally {
    await child.stop()
  }
}

/** @throws Error where a server's answer is not the model's: such a server's speed says nothing. */
export function checkScores(server: string, protocol: Protocol, answer: Buffer, expected: readonly number[]): void {
  const scores = scoresOf(protocol, answer)
  const wrong = scores.length !== expected.length || scores.some((score, i) => !(Math.abs(score - expected[i]!) < 1e-4))
  if (wrong)
    throw new Error(`${server} answers ${scores.slice(0, 3).join(', ')} (${scores.length}): expected ${expected.slice(0, 3).join(', ')}`)
}
