import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Clock, MeshError, systemClock } from '@spillway/core'
import type { S3Address } from './address.ts'
import { encodeS3, type S3Credentials, signedHeaders } from './sign.ts'

export interface S3ClientOptions {
  readonly address: S3Address
  readonly region: string
  /** Requests are not signed where absent: for public buckets. */
  readonly credentials?: S3Credentials
  readonly clock?: Clock
}

export interface S3Object {
  readonly key: string
  readonly bytes: number
  readonly etag: string
  /** ms since the epoch, by the server's clock. */
  readonly changedMs: number
}

export interface S3Listing {
  readonly objects: readonly S3Object[]
  /** What lies below the next slash, without it. */
  readonly folders: readonly string[]
}

/** More objects than any model has: a prefix that is something else is not listed to its end. */
const mostObjects = 100_000
const listTimeoutMs = 30_000

/** Lists and gets the objects of a bucket. */
export class S3Client {
  readonly #options: S3ClientOptions
  readonly #clock: Clock

  constructor(options: S3ClientOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  /** @param prefix '' or ending in a slash @param flat whether what lies deeper is listed too */
  async list(prefix: string, flat: boolean, signal: AbortSignal): Promise<S3Listing> {
    const objects: S3Object[] = []
    const folders: string[] = []
    let next: string | undefined
    do {
      const query: Record<string, string> = { 'encoding-type': 'url', 'list-type': '2', prefix }
      if (!flat) query['delimiter'] = '/'
      if (next !== undefined) query['continuation-token'] = next
      const response = await this.#get('', query, {}, AbortSignal.any([signal, AbortSignal.timeout(listTimeoutMs)]))
      const xml = await response.text()
      for (const [, item] of xml.matchAll(/<Contents>([^]*?)<\/Contents>/g)) objects.push(readObject(item!))
      for (const [, item] of xml.matchAll(/<CommonPrefixes>([^]*?)<\/CommonPrefixes>/g))
        folders.push(decoded(tag(item!, 'Prefix')).slice(prefix.length, -1))
      if (objects.length + folders.length > mostObjects)
        throw new MeshError('FAILED_PRECONDITION', `${this.#name(prefix)} has more than ${mostObjects} objects`)
      next = tag(xml, 'IsTruncated') === 'true' ? unescaped(tag(xml, 'NextContinuationToken')) : undefined
    } while (next !== undefined && next !== '')
    return { objects, folders }
  }

  async text({ key, etag }: S3Object, signal: AbortSignal): Promise<string> {
    const response = await this.#get(key, {}, { 'if-match': etag }, signal)
    return response.text()
  }

  /**
   * Writes an object to a file.
   * @throws MeshError ABORTED where it has been replaced since it was listed, DATA_LOSS where what came is not as long as it, or has another checksum
   */
  async download({ key, etag, bytes }: S3Object, path: string, signal: AbortSignal): Promise<void> {
    const response = await this.#get(key, {}, { 'if-match': etag }, signal)
    const md5 = createHash('md5')
    let received = 0
    const body = response.body === null ? Readable.from([]) : Readable.fromWeb(response.body)
    body.on('data', (chunk: Uint8Array) => {
      received += chunk.byteLength
      md5.update(chunk)
    })
    await pipeline(body, createWriteStream(path), { signal })
    if (received !== bytes) throw new MeshError('DATA_LOSS', `${this.#name(key)}: ${received} bytes came of ${bytes}`)
    // The ETag is the MD5 of what was put at once; of uploads in parts, and of what the server encrypts with keys of its own, it is not.
    const plain = /^"[\da-f]{32}"$/.test(etag) && response.headers.get('x-amz-server-side-encryption') === null
    if (plain && md5.digest('hex') !== etag.slice(1, -1))
      throw new MeshError('DATA_LOSS', `${this.#name(key)}: what came has another checksum than its ETag ${etag}`)
  }

  async #get(key: string, query: Record<string, string>, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const { address, region, credentials } = this.#options
    const path = [address.bucket, ...(key === '' ? [] : key.split('/'))].map(encodeS3).join('/')
    const search = Object.keys(query)
      .toSorted()
      .map((name) => `${encodeS3(name)}=${encodeS3(query[name]!)}`)
      .join('&')
    const url = new URL(`${address.endpoint}/${path}${search === '' ? '' : `?${search}`}`)
    const signed = credentials === undefined ? {} : signedHeaders(url, credentials, region, this.#clock.nowMs())
    const response = await fetch(url, { headers: { ...signed, ...headers }, signal }).catch((error: unknown) => {
      throw new MeshError('UNAVAILABLE', `${address.endpoint} does not answer: ${causeOf(error)}`, { cause: error })
    })
    if (response.ok) return response
    const text = await response.text()
    throw refusal(
      response.status,
      `${this.#name(key)}: the server answered ${response.status} ${tag(text, 'Code')} ${tag(text, 'Message')}`.trim(),
    )
  }

  #name(key: string): string {
    return `s3://${this.#options.address.bucket}/${key}`
  }
}

function refusal(status: number, message: string): MeshError {
  if (status === 404) return new MeshError('NOT_FOUND', message)
  if (status === 412) return new MeshError('ABORTED', `${message}: the object has been replaced`)
  if (status === 401 || status === 403) return new MeshError('PERMISSION_DENIED', message)
  return new MeshError(status >= 500 || status === 429 ? 'UNAVAILABLE' : 'FAILED_PRECONDITION', message)
}

function causeOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message: string }
  return cause?.code ?? cause?.message ?? message
}

function readObject(xml: string): S3Object {
  return {
    key: decoded(tag(xml, 'Key')),
    bytes: Number(tag(xml, 'Size')),
    etag: unescaped(tag(xml, 'ETag')),
    changedMs: Date.parse(tag(xml, 'LastModified')),
  }
}

/** The text of the first element of that name; '' where there is none. The answers are flat, and keys are URL-encoded. */
function tag(xml: string, name: string): string {
  return new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? ''
}

function decoded(text: string): string {
  return decodeURIComponent(text.replaceAll('+', ' '))
}

function unescaped(text: string): string {
  const entities: Readonly<Record<string, string>> = { quot: '"', amp: '&', lt: '<', gt: '>', apos: "'" }
  return text.replaceAll(/&(?:(quot|amp|lt|gt|apos)|#(\d+));/g, (_all, name: string | undefined, code: string) =>
    name === undefined ? String.fromCodePoint(Number(code)) : entities[name]!,
  )
}
