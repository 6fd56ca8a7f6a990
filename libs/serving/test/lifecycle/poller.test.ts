import { createTelemetry } from '@spillway/telemetry'
import { expect, onTestFinished, test } from 'vitest'
import { Poller } from '../../src/lifecycle/poller.ts'

test('what is being written is looked at soon, and not without a pause, however short it is to settle', async () => {
  const telemetry = createTelemetry({ service: 'poller-test', logLevel: 'silent', otlp: false })
  let looks = 0
  const poller = new Poller({
    look: () => Promise.resolve(++looks < 4),
    pollMs: 3_600_000,
    settleMs: 0,
    watch: (changed) => {
      changed()
      return () => undefined
    },
    logger: telemetry.logger,
  })
  onTestFinished(async () => {
    await poller.stop()
    await telemetry.shutdown()
  })
  const startedMs = performance.now()
  poller.start()
  await expect.poll(() => looks, { interval: 5 }).toBe(4)
  // Four pauses of 50 ms; a timer may come a hair early.
  expect(performance.now() - startedMs).toBeGreaterThan(190)
})
