import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { tensor } from '@spillway/core'
import { inference } from '@spillway/wire'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type OipFixture, rawPost, startOipFixture } from './oip-fixture.ts'
import { pairOf, request } from './oip-grpc-requests.ts'

let fixture: OipFixture
beforeAll(async () => {
  fixture = await startOipFixture()
})
afterAll(() => fixture.stop())

/** Bytes of a valid request with some of them replaced, taken out or put in. */
const changes = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 8 }), fc.uint8Array({ maxLength: 8 })), { minLength: 1, maxLength: 5 })

function changed(valid: Buffer, edits: readonly (readonly [number, number, Uint8Array])[]): Buffer {
  let bytes = valid
  for (const [place, cut, put] of edits) {
    const at = place % (bytes.length + 1)
    bytes = Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + cut)])
  }
  return bytes
}

const json = Buffer.from(
  '{"id":"a","inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[[1,2.5]]},{"name":"n","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}],"parameters":{"binary_data_output":true}}',
)
const rest = Buffer.concat([json, Buffer.alloc(8)])

test('over HTTP a damaged request is answered, or refused with what is wrong', { timeout: 120_000 }, async () => {
  const headers = fc.constantFrom(String(json.length), '0', '-1', '1e3', '99999999', '')
  await fc.assert(
    fc.asyncProperty(changes, headers, async (edits, length) => {
      const header: Record<string, string> = length === '' ? {} : { 'inference-header-content-length': length }
      const { status: code, body } = await rawPost(fixture.http, '/v2/models/pair/infer', header, changed(rest, edits))
      if (code === 200) return
      expect(code).toBe(400)
      expect((JSON.parse(body.toString()) as { error: string }).error).toMatch(/\w/)
    }),
    { numRuns: 300 },
  )
  expect((await fetch(`${fixture.http}/v2/health/ready`)).status).toBe(200)
})

test('over gRPC too', { timeout: 120_000 }, async () => {
  const client = new inference.GRPCInferenceServiceClient(`127.0.0.1:${fixture.grpcPort}`, credentials.createInsecure())
  const identity = (bytes: Buffer): Buffer => bytes
  const call = (bytes: Buffer): Promise<ServiceError | null> =>
    new Promise((resolve) => {
      client.makeUnaryRequest('/inference.GRPCInferenceService/ModelInfer', identity, identity, bytes, (error) => resolve(error))
    })
  const valid = [
    request('pair', pairOf(), { id: 'a', outputs: [{ name: 'b', parameters: {} }] }),
    request(
      'echo-FP64',
      { x: tensor('FP64', [1, 2], Float64Array.of(1, 2)) },
      { parameters: { p: { parameterChoice: { $case: 'int64Param', value: 1n } } } },
    ),
  ].map((made) => Buffer.from(inference.ModelInferRequest.encode(made).finish()))
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...valid), changes, async (bytes, edits) => {
      const error = await call(changed(bytes, edits))
      if (error === null) return
      expect([status.INVALID_ARGUMENT, status.NOT_FOUND]).toContain(error.code)
      expect(error.details).toMatch(/\w/)
    }),
    { numRuns: 300 },
  )
  expect(await call(valid[0]!)).toBeNull()
  client.close()
})
