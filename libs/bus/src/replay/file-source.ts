import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { basename } from 'node:path'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { MeshError } from '@spillway/core'
import type { Slice } from '../port.ts'
import { LineReader, type Lines } from './lines.ts'
import type { ReplayInput, ReplaySource } from './replay-source.ts'

export interface FileSourceOptions {
  readonly topic: string
  /** Read one after the other. Files that are compressed by gzip are unpacked. */
  readonly paths: readonly string[]
  /** Every record's, ms since the epoch; when the file was last changed where absent. */
  readonly timestampMs?: number
  /** Of a longer line only the first bytes up to this count and one more become the record: enough to be refused as too long. 1 MiB where absent. */
  readonly maxRecordBytes?: number
}

interface OpenFile {
  readonly path: string
  readonly bytes: number
  readonly changedMs: number
  readonly compressed: boolean
}

const chunkBytes = 256 << 10
/** Of each end of a file, what its digest is made of. */
const digestBytes = 64 << 10

/**
 * Records in files, one a line, as one partition. A record's offset is its line's number over all files, 0 for the first; blank lines have a
 * number, but no record. To go on from an offset, what lies before it is read and passed over.
 */
export class FileSource implements ReplaySource {
  readonly topic: string
  private readonly options: FileSourceOptions
  private files: readonly OpenFile[] = []
  private totalBytes = 0
  private readBytes = 0

  constructor(options: FileSourceOptions) {
    if (options.paths.length === 0)
      throw new MeshError('INVALID_ARGUMENT', `no file is given for topic "${options.topic}": name one at least`, { field: 'paths' })
    this.topic = options.topic
    this.options = options
  }

  /** A file that grows is read up to the size that it has now. */
  async open(): Promise<ReplayInput> {
    const files: OpenFile[] = []
    const names: string[] = []
    for (const path of this.options.paths) {
      const { file, name } = await inspect(path)
      files.push(file)
      names.push(name)
    }
    this.files = files
    this.totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0)
    return { identity: names.join(', '), partitions: [{ partition: 0, from: 0n, end: undefined }] }
  }

  async *read(_partition: number, from: bigint, maxSliceRecords: number, signal: AbortSignal): AsyncGenerator<Slice, void, undefined> {
    const { maxRecordBytes = 1 << 20 } = this.options
    let base = 0
    for (const file of this.files) {
      const reader = new LineReader({ from: Number(from) - base, maxLineBytes: maxRecordBytes, maxLines: maxSliceRecords })
      try {
        for await (const lines of this.readFile(file, reader, signal)) yield this.slice(lines, base, file)
      } catch (thrown) {
        if (signal.aborted) return
        throw fileError(thrown, `${file.path}:${reader.lineNumber + 1}`)
      }
      if (signal.aborted) return
      base += reader.lineNumber
    }
  }

  /** By bytes of the files, packed as they are. */
  readShare(): number {
    return this.totalBytes === 0 ? 0 : this.readBytes / this.totalBytes
  }

  private async *readFile({ path, bytes, compressed }: OpenFile, reader: LineReader, signal: AbortSignal): AsyncGenerator<Lines> {
    if (bytes === 0) return
    const raw = createReadStream(path, { end: bytes - 1, highWaterMark: chunkBytes, signal })
    // An error of the file ends the unpacking with it.
    const chunks = compressed ? pipeline(raw, createGunzip({ chunkSize: chunkBytes }), () => undefined) : raw
    const before = this.readBytes
    let first = true
    for await (const read of chunks) {
      const chunk = first ? withoutMark(read as Uint8Array) : (read as Uint8Array)
      first = false
      this.readBytes = before + raw.bytesRead
      yield* reader.push(chunk)
    }
    if (raw.bytesRead < bytes) throw new MeshError('DATA_LOSS', `the file had ${bytes} bytes, and now has ${raw.bytesRead}`)
    yield* reader.end()
  }

  private slice({ values, numbers }: Lines, base: number, { changedMs }: OpenFile): Slice {
    const count = numbers.length
    const timestampsMs = new Float64Array(count).fill(this.options.timestampMs ?? changedMs)
    const offsets = BigInt64Array.from(numbers, (number) => BigInt(base + number))
    return { topic: this.topic, partition: 0, records: { count, values, timestampsMs }, offsets }
  }
}

/** What a file is, and the name by which a checkpoint knows it again: base name, size, and digest of its beginning and end. */
async function inspect(path: string): Promise<{ readonly file: OpenFile; readonly name: string }> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path)
    const stat = await handle.stat()
    if (!stat.isFile()) throw new MeshError('INVALID_ARGUMENT', `${path} is no file: name the files themselves`, { field: 'paths' })
    const bytes = stat.size
    const head = await readPart(handle, 0, Math.min(bytes, digestBytes))
    const tail = await readPart(handle, Math.max(0, bytes - digestBytes), Math.min(bytes, digestBytes))
    const digest = createHash('sha256').update(head).update(tail).digest('hex').slice(0, 16)
    // RFC 1952, section 2.3.1: ID1 and ID2.
    const compressed = head[0] === 0x1f && head[1] === 0x8b
    return {
      file: { path, bytes, changedMs: Math.floor(stat.mtimeMs), compressed },
      name: `${basename(path)} (${bytes} bytes, digest ${digest})`,
    }
  } catch (thrown) {
    throw fileError(thrown, path)
  } finally {
    await handle?.close()
  }
}

async function readPart(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const { buffer, bytesRead } = await handle.read(new Uint8Array(length), 0, length, position)
  return buffer.subarray(0, bytesRead)
}

/** Without a byte order mark. */
function withoutMark(chunk: Uint8Array): Uint8Array {
  return chunk[0] === 0xef && chunk[1] === 0xbb && chunk[2] === 0xbf ? chunk.subarray(3) : chunk
}

function fileError(thrown: unknown, where: string): MeshError {
  if (thrown instanceof MeshError && thrown.code === 'INVALID_ARGUMENT') return thrown
  const { code = '', message } = thrown as NodeJS.ErrnoException
  if (code === 'ENOENT') return new MeshError('NOT_FOUND', `there is no file ${where}`, { cause: thrown, field: 'paths' })
  if (code === 'EACCES') return new MeshError('PERMISSION_DENIED', `cannot read ${where}`, { cause: thrown, field: 'paths' })
  const lost = code.startsWith('Z_') || code === 'DATA_LOSS'
  return new MeshError(lost ? 'DATA_LOSS' : 'UNAVAILABLE', `${where}: ${message}`, { cause: thrown })
}
