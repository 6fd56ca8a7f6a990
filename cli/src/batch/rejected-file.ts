import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { bytesAt } from '@spillway/core'
import type { RecordHeaders, Records } from '@spillway/bus'
import { partialPath, syncFolder } from '../tables/final-file.ts'

/** Rows that a batch run could not process, one JSON object a line; there is no file where there are none. */
export class RejectedFile {
  readonly path: string
  private readonly partial: string
  private descriptor: number | undefined
  private length = 0

  constructor(path: string) {
    this.path = path
    this.partial = partialPath(path)
  }

  get bytes(): number {
    return this.length
  }

  /** Back to what it held at a checkpoint. */
  resume(bytes: number): void {
    this.length = bytes
    if (bytes === 0) {
      if (existsSync(this.partial)) rmSync(this.partial)
      return
    }
    const from = existsSync(this.partial) ? this.partial : this.path
    if (from === this.path) renameSync(this.path, this.partial)
    this.descriptor = openSync(this.partial, 'r+')
    ftruncateSync(this.descriptor, bytes)
  }

  /** @param records dead letters, as segments write them */
  append(records: Records): void {
    let text = ''
    for (let record = 0; record < records.count; record++)
      text += `${rejection(records.headers?.[record], bytesAt(records.values, record))}\n`
    const bytes = Buffer.from(text)
    if (this.descriptor === undefined) {
      mkdirSync(dirname(this.path), { recursive: true })
      this.descriptor = openSync(this.partial, 'w')
    }
    for (let start = 0; start < bytes.length;) start += writeSync(this.descriptor, bytes, start, bytes.length - start, this.length + start)
    this.length += bytes.length
  }

  flush(): void {
    if (this.descriptor !== undefined) fsyncSync(this.descriptor)
  }

  /** At its place; what an earlier run left there goes. */
  finish(): void {
    this.close()
    if (this.length > 0) renameSync(this.partial, this.path)
    else if (existsSync(this.path)) rmSync(this.path)
    syncFolder(dirname(this.path))
  }

  abandon(): void {
    this.close()
    if (existsSync(this.partial)) rmSync(this.partial)
  }

  close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor)
    this.descriptor = undefined
  }
}

/** What stands in a dead letter's headers, and the event as it came: as text, or in base64 where it is no UTF-8. */
function rejection(headers: RecordHeaders = {}, event: Uint8Array): string {
  const offset = Number(headers['spillway-source-offset'])
  const text = Buffer.from(event).toString('utf8')
  const isText = Buffer.from(text).equals(event)
  return JSON.stringify({
    id: headers['spillway-event-id'],
    topic: headers['spillway-source-topic'],
    partition: Number(headers['spillway-source-partition']),
    offset: Number.isSafeInteger(offset) ? offset : headers['spillway-source-offset'],
    stage: headers['spillway-stage'],
    code: headers['spillway-code'],
    message: headers['spillway-message'],
    ...(headers['spillway-field'] === undefined ? {} : { field: headers['spillway-field'] }),
    ...(isText ? { event: text } : { event_base64: Buffer.from(event).toString('base64') }),
  })
}
