import { context, trace } from '@opentelemetry/api'
import { MeshError } from '@spillway/core'
import { currentTraceParent } from '@spillway/telemetry'
import { describe, expect, test } from 'vitest'
import { predict, rejection, request, RpcRig } from './rpc-fixture.ts'

const rpc = new RpcRig()

describe('a unary call', () => {
  test('carries request and response', async () => {
    const { channel } = await rpc.pair({
      predict: async ({ events }) => ({ results: events.map((prediction) => ({ result: { $case: 'prediction', value: prediction } })) }),
    })
    const response = await channel.unary(predict, { pipeline: 'fraud', events: [Buffer.from('{"a":1}')] })
    expect(response.results[0]!.result).toEqual({ $case: 'prediction', value: Buffer.from('{"a":1}') })
  })

  test('gives the error back with code, message and field', async () => {
    const { channel } = await rpc.pair({
      predict: async () => {
        throw new MeshError('INVALID_ARGUMENT', 'größer als 100 % \ud800', { field: 'cascade.tiers[0].größe' })
      },
    })
    const error = await rejection(channel.unary(predict, request))
    expect(error).toBeInstanceOf(MeshError)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: 'größer als 100 % \ufffd', field: 'cascade.tiers[0].größe' })
  })

  test('hides an unexpected error behind INTERNAL', async () => {
    const { channel } = await rpc.pair({ predict: () => Promise.reject(new TypeError('secret')) })
    const error = await rejection(channel.unary(predict, request))
    expect(error).toMatchObject({ code: 'INTERNAL', field: undefined })
    expect(error.message).not.toContain('secret')
  })

  test('is refused before its request is read, and gives its place back when it has ended', async () => {
    const held: string[] = []
    let room = false
    let handled = 0
    const { channel } = await rpc.pair({
      admission: {
        admit: () => {
          if (!room) return undefined
          held.push('taken')
          return { reserve: () => true, release: () => void held.push('given back') }
        },
      },
      predict: async () => {
        handled++
        return { results: [] }
      },
    })
    const garbled = { ...predict, requestSerialize: () => Buffer.from([0xff, 0xff, 0xff]) }
    expect(await rejection(channel.unary(garbled, request))).toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
    room = true
    expect(await rejection(channel.unary(garbled, request))).toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect.poll(() => held).toEqual(['taken', 'given back'])
    expect(handled).toBe(0)
    await channel.unary(predict, request)
    await expect.poll(() => held.length).toBe(4)
    expect(handled).toBe(1)
  })

  test('is not sent once its deadline is over', async () => {
    let handled = 0
    const { channel } = await rpc.pair({
      predict: async () => {
        handled++
        return { results: [] }
      },
    })
    expect(await rejection(channel.unary(predict, request, { deadlineMs: Date.now() - 1 }))).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    expect(handled).toBe(0)
  })

  test('carries the deadline, and fires the signal of a handler that runs past it', async () => {
    const seen = Promise.withResolvers<{ deadlineMs: number; reason: unknown }>()
    const { channel } = await rpc.pair({
      predict: (_request, call) =>
        new Promise(() => {
          call.signal.addEventListener('abort', () => seen.resolve({ deadlineMs: call.deadlineMs, reason: call.signal.reason }))
        }),
    })
    const deadlineMs = Date.now() + 150
    expect(await rejection(channel.unary(predict, request, { deadlineMs }))).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    const { deadlineMs: seenMs, reason } = await seen.promise
    expect(Math.abs(seenMs - deadlineMs)).toBeLessThan(100)
    expect(reason).toMatchObject({ code: 'CANCELLED' })
  })

  test('has no deadline where none is set, or one beyond what timers hold', async () => {
    const deadlines: number[] = []
    const { channel } = await rpc.pair({
      predict: async (_request, call) => {
        deadlines.push(call.deadlineMs)
        expect(call.principal).toBe('')
        return { results: [] }
      },
    })
    await channel.unary(predict, request)
    await channel.unary(predict, request, { deadlineMs: Infinity })
    await channel.unary(predict, request, { deadlineMs: Date.now() + 90 * 86_400_000 })
    expect(deadlines).toEqual([Infinity, Infinity, Infinity])
  })

  test('is cancelled by its signal, on both sides', async () => {
    const entered = Promise.withResolvers<void>()
    const left = Promise.withResolvers<void>()
    const { channel } = await rpc.pair({
      predict: (_request, call) =>
        new Promise(() => {
          call.signal.addEventListener('abort', () => left.resolve())
          entered.resolve()
        }),
    })
    const controller = new AbortController()
    const answer = rejection(channel.unary(predict, request, { signal: controller.signal }))
    await entered.promise
    controller.abort()
    expect(await answer).toMatchObject({ code: 'CANCELLED' })
    await left.promise
    expect(await rejection(channel.unary(predict, request, { signal: controller.signal }))).toMatchObject({ code: 'CANCELLED' })
  })

  test('does not fire the signal of a handler that has answered', async () => {
    let signal: AbortSignal | undefined
    const { channel } = await rpc.pair({
      predict: async (_request, call) => {
        signal = call.signal
        return { results: [] }
      },
    })
    await channel.unary(predict, request)
    await channel.unary(predict, request)
    expect(signal!.aborted).toBe(false)
  })

  test('carries the trace context and shows it to the handler', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    const seen: { sent: string; active: string }[] = []
    const { channel } = await rpc.pair({
      predict: async (_request, call) => {
        await Promise.resolve()
        seen.push({ sent: call.traceParent, active: currentTraceParent() })
        return { results: [] }
      },
    })
    const parent = trace.setSpanContext(context.active(), { traceId, spanId: 'b7ad6b7169203331', traceFlags: 1 })
    await context.with(parent, () => channel.unary(predict, request))
    await channel.unary(predict, request)
    const header = `00-${traceId}-b7ad6b7169203331-01`
    expect(seen).toEqual([
      { sent: header, active: header },
      { sent: '', active: '' },
    ])
  })

  test('refuses a message over the limit', async () => {
    const { server } = await rpc.pair({ predict: async () => ({ results: [] }) })
    const channel = await rpc.connect(server.port, { maxMessageBytes: 1_000 })
    const error = await rejection(channel.unary(predict, { pipeline: 'fraud', events: [new Uint8Array(2_000)] }))
    expect(error.code).toBe('RESOURCE_EXHAUSTED')
  })
})
