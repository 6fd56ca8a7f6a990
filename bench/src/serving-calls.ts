import { tensor } from '@spillway/core'
import { inference, toRawTensors } from '@spillway/wire'

export type Protocol = 'grpc' | 'rest' | 'rest-binary' | 'tensorflow'

/** A request as it goes over the wire, time and again. */
export interface Call {
  readonly protocol: 'grpc' | 'http'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** For gRPC the message alone. */
  readonly body: Buffer
}

/** `closed`: callers that wait for their answers; `open`: calls on a timetable, whatever becomes of those before. */
export type Load = { readonly seconds: number } & (
  | { readonly kind: 'closed'; readonly callers: number }
  | { readonly kind: 'open'; readonly perSecond: number }
)

export interface CallersTask {
  readonly call: Call
  readonly port: number
  readonly load: Load
  /** The callers', which they tell the server by gRPC's header; none where absent. */
  readonly deadlineMs?: number
}

export interface CallersReport {
  readonly answered: number
  readonly perSecond: number
  /** Calls by what became of them: gRPC's status or HTTP's, `0` and `200` for the answered; `lost` where no answer came at all. */
  readonly outcomes: Readonly<Record<string, number>>
  /** Of the answered: by a timetable from the time that it says, else from the sending. */
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** By a timetable: how late calls were sent, since the callers' process was busy. That is part of their latency. */
  readonly sentLateP99Ms: number
  /** CPU of the callers' process a call. */
  readonly cpuUsPerCall: number
  /** One of the answers. */
  readonly answer: Buffer
}

/** The same rows in every run: values between -1 and 1. */
export function rowsOf(rows: number, width: number): Float32Array {
  let state = 7
  return Float32Array.from({ length: rows * width }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    // Few digits, so that JSON has what a client would send.
    return Math.fround(Math.round((state / 2 ** 31 - 1) * 10_000) / 10_000)
  })
}

/** A call of `model`, whose input is FP32 `features` [rows, width]. */
export function callOf(protocol: Protocol, model: string, rows: number, width: number): Call {
  const data = rowsOf(rows, width)
  if (protocol === 'grpc') return grpcCall(model, rows, width, data)
  const values = Array.from(data, (value) => Number(value.toPrecision(6)))
  const input = { name: 'features', datatype: 'FP32', shape: [rows, width] }
  const http = (path: string, headers: Record<string, string>, body: Buffer): Call => ({ protocol: 'http', path, headers, body })
  if (protocol === 'tensorflow') {
    const instances = Array.from({ length: rows }, (_, row) => values.slice(row * width, (row + 1) * width))
    return http(`/v1/models/${model}:predict`, { 'content-type': 'application/json' }, Buffer.from(JSON.stringify({ instances })))
  }
  const path = `/v2/models/${model}/infer`
  if (protocol === 'rest')
    return http(path, { 'content-type': 'application/json' }, Buffer.from(JSON.stringify({ inputs: [{ ...input, data: values }] })))
  const header = Buffer.from(
    JSON.stringify({ inputs: [{ ...input, parameters: { binary_data_size: data.byteLength } }], parameters: { binary_data_output: true } }),
  )
  const headers = { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(header.length) }
  return http(path, headers, Buffer.concat([header, Buffer.from(data.buffer)]))
}

function grpcCall(model: string, rows: number, width: number, data: Float32Array): Call {
  const { tensors, raw } = toRawTensors(new Map([['features', tensor('FP32', [rows, width], data)]]))
  const request = { modelName: model, modelVersion: '', id: '', parameters: {}, inputs: tensors, outputs: [], rawInputContents: raw }
  return {
    protocol: 'grpc',
    path: inference.GRPCInferenceServiceService.modelInfer.path,
    headers: {},
    body: Buffer.from(inference.ModelInferRequest.encode(request).finish()),
  }
}

/** The scores of an answer. */
export function scoresOf(protocol: Protocol, answer: Buffer): readonly number[] {
  if (protocol === 'grpc') {
    const { outputs, rawOutputContents } = inference.ModelInferResponse.decode(answer)
    const [raw] = rawOutputContents
    return raw === undefined ? outputs[0]!.contents!.fp32Contents : floats(raw)
  }
  if (protocol === 'rest-binary') {
    return floats(answer.subarray(answer.indexOf('}]}') + 3))
  }
  const body = JSON.parse(answer.toString()) as { outputs?: { data: number[] }[]; predictions?: (number | number[])[] }
  return body.outputs === undefined ? body.predictions!.flat() : body.outputs[0]!.data
}

function floats(bytes: Uint8Array): readonly number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true))
}
