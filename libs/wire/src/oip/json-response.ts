import { isUtf8 } from 'node:buffer'
import { type BytesColumn, bytesAt, bytesCount, MeshError, type Tensor, textAt } from '@spillway/core'
import { elementWriter } from '../json/element-writer.ts'
import { JsonWriter } from '../json/json-writer.ts'
import { rawBytes } from '../tensor-codec.ts'

/** An output on its way to an HTTP caller. */
export interface JsonOutput {
  readonly name: string
  readonly tensor: Tensor
  /** Whether its data goes behind the JSON. */
  readonly binary: boolean
}

export interface JsonInferResponse {
  /** '' where the request had none. */
  readonly id: string
  readonly model: string
  readonly version: string
  readonly outputs: readonly JsonOutput[]
}

/** A response's body. */
export interface InferResponseBody {
  readonly bytes: Uint8Array
  /** Length of the JSON where binary data follows it (`Inference-Header-Content-Length`); undefined where the body is JSON alone. */
  readonly headerBytes: number | undefined
}

const comma = 0x2c

/**
 * Writes an inference response (OIP "Inference Response JSON Object"), lists flat and row-major; FP32 by the shortest text that reads back the same FP32, 64-bit
 * integers exactly, NaN and infinities as the tokens `NaN`, `Infinity`, `-Infinity`.
 * @throws MeshError INVALID_ARGUMENT naming an output that JSON cannot carry: FP16, BF16, BYTES that are no UTF-8.
 */
export function writeInferResponse({ id, model, version, outputs }: JsonInferResponse): InferResponseBody {
  const writer = new JsonWriter()
  const tail: Uint8Array[] = []
  writer.raw('{')
  if (id !== '') member(writer, '"id":', id)
  member(writer, '"model_name":', model)
  member(writer, '"model_version":', version)
  writer.raw('"outputs":[')
  for (const [index, { name, tensor, binary }] of outputs.entries()) {
    writer.raw(index === 0 ? '{"name":' : ',{"name":')
    writer.string(name)
    writer.raw(`,"datatype":"${tensor.datatype}","shape":[${tensor.shape.join(',')}],`)
    if (binary) {
      const bytes = rawBytes(tensor)
      tail.push(bytes)
      writer.raw(`"parameters":{"binary_data_size":${bytes.byteLength}}}`)
    } else {
      writer.raw('"data":[')
      writeData(writer, name, tensor)
      writer.raw(']}')
    }
  }
  writer.raw(']}')
  const json = writer.finish()
  if (tail.length === 0) return { bytes: json, headerBytes: undefined }
  return { bytes: Buffer.concat([json, ...tail]), headerBytes: json.length }
}

function member(writer: JsonWriter, key: string, value: string): void {
  writer.raw(key)
  writer.string(value)
  writer.byte(comma)
}

function writeData(writer: JsonWriter, name: string, tensor: Tensor): void {
  if (tensor.datatype === 'BYTES') return writeTexts(writer, name, tensor.data)
  if (tensor.datatype === 'FP16' || tensor.datatype === 'BF16')
    throw invalid(
      name,
      `output "${name}" is ${tensor.datatype}, which cannot be sent as JSON: ask for it as binary data ("binary_data": true)`,
    )
  const write = elementWriter(writer, tensor)
  for (let i = 0; i < tensor.data.length; i++) {
    if (i > 0) writer.byte(comma)
    write(i)
  }
}

function writeTexts(writer: JsonWriter, name: string, column: BytesColumn): void {
  for (let i = 0; i < bytesCount(column); i++) {
    if (!isUtf8(bytesAt(column, i)))
      throw invalid(name, `element ${i} of output "${name}" is not UTF-8: ask for it as binary data ("binary_data": true)`)
    if (i > 0) writer.byte(comma)
    writer.string(textAt(column, i))
  }
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
