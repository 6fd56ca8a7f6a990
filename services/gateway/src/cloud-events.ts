import { MeshError } from '@spillway/core'
import type { IncomingHttpHeaders } from 'node:http'
import type { NewEvent } from './calls.ts'
import { type JsonText, memberSlices } from './json-slices.ts'

const encoder = new TextEncoder()
const required = ['specversion', 'id', 'source', 'type']
const attributeName = /^[a-z0-9]+$/

/** Whether a request is a CloudEvent in binary mode (HTTP protocol binding 1.0.2, 3.1). */
export function isBinaryCloudEvent(headers: IncomingHttpHeaders): boolean {
  return headers['ce-specversion'] !== undefined
}

/** Attributes from `ce-` headers, data as the body. @throws MeshError INVALID_ARGUMENT naming the header. */
export function binaryCloudEvent(headers: IncomingHttpHeaders, body: Uint8Array): NewEvent {
  const attributes = new Map<string, string>()
  for (const [header, value] of Object.entries(headers)) {
    if (header.startsWith('ce-') && typeof value === 'string') attributes.set(header.slice(3), percentDecoded(header, value))
  }
  return cloudEvent(attributes, headers['content-type'] ?? 'application/json', body, 'ce-')
}

/**
 * One structured-mode event (JSON format 1.0.2), as the same event in binary mode: the data as the bytes that they are.
 * @throws MeshError INVALID_ARGUMENT naming the attribute.
 */
export function structuredCloudEvent({ bytes, value }: JsonText): NewEvent {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new MeshError('INVALID_ARGUMENT', 'a CloudEvent in structured mode is a JSON object')
  const attributes = new Map<string, string>()
  for (const [name, attribute] of Object.entries(value)) {
    if (name === 'data' || name === 'data_base64' || attribute === null) continue
    if (typeof attribute === 'object')
      throw new MeshError('INVALID_ARGUMENT', `attribute "${name}" of a CloudEvent is text, a number or a boolean`, { field: name })
    attributes.set(name, String(attribute))
  }
  const contentType = attributes.get('datacontenttype') ?? 'application/json'
  attributes.delete('datacontenttype')
  return cloudEvent(attributes, contentType, structuredData(bytes, value as Record<string, unknown>, contentType), '')
}

function structuredData(bytes: Uint8Array, event: Record<string, unknown>, contentType: string): Uint8Array {
  const base64 = event['data_base64']
  if (base64 !== undefined) {
    if (typeof base64 !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64))
      throw new MeshError('INVALID_ARGUMENT', 'data_base64 is not base64', { field: 'data_base64' })
    return Buffer.from(base64, 'base64')
  }
  const isJson = /^[^;]*[/+]json\s*(;|$)/i.test(contentType)
  if (typeof event['data'] === 'string' && !isJson) return encoder.encode(event['data'])
  return memberSlices(bytes).get('data') ?? new Uint8Array(0)
}

/** As a Kafka record in binary mode: `ce_` headers, `content-type`, and `partitionkey` as the record key. */
function cloudEvent(attributes: ReadonlyMap<string, string>, contentType: string, value: Uint8Array, prefix: string): NewEvent {
  for (const name of required) {
    if ((attributes.get(name) ?? '') === '')
      throw new MeshError('INVALID_ARGUMENT', `the CloudEvent has no ${prefix}${name}`, { field: `${prefix}${name}` })
  }
  if (attributes.get('specversion') !== '1.0')
    throw new MeshError('INVALID_ARGUMENT', `CloudEvents ${attributes.get('specversion')} is not known here: 1.0 is`, {
      field: `${prefix}specversion`,
    })
  const headers: Record<string, string> = { 'content-type': contentType }
  for (const [name, attribute] of attributes) {
    if (!attributeName.test(name))
      throw new MeshError('INVALID_ARGUMENT', `"${name}" is no attribute name: lower-case letters and digits`, {
        field: `${prefix}${name}`,
      })
    headers[`ce_${name}`] = attribute
  }
  const key = attributes.get('partitionkey')
  return { value, headers, ...(key === undefined ? {} : { key: encoder.encode(key) }) }
}

function percentDecoded(header: string, value: string): string {
  try {
    return decodeURIComponent(value)
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `header ${header} is not percent-encoded UTF-8`, { field: header, cause: error })
  }
}
