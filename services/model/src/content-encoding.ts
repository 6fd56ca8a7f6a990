import { promisify } from 'node:util'
import { deflate as deflateCallback, gunzip, gzip as gzipCallback, inflate } from 'node:zlib'
import { HttpError } from '@spillway/telemetry'

const gzip = promisify<Uint8Array, { level: number }, Buffer>(gzipCallback)
const deflate = promisify<Uint8Array, { level: number }, Buffer>(deflateCallback)

/** A smaller answer is sent in one packet anyway. */
const smallestCompressed = 1024

/** Fastest: what is saved beyond it costs more time than sending it. */
const level = 1

/**
 * Gives the body behind its `Content-Encoding`: gzip, deflate (with zlib's header) or identity; or an HttpError: 415 for another encoding, 413 where it would
 * be larger than the limit, 400 where it is damaged.
 */
export function decodeBody(body: Buffer, encoding: string, maxBytes: number, done: (error: Error | null, decoded?: Buffer) => void): void {
  const name = encoding.trim().toLowerCase()
  if (name === '' || name === 'identity') return done(null, body)
  const decode = name === 'gzip' ? gunzip : name === 'deflate' ? inflate : undefined
  if (decode === undefined)
    return done(new HttpError(415, `Content-Encoding "${encoding}" is not supported: expected gzip, deflate or identity`))
  decode(body, { maxOutputLength: maxBytes }, (error, decoded) => {
    if (error === null) return done(null, decoded)
    const tooLarge = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
    if (tooLarge) return done(new HttpError(413, `the body is larger than ${maxBytes} bytes when it is decompressed`))
    done(new HttpError(400, `the body is not ${name}: ${error.message}`))
  })
}

/** Of a body that `acceptedEncoding` says so of. */
export function compress(body: Uint8Array, encoding: 'gzip' | 'deflate'): Promise<Buffer> {
  return (encoding === 'gzip' ? gzip : deflate)(body, { level })
}

/**
 * How an answer of so many bytes is to be compressed: of gzip and deflate the one of larger weight (RFC 9110, 12.5.3), gzip where they are equal; undefined
 * where neither is wanted, or it is not worth it.
 */
export function acceptedEncoding(header: string, bytes: number): 'gzip' | 'deflate' | undefined {
  if (bytes < smallestCompressed) return undefined
  const weights = new Map<string, number>()
  for (const part of header.toLowerCase().split(',')) {
    const [name = '', ...parameters] = part.split(';')
    const q = parameters.map((parameter) => parameter.trim()).find((parameter) => parameter.startsWith('q='))
    weights.set(name.trim(), q === undefined ? 1 : Number(q.slice(2)) || 0)
  }
  const any = weights.get('*') ?? 0
  const gzipWeight = weights.get('gzip') ?? any
  const deflateWeight = weights.get('deflate') ?? any
  if (gzipWeight <= 0 && deflateWeight <= 0) return undefined
  return gzipWeight >= deflateWeight ? 'gzip' : 'deflate'
}
