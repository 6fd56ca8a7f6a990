/** Most strings of a request are one of these: to find one here takes a quarter of the time that making a string of its bytes does. */
const words: readonly string[] = [
  'inputs',
  'outputs',
  'parameters',
  'name',
  'datatype',
  'shape',
  'data',
  'id',
  'binary_data_size',
  'instances',
  'FP32',
  'FP64',
  'INT64',
  'INT32',
  'BYTES',
]

const places = 64

/** No two of the words have the same; one that had the place of another would not be found, and made as other strings are. */
function placeOf(length: number, first: number, last: number): number {
  return (length + first * 3 + last) & (places - 1)
}

const wordsByPlace: readonly (string | undefined)[] = Array.from({ length: places }, (_, place) =>
  words.find((word) => placeOf(word.length, word.charCodeAt(0), word.charCodeAt(word.length - 1)) === place),
)

/** The word that the bytes from `start` to `end` (not included) spell; undefined where it is none of the protocols' own. */
export function protocolWord(bytes: Uint8Array, start: number, end: number): string | undefined {
  if (start === end) return undefined
  const word = wordsByPlace[placeOf(end - start, bytes[start]!, bytes[end - 1]!)]
  if (word === undefined || word.length !== end - start) return undefined
  for (let i = 0; i < word.length; i++) if (bytes[start + i] !== word.charCodeAt(i)) return undefined
  return word
}
