import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelModule } from '@spillway/serving'

/** Words of a text that are looked at. */
const wordCount = 8

const places = new Map<string, bigint>()

export const inputs: ModelModule['inputs'] = { text: { datatype: 'BYTES' } }
export const outputs: ModelModule['outputs'] = { ids: { datatype: 'INT64', dims: [wordCount] } }

/** The list lies beside the module, one word a line; place 0 stands for no word, 1 for one that is not in it. */
export const start: ModelModule['start'] = async ({ folder }) => {
  const words = (await readFile(join(folder, 'vocabulary.txt'), 'utf8')).trimEnd().split('\n')
  for (const [index, word] of words.entries()) places.set(word, BigInt(index + 2))
}

export const run: ModelModule['run'] = (given, { texts }) => {
  const rows = texts(given.get('text')!)
  const ids = new BigInt64Array(rows.length * wordCount)
  for (const [row, text] of rows.entries()) {
    const words = text.toLowerCase().match(/\p{L}+/gu) ?? []
    for (const [index, word] of words.slice(0, wordCount).entries()) ids[row * wordCount + index] = places.get(word) ?? 1n
  }
  return new Map([['ids', { datatype: 'INT64', shape: [rows.length, wordCount], data: ids }]])
}
