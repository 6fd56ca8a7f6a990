/** One record of a topic, as it was read. Offsets ascend within a partition; they need not be dense. */
export interface CheckedRecord {
  readonly partition: number
  readonly offset: number
  /** '' where there is none, or where the reader cannot see it. */
  readonly key: string
  /** As text: every topic of the fraud pipeline that is checked holds JSON. */
  readonly value: string
  /** Absent where the reader cannot see them. */
  readonly headers?: Readonly<Record<string, string>>
}

/** The record's JSON object; undefined where it is none. */
export function jsonObject(record: CheckedRecord): Record<string, unknown> | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(record.value)
  } catch {
    return undefined
  }
  return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Record<string, unknown>) : undefined
}

/** In the order of the log, partition after partition. */
export function inLogOrder(records: readonly CheckedRecord[]): CheckedRecord[] {
  return [...records].sort((a, b) => a.partition - b.partition || a.offset - b.offset)
}
