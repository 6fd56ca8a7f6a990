import { AwsClient } from 'aws4fetch'
import type { S3Server } from '../../../../test/brokers/s3.ts'

/** A bucket of a server, to be written to. */
export class Bucket {
  readonly url: string
  readonly #client: AwsClient

  private constructor(server: S3Server, name: string) {
    this.url = `${server.endpoint}/${name}`
    this.#client = new AwsClient({ ...server.credentials, region: server.region, service: 's3', retries: 0 })
  }

  static async make(server: S3Server, name: string): Promise<Bucket> {
    const bucket = new Bucket(server, name)
    await bucket.#send('', { method: 'PUT' })
    return bucket
  }

  /** @param key as it is: encoded here */
  async put(key: string, content: Uint8Array | string): Promise<void> {
    await this.#send(pathOf(key), { method: 'PUT', body: Buffer.from(content) })
  }

  async delete(key: string): Promise<void> {
    await this.#send(pathOf(key), { method: 'DELETE' })
  }

  async #send(path: string, init: RequestInit): Promise<void> {
    const response = await this.#client.fetch(this.url + path, init)
    const text = await response.text()
    if (!response.ok) throw new Error(`${init.method} ${path}: ${response.status} ${text}`)
  }
}

/** What is signed is the strict encoding of RFC 3986: so it is what must be sent. */
function pathOf(key: string): string {
  const encoded = encodeURIComponent(key).replaceAll('%2F', '/')
  return `/${encoded.replaceAll(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)}`
}
