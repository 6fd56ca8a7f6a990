import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { get as getPlain, type IncomingMessage, type RequestOptions } from 'node:http'
import { get as getSecure } from 'node:https'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { setTimeout as wait } from 'node:timers/promises'
import { MeshError } from '@spillway/core'
import { AwsClient } from 'aws4fetch'
import type { S3Address } from './address.ts'

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

export interface S3ClientOptions {
  readonly address: S3Address
  readonly region: string
  /** Requests are not signed where absent: for public buckets. */
  readonly credentials?: S3Credentials
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
/** Of what the server says to be its own fault or too much for it, within 750 ms. */
const retries = 4
const firstDelayMs = 50

/** Lists and gets the objects of a bucket. */
export class S3Client {
  readonly #address: S3Address
  readonly #signer: AwsClient | undefined

  constructor({ address, region, credentials }: S3ClientOptions) {
    this.#address = address
    this.#signer = credentials === undefined ? undefined : new AwsClient({ ...credentials, region, service: 's3' })
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
      const within = AbortSignal.any([signal, AbortSignal.timeout(listTimeoutMs)])
      const xml = await text(this.#body(await this.#get('', query, {}, within), within))
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
    return text(this.#body(await this.#get(key, {}, { 'if-match': etag }, signal), signal))
  }

  /**
   * Writes an object to a file.
   * @throws MeshError ABORTED where it has been replaced since it was listed, DATA_LOSS where what came is not as long as it, or has another checksum
   */
  async download({ key, etag, bytes }: S3Object, path: string, signal: AbortSignal): Promise<void> {
    const response = await this.#get(key, {}, { 'if-match': etag }, signal)
    const md5 = createHash('md5')
    let received = 0
    const body = this.#body(response, signal)
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of body) {
        received += chunk.byteLength
        md5.update(chunk)
        yield chunk
      }
    }
    await pipeline(counted, createWriteStream(path), { signal })
    if (received !== bytes) throw new MeshError('DATA_LOSS', `${this.#name(key)}: ${received} bytes came of ${bytes}`)
    // The ETag is the MD5 of what was put at once; of uploads in parts, and of what is encrypted with keys of a key store, it is not.
    const encryption = response.headers['x-amz-server-side-encryption'] ?? 'AES256'
    const plain = /^"[\da-f]{32}"$/.test(etag) && encryption === 'AES256'
    if (plain && md5.digest('hex') !== etag.slice(1, -1))
      throw new MeshError('DATA_LOSS', `${this.#name(key)}: what came has another checksum than its ETag ${etag}`)
  }

  async #get(key: string, query: Record<string, string>, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> {
    const { bucket, endpoint } = this.#address
    const path = [bucket, ...(key === '' ? [] : key.split('/'))].map(encoded).join('/')
    const search = Object.entries(query).map(([name, value]) => `${name}=${encoded(value)}`)
    const url = `${endpoint}/${path}${search.length === 0 ? '' : `?${search.join('&')}`}`
    const silenced = (error: unknown): never => {
      throw this.#silence(error, signal)
    }
    for (let attempt = 0; ; attempt++) {
      const response = await this.#send(url, headers, signal).catch(silenced)
      const status = response.statusCode!
      if (status === 200) return response
      const xml = await text(this.#body(response, signal))
      if (attempt === retries || (status < 500 && status !== 429)) {
        const said = `${status} ${tag(xml, 'Code')} ${tag(xml, 'Message')}`.trim()
        throw refusal(status, `${this.#name(key === '' ? (query['prefix'] ?? '') : key)}: the server answered ${said}`)
      }
      await wait(Math.random() * firstDelayMs * 2 ** attempt, undefined, { signal }).catch(silenced)
    }
  }

  /** Not by `fetch`: where a server closes the connection before its answer is read, that throws what nobody can catch (nodejs/undici#5360). */
  async #send(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> {
    const signed = await this.#signer?.sign(url, { headers })
    return send(url, { headers: signed === undefined ? headers : Object.fromEntries(signed.headers), signal })
  }

  /** @throws MeshError UNAVAILABLE where it ends too early */
  async *#body(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      yield* response
    } catch (error) {
      throw this.#silence(error, signal)
    }
  }

  #silence(error: unknown, { aborted, reason }: AbortSignal): MeshError {
    if (aborted && reason instanceof MeshError) return reason
    const { code, message } = (aborted ? reason : error) as { code?: string | number; message: string }
    return new MeshError('UNAVAILABLE', `${this.#address.endpoint} does not answer: ${typeof code === 'string' ? code : message}`, {
      cause: error,
    })
  }

  #name(key: string): string {
    return `s3://${this.#address.bucket}/${key}`
  }
}

/** A server may end an idle connection just as a request goes out on it, which is then sent once more, on a new connection (RFC 9112, 9.3.1). */
function send(url: string, options: RequestOptions): Promise<IncomingMessage> {
  const get = url.startsWith('https:') ? getSecure : getPlain
  return new Promise((resolve, reject) => {
    const request = get(url, options, resolve)
    let isAnswered = (): boolean => false
    request.once('socket', (socket: Socket) => {
      const before = socket.bytesRead
      isAnswered = () => socket.bytesRead > before
    })
    request.on('error', (error: NodeJS.ErrnoException) => {
      const wasEnded = error.code === 'ECONNRESET' || error.code === 'EPIPE'
      if (wasEnded && request.reusedSocket && !isAnswered()) resolve(send(url, { ...options, agent: false }))
      else reject(error)
    })
  })
}

/** Percent-encodes all but unreserved characters (RFC 3986): what the signature is made of is then what is sent. */
function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

function refusal(status: number, message: string): MeshError {
  if (status === 404) return new MeshError('NOT_FOUND', message)
  if (status === 412) return new MeshError('ABORTED', `${message}: the object has been replaced`)
  if (status === 401 || status === 403) return new MeshError('PERMISSION_DENIED', message)
  return new MeshError(status >= 500 || status === 429 ? 'UNAVAILABLE' : 'FAILED_PRECONDITION', message)
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
