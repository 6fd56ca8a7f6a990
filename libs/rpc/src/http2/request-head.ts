import type { Fields } from './field-decoder.ts'

/** Names and values; values of a name that comes several times are joined by `, ` (RFC 9110, 5.3). */
export type RequestHead = Readonly<Record<string, string>>

/** RFC 9113, 8.2.2: they are of HTTP/1.1's connections. */
const ofConnections: ReadonlySet<string> = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])
/** RFC 9110, 5.6.2, in lower case: what a name may be of, by code. */
const nameCodes = new Uint8Array(0x100)
for (const character of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") nameCodes[character.charCodeAt(0)] = 1
const pseudoNames: ReadonlySet<string> = new Set([':method', ':scheme', ':path', ':authority'])
const colon = 0x3a

/** Reads the fields that a request begins with. @returns undefined where they are malformed (RFC 9113, 8.2 and 8.3) */
export function readRequestHead(fields: Fields): RequestHead | undefined {
  const head = Object.create(null) as Record<string, string>
  let isBehindPseudo = false
  for (let i = 0; i < fields.length; i += 2) {
    const [name, value] = [fields[i]!, fields[i + 1]!]
    const known = head[name]
    if (name.charCodeAt(0) === colon) {
      if (isBehindPseudo || known !== undefined || !pseudoNames.has(name) || !isPlainValue(value)) return undefined
      head[name] = value
    } else {
      isBehindPseudo = true
      if (!isPlainField(name, value)) return undefined
      head[name] = known === undefined ? value : `${known}, ${value}`
    }
  }
  const { ':method': method, ':scheme': scheme, ':path': path = '' } = head
  // CONNECT has neither scheme nor path (RFC 9113, 8.5), and nothing here is to be connected to.
  return method === undefined || method === 'CONNECT' || scheme === undefined || path[0] !== '/' ? undefined : head
}

/** Whether fields may come behind a request's body. */
export function areTrailers(fields: Fields): boolean {
  for (let i = 0; i < fields.length; i += 2) if (!isPlainField(fields[i]!, fields[i + 1]!)) return false
  return true
}

function isPlainField(name: string, value: string): boolean {
  if (name === '' || ofConnections.has(name) || (name === 'te' && value !== 'trailers')) return false
  for (let i = 0; i < name.length; i++) if (nameCodes[name.charCodeAt(i)] !== 1) return false
  return isPlainValue(value)
}

function isPlainValue(value: string): boolean {
  if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1))) return false
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code === 0 || code === 0x0a || code === 0x0d) return false
  }
  return true
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}
