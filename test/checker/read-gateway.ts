import type { CheckedRecord } from './record.ts'

export interface GatewayReadOptions {
  /** Ends as soon as so many records were read. */
  readonly expected?: number
  /** Ends when nothing has come for this long; 2,000 where absent. */
  readonly quietMs?: number
}

/**
 * What lies on `topic`, through a gateway's server-sent events. The stream has neither keys nor headers; partitions and offsets are read
 * from the event ids, each of which is the place behind its event.
 */
export async function readGateway(baseUrl: string, topic: string, options: GatewayReadOptions = {}): Promise<CheckedRecord[]> {
  const { expected = Infinity, quietMs = 2000 } = options
  const quiet = new AbortController()
  let timer = setTimeout(() => quiet.abort(), Math.max(quietMs, 10_000))
  const records: CheckedRecord[] = []
  if (expected === 0) clearTimeout(timer)
  if (expected === 0) return records
  try {
    const response = await fetch(`${baseUrl}/v1/topics/${encodeURIComponent(topic)}/events?from=earliest`, { signal: quiet.signal })
    if (!response.ok || response.body === null) throw new Error(`reading topic ${topic}: ${response.status} ${await response.text()}`)
    let before: number[] = []
    for await (const { id, data } of blocks(response.body)) {
      clearTimeout(timer)
      timer = setTimeout(() => quiet.abort(), quietMs)
      const next = nextOffsets(id)
      if (data !== undefined) records.push(recordAt(before, next, data))
      before = next
      if (records.length >= expected) break
    }
  } catch (thrown) {
    if (!quiet.signal.aborted) throw thrown
  } finally {
    clearTimeout(timer)
  }
  return records
}

/** The partition whose next offset has moved is the record's. */
function recordAt(before: readonly number[], next: readonly number[], value: string): CheckedRecord {
  const partition = next.findIndex((offset, index) => offset !== (before[index] ?? 0))
  if (partition < 0) throw new Error('an event came without a place of its own')
  return { partition, offset: next[partition]! - 1, key: '', value }
}

/** An event id is base64url: a version, two bytes of the topic's tag, and each partition's next offset as an unsigned LEB128 number. */
function nextOffsets(id: string): number[] {
  const bytes = Buffer.from(id, 'base64url').subarray(3)
  const offsets: number[] = []
  let value = 0
  let scale = 1
  for (const byte of bytes) {
    value += (byte & 0x7f) * scale
    scale *= 128
    if (byte >= 0x80) continue
    offsets.push(value)
    value = 0
    scale = 1
  }
  return offsets
}

/** The blocks of a stream of server-sent events: the id, and the data where there is any. */
export async function* blocks(body: ReadableStream<Uint8Array>): AsyncGenerator<{ id: string; data: string | undefined }> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of body) {
    text += decoder.decode(chunk, { stream: true })
    const complete = text.split('\n\n')
    text = complete.pop()!
    for (const block of complete) {
      const lines = block.split('\n')
      const id = lines.find((line) => line.startsWith('id: '))?.slice(4)
      const data = lines.filter((line) => line.startsWith('data: ')).map((line) => line.slice(6))
      if (id !== undefined) yield { id, data: data.length === 0 ? undefined : data.join('\n') }
    }
  }
}
