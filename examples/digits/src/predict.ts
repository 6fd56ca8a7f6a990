import { MeshError } from '@spillway/core'
import { type Digit, side } from './held-out.ts'

/** What the model says of one digit. */
export interface Prediction {
  readonly digit: Digit
  /** One for each of 0 to 9; their sum is 1. */
  readonly probabilities: readonly number[]
  /** The likeliest. */
  readonly answer: number
}

/** Images of one request. */
const batchSize = 100

/**
 * Asks the server for each digit, by TensorFlow Serving's REST API.
 * @param url of the server: `http://127.0.0.1:8501`
 * @throws MeshError UNAVAILABLE with what it answered instead of predictions.
 */
export async function predict(url: string, digits: readonly Digit[]): Promise<readonly Prediction[]> {
  const predictions: Prediction[] = []
  for (let start = 0; start < digits.length; start += batchSize) {
    const batch = digits.slice(start, start + batchSize)
    const answers = await askFor(url, batch)
    for (const [index, probabilities] of answers.entries())
      predictions.push({ digit: batch[index]!, probabilities, answer: probabilities.indexOf(Math.max(...probabilities)) })
  }
  return predictions
}

async function askFor(url: string, batch: readonly Digit[]): Promise<readonly (readonly number[])[]> {
  const body = JSON.stringify({ signature_name: 'serving_default', instances: batch.map(image) })
  const response = await fetch(`${url}/v1/models/digits_model:predict`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  })
  const { predictions, error } = (await response.json()) as { predictions?: number[][]; error?: string }
  if (predictions?.length !== batch.length)
    throw new MeshError('UNAVAILABLE', `${url} answers ${response.status} for ${batch.length} digits: ${error ?? 'fewer predictions'}`)
  return predictions
}

/** Rows of grey values. */
export function image({ pixels }: Digit): readonly (readonly number[])[] {
  return Array.from({ length: side }, (_, row) => pixels.slice(row * side, (row + 1) * side))
}

/** Share of right answers. */
export function accuracy(predictions: readonly Prediction[]): number {
  return predictions.filter(({ digit, answer }) => answer === digit.digit).length / predictions.length
}
