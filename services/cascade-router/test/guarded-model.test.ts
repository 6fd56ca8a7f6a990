import { type Clock, type Code, MeshError } from '@spillway/core'
import { createMeshMetrics, createTelemetry } from '@spillway/telemetry'
import { expect, test } from 'vitest'
import { GuardedModel } from '../src/guarded-model.ts'

const telemetry = createTelemetry({ service: 'guarded-model-test', logLevel: 'silent', otlp: false })
const metrics = createMeshMetrics(telemetry.registry)
/** That callers give, where nothing else is said. */
const timeMs = 1000

/** A guarded model that fails every call; the time stands still between them, so that no probe comes due. */
class FailingModel {
  readonly guard: GuardedModel
  private nowMs = 0
  private reached = 0
  private fail: () => MeshError = () => new MeshError('INTERNAL', 'nobody has said how')
  private caller = new AbortController()

  constructor(lateIsFailure: boolean) {
    const clock: Clock = { nowMs: () => this.nowMs }
    const client = { signature: () => Promise.reject(new Error('not asked')), infer: () => this.infer() }
    this.guard = new GuardedModel({ model: 'heavy', client, lateIsFailure, clock, metrics, logger: telemetry.logger })
  }

  /** So many calls, each of which fails after a time; how many of them reached the model. */
  async calls(times: number, code: Code, afterMs: number, givenMs = timeMs): Promise<number> {
    const before = this.reached
    this.fail = () => {
      this.nowMs += afterMs
      if (code === 'CANCELLED') this.caller.abort()
      return new MeshError(code, 'it fails')
    }
    for (let i = 0; i < times; i++) {
      this.caller = new AbortController()
      const { signal } = this.caller
      const call = this.guard.infer({ model: 'heavy', inputs: new Map(), rowCount: 1, deadlineMs: this.nowMs + givenMs, signal })
      await expect(call).rejects.toBeInstanceOf(MeshError)
    }
    return this.reached - before
  }

  private async infer(): Promise<never> {
    this.reached++
    throw this.fail()
  }
}

test.each<[Code, number]>([
  ['DEADLINE_EXCEEDED', timeMs],
  ['RESOURCE_EXHAUSTED', 0],
])('%s opens the breaker where another tier can answer instead, and is only load where none can', async (code, afterMs) => {
  expect(await new FailingModel(true).calls(10, code, afterMs)).toBe(5)
  expect(await new FailingModel(false).calls(10, code, afterMs)).toBe(10)
})

test('a model that is away opens it, whoever can answer', async () => {
  for (const lateIsFailure of [true, false]) expect(await new FailingModel(lateIsFailure).calls(10, 'UNAVAILABLE', 0)).toBe(5)
})

test('callers that hang up when their time is over blame the model, those that go before do not', async () => {
  const model = new FailingModel(true)
  expect(await model.calls(20, 'CANCELLED', timeMs / 2)).toBe(20)
  expect(await model.calls(10, 'CANCELLED', timeMs)).toBe(5)
})

test('callers that gave it no time do not blame it', async () => {
  const model = new FailingModel(true)
  expect(await model.calls(20, 'DEADLINE_EXCEEDED', 40, 40)).toBe(20)
  expect(await model.calls(10, 'DEADLINE_EXCEEDED', 60, 60)).toBe(5)
})
