/** RFC 7541, Appendix A, in its order: names, and behind a space the value where one is set. The first has the index 1. */
const staticFields = (
  ':authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|' +
  ':status 200|:status 204|:status 206|:status 304|:status 400|:status 404|:status 500|' +
  'accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|' +
  'age|allow|authorization|cache-control|content-disposition|content-encoding|content-language|content-length|' +
  'content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|' +
  'if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|' +
  'proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|' +
  'strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate'
).split('|')

/** By index; there is no field 0. */
export const staticNames: readonly string[] = ['', ...staticFields.map((field) => field.split(' ', 1)[0]!)]
/** By index; empty where the table has a name alone. */
export const staticValues: readonly string[] = [
  '',
  ...staticFields.map((field) => (field.includes(' ') ? field.slice(field.indexOf(' ') + 1) : '')),
]

const firstDynamicIndex = 62
/** What a field counts beside its name and its value, bytes: RFC 7541, 4.1; RFC 9113, 6.5.2. */
export const fieldOverheadBytes = 32
/** A table's size before anything is said of it (SETTINGS_HEADER_TABLE_SIZE): RFC 9113, 6.5.2. */
const initialBytes = 4096

/**
 * The static table and, behind it, the dynamic one of a connection's one direction (RFC 7541, 2.3). The dynamic one is a ring: every field is found in one step,
 * and nothing is allocated once the table was made.
 */
export class FieldTable {
  readonly #names: string[]
  readonly #values: string[]
  readonly #mask: number
  /** How many fields were ever added, and how many of them evicted: the newest stands at `#added - 1`. Both modulo 2^32. */
  #added = 0
  #evicted = 0
  #bytes = 0
  #sizeBytes = initialBytes

  /** @param mostBytes that the table will ever be resized to; at first it has 4096, which the peer may use until it has read our settings */
  constructor(mostBytes: number) {
    const mostFields = Math.floor(Math.max(mostBytes, initialBytes) / fieldOverheadBytes)
    const places = 2 ** Math.ceil(Math.log2(mostFields))
    this.#mask = places - 1
    this.#names = Array.from({ length: places }, () => '')
    this.#values = Array.from({ length: places }, () => '')
  }

  /** @returns undefined where no field has this index */
  nameAt(index: number): string | undefined {
    if (index < firstDynamicIndex) return index === 0 ? undefined : staticNames[index]
    const age = index - firstDynamicIndex
    return age < ((this.#added - this.#evicted) | 0) ? this.#names[(this.#added - 1 - age) & this.#mask] : undefined
  }

  /** Of an index that has a name. */
  valueAt(index: number): string {
    return index < firstDynamicIndex ? staticValues[index]! : this.#values[(this.#added - 1 - (index - firstDynamicIndex)) & this.#mask]!
  }

  /** Adds a field and evicts the oldest until it fits; one that is larger than the table leaves it empty (RFC 7541, 4.4). */
  add(name: string, value: string): void {
    const bytes = name.length + value.length + fieldOverheadBytes
    this.#evictTo(this.#sizeBytes - bytes)
    if (bytes > this.#sizeBytes) return
    const place = this.#added & this.#mask
    this.#names[place] = name
    this.#values[place] = value
    this.#added = (this.#added + 1) | 0
    this.#bytes += bytes
  }

  resize(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes
    this.#evictTo(sizeBytes)
  }

  #evictTo(mostBytes: number): void {
    while (this.#bytes > mostBytes && this.#evicted !== this.#added) {
      const place = this.#evicted & this.#mask
      this.#bytes -= this.#names[place]!.length + this.#values[place]!.length + fieldOverheadBytes
      // Else an evicted field's text would stay until the ring has come round.
      this.#names[place] = ''
      this.#values[place] = ''
      this.#evicted = (this.#evicted + 1) | 0
    }
  }
}
