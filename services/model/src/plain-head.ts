import type { Answerer, ModelCalls } from './model-call.ts'

/** Model and version as most are written, without a query. */
export const plainPath: RegExp = /^\/v[12]\/models\/[\w./:-]+$/
export const plainType: RegExp = /^[\w.+-]+\/[\w.+-]+(?:; ?charset=[\w-]+)?$/

/** What the head of a call says that may be answered without Node.js's parser. */
export interface PlainHead {
  readonly path: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  /** Of the body: above 0. */
  readonly length: number
  readonly protocol: ModelCalls
  readonly answerer: Answerer
}

/** A longer head is left to Node.js, which refuses those that are too long. */
export const longestHead = 4096

// RFC 9112, 3 and 5: a token, and what may stand in a value but for obs-text; anything else is for Node.js's parser to read or refuse.
const requestLine = /^POST (\S+) HTTP\/1\.1$/
const fieldLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e]*)$/
const lengthValue = /^[1-9]\d{0,14}$/

/** Fields by which a request is framed in another way, or asks for more than an answer. */
const special = ['transfer-encoding', 'content-encoding', 'expect', 'upgrade', 'trailer'] as const

/**
 * Reads a request's head where it is a call of a model in the form that nearly all have; undefined where it is anything else, or any doubt is left: then it is
 * for Node.js and the app.
 * @param text without the blank line at its end
 */
export function readPlainHead(text: string, calls: readonly ModelCalls[]): PlainHead | undefined {
  const [first = '', ...lines] = text.split('\r\n')
  const path = requestLine.exec(first)?.[1]
  if (path === undefined || !plainPath.test(path)) return undefined
  const headers = readFields(lines)
  if (headers === undefined || headers['host'] === undefined || special.some((name) => headers[name] !== undefined)) return undefined
  const { connection, 'content-type': type, 'content-length': length } = headers
  if (connection !== undefined && connection.toLowerCase() !== 'keep-alive') return undefined
  if (type !== undefined && !plainType.test(type)) return undefined
  if (length === undefined || !lengthValue.test(length)) return undefined
  for (const protocol of calls) {
    const answerer = protocol.find(path)
    if (answerer !== undefined) return { path, headers, length: Number(length), protocol, answerer }
  }
  return undefined
}

/** Undefined where a field is malformed or given twice. */
function readFields(lines: readonly string[]): Record<string, string> | undefined {
  const headers = Object.create(null) as Record<string, string>
  for (const line of lines) {
    const match = fieldLine.exec(line)
    if (match === null) return undefined
    const name = match[1]!.toLowerCase()
    if (name in headers) return undefined
    headers[name] = match[2]!.trim()
  }
  return headers
}
