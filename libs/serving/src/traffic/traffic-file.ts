import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { MeshError } from '@spillway/core'
import { z } from 'zod'
import { versionOf } from '../lifecycle/version-policy.ts'
import type { KeptTraffic, TrafficStore } from './kept-traffic.ts'
import { checkTraffic } from './split.ts'

/** A JSON file of one process. It is written as a whole, beside itself, and moved into place: a crash leaves what was before or what comes after. */
export class TrafficFile implements TrafficStore {
  readonly #path: string
  readonly #models: Map<string, KeptTraffic>
  readonly #makesFolder: boolean

  private constructor(path: string, text: string | undefined, makesFolder: boolean) {
    this.#path = path
    this.#models = text === undefined ? new Map() : parse(path, text)
    this.#makesFolder = makesFolder
  }

  /** Begins an empty file where there is none. @throws MeshError INVALID_ARGUMENT naming what is malformed in it, FAILED_PRECONDITION where it cannot be read or written */
  static open(path: string): TrafficFile {
    const text = readText(path)
    const file = new TrafficFile(path, text, false)
    if (text === undefined) file.#write('FAILED_PRECONDITION')
    return file
  }

  /** As `open`, but file and folder begin with the first choice: who makes none needs no place for it. @throws MeshError as `open`, of a file that is there */
  static openLater(path: string): TrafficFile {
    return new TrafficFile(path, readText(path), true)
  }

  get(model: string): KeptTraffic | undefined {
    return this.#models.get(model)
  }

  set(model: string, kept: KeptTraffic): void {
    if (isDeepStrictEqual(kept, this.#models.get(model))) return
    if (isNothing(kept)) this.#models.delete(model)
    else this.#models.set(model, kept)
    this.#write('UNAVAILABLE')
  }

  #write(code: 'UNAVAILABLE' | 'FAILED_PRECONDITION'): void {
    const models = Object.fromEntries([...this.#models].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    const partial = `${this.#path}.partial`
    try {
      if (this.#makesFolder) mkdirSync(dirname(this.#path), { recursive: true })
      writeFileSync(partial, `${JSON.stringify({ models }, null, 2)}\n`, { flush: true })
      renameSync(partial, this.#path)
      // The name is safe when its folder is.
      const folder = openSync(dirname(this.#path), 'r')
      try {
        fsyncSync(folder)
      } finally {
        closeSync(folder)
      }
    } catch (error) {
      throw new MeshError(code, `${this.#path}: promotions, labels and traffic cannot be kept: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }
}

/** Labels that stand where the source wishes them are no choice. */
function isNothing({ promoted, labels, heeded, traffic }: KeptTraffic): boolean {
  return promoted === undefined && traffic.split.length === 0 && traffic.shadow === undefined && isDeepStrictEqual(labels, heeded)
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new MeshError('FAILED_PRECONDITION', `${path} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

const version = z.string().refine((text) => versionOf(text) === text, 'expected a version as text, as "3"')
const byLabel = z.record(z.string(), version)
const schema = z.strictObject({
  models: z.record(
    z.string(),
    z.strictObject({
      promoted: version.exactOptional(),
      labels: byLabel,
      heeded: byLabel,
      traffic: z.strictObject({
        split: z.array(z.strictObject({ to: z.string(), weight: z.number() })),
        shadow: z.strictObject({ to: z.string(), fraction: z.number() }).exactOptional(),
      }),
    }),
  ),
})

function parse(path: string, text: string): Map<string, KeptTraffic> {
  try {
    const models = new Map(Object.entries(schema.parse(JSON.parse(text)).models))
    for (const { traffic } of models.values()) checkTraffic(traffic)
    return models
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error).replaceAll(/\s*\n\s*/g, ' ') : (error as Error).message
    throw new MeshError('INVALID_ARGUMENT', `${path}: this is not as the service wrote it: ${why}`, { cause: error })
  }
}
