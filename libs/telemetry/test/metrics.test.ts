import { Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import { createMeshMetrics, LatencyWindow } from '../src/mod.ts'

describe('mesh metrics', () => {
  it('serve what was counted, with cumulative buckets', async () => {
    const registry = new Registry()
    const metrics = createMeshMetrics(registry)
    metrics.eventsIn('transactions', 100)
    metrics.outputsOut('predictions', 99)
    metrics.stageRows('features', 100, 0.003)
    metrics.tierRows('0', 'accepted', 95)
    metrics.tierRows('0', 'escalated', 5)
    metrics.deadLetters('parse', 'INVALID_ARGUMENT', 1)
    metrics.degraded('heavy', 'unavailable', 2)
    metrics.observeLatencies(Float64Array.of(1, 4, 20_000))
    const unwatch = metrics.watchQueue('heavy', () => ({ depth: 7, oldestAgeMs: 1500 }))
    metrics.consumerLags('fraud.features', [{ topic: 'transactions', partition: 3, committedOffset: 40n, endOffset: 50n }])

    const text = await registry.metrics()
    expect(text).toContain('messaging_client_consumed_messages_total{messaging_destination_name="transactions"} 100')
    expect(text).toContain('messaging_client_sent_messages_total{messaging_destination_name="predictions"} 99')
    expect(text).toContain('spillway_stage_duration_seconds_bucket{stage="features",le="0.0025"} 0')
    expect(text).toContain('spillway_stage_duration_seconds_bucket{stage="features",le="0.005"} 1')
    expect(text).toContain('spillway_tier_rows_total{tier="0",reason="escalated"} 5')
    expect(text).toContain('spillway_dead_letters_total{stage="parse",code="INVALID_ARGUMENT"} 1')
    expect(text).toContain('spillway_end_to_end_latency_seconds_bucket{le="0.001"} 1')
    expect(text).toContain('spillway_end_to_end_latency_seconds_bucket{le="0.004"} 2')
    expect(text).toContain('spillway_end_to_end_latency_seconds_bucket{le="+Inf"} 3')
    expect(text).toContain('spillway_end_to_end_latency_seconds_count 3')
    expect(text).toContain('spillway_queue_depth{queue="heavy"} 7')
    expect(text).toContain('spillway_queue_age_seconds{queue="heavy"} 1.5')
    expect(text).toMatch(/spillway_consumer_lag_records\{.*partition_id="3".*\} 10/)
    expect(metrics.status()).toMatchObject({
      eventsIn: [{ topic: 'transactions', rows: 100 }],
      tiers: [
        { tier: '0', reason: 'accepted', rows: 95 },
        { tier: '0', reason: 'escalated', rows: 5 },
      ],
      degradedRows: 2,
      queues: [{ queue: 'heavy', depth: 7, oldestAgeMs: 1500 }],
      lagRecords: 10,
      latency: { count: 3, maxMs: 20_000 },
    })

    unwatch()
    metrics.consumerLags('fraud.features', [])
    expect(await registry.metrics()).not.toMatch(/spillway_queue_depth\{|spillway_consumer_lag_records\{/)
  })
})

describe('latency window', () => {
  it('gives quantiles within 3.2 % of the exact ones', () => {
    const window = new LatencyWindow(10_000, { nowMs: () => 1000 })
    const values = Float64Array.from({ length: 10_000 }, (_, i) => 0.05 * 1.001 ** i)
    window.record(values)
    const { p50Ms, p99Ms, count, maxMs } = window.summary()
    expect(count).toBe(10_000)
    expect(Math.abs(p50Ms / values[4999]! - 1)).toBeLessThan(0.032)
    expect(Math.abs(p99Ms / values[9899]! - 1)).toBeLessThan(0.032)
    expect(maxMs).toBe(values[9999])
  })

  it('forgets what is older than the window, and takes any value', () => {
    let nowMs = 1_000_000
    const window = new LatencyWindow(10_000, { nowMs: () => nowMs })
    window.record([5, 5, -1, Infinity, Number.NaN])
    nowMs += 5000
    window.record([100])
    expect(window.summary().count).toBe(6)
    nowMs += 5000
    expect(window.summary()).toMatchObject({ count: 1, p50Ms: 100, maxMs: 100 })
    nowMs += 1_000_000
    expect(window.summary()).toMatchObject({ count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 })
    nowMs -= 500_000
    window.record([1])
    expect(window.summary().count).toBe(1)
  })
})
