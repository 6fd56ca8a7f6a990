import { Metadata, type ServiceError, type StatusObject } from '@grpc/grpc-js'
import { type Code, codeFromNumber, codeNumbers, MeshError } from '@spillway/core'
import { headerText } from './trace-context.ts'

/** Trailing metadata that names the input field that is wrong, percent-encoded as the status message is. */
const fieldHeader = 'spillway-field'

/** Status messages travel in a header, and a header block has a limit of a few KiB. */
const maxMessageCharacters = 2048

/** A MeshError as gRPC status. Lone surrogates are replaced, since the status message is percent-encoded UTF-8. */
export function statusOf(error: MeshError): StatusObject {
  const metadata = new Metadata()
  if (error.field !== undefined) metadata.set(fieldHeader, encodeURI(error.field.slice(0, maxMessageCharacters).toWellFormed()))
  return { code: codeNumbers[error.code], details: error.message.slice(0, maxMessageCharacters).toWellFormed(), metadata }
}

/** A status as fields of headers or trailers (gRPC over HTTP2, "Status"). */
export function statusFields({ code, details, metadata }: StatusObject): string[] {
  const more = Object.entries(metadata.getMap()).flatMap(([name, value]) => [name, String(value)])
  return ['grpc-status', String(code), 'grpc-message', encodeURI(details), ...more]
}

/** grpc-js's words for a server that cannot be connected to, around those that say why. */
const notConnected = /^No connection established\. Last error: (?:Error: )?(.+)\. Resolution note: .*$/s

/** What a call to `address` ended with, as a MeshError; UNAVAILABLE names the address. */
export function errorOf(error: ServiceError, address: string): MeshError {
  const code: Code = codeFromNumber(error.code)
  const given = error.details === undefined || error.details === '' ? error.message : error.details
  const details = notConnected.exec(given)?.[1] ?? given
  const message = code === 'UNAVAILABLE' && !details.includes(address) ? `${address}: ${details}` : details
  const field = error.metadata === undefined ? '' : headerText(error.metadata, fieldHeader)
  return new MeshError(code, message, { cause: error, ...(field === '' ? {} : { field: decodeField(field) }) })
}

function decodeField(text: string): string {
  try {
    return decodeURI(text)
  } catch {
    // Not ours: another server may send the header unencoded.
    return text
  }
}
