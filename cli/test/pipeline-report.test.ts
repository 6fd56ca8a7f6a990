import { parsePipeline } from '@spillway/mesh'
import { expect, it } from 'vitest'
import { pipelineReport } from '../src/pipeline-report.ts'

const source = `
pipeline: shop
release: r2
inputs:
  payments: { key: customer, time: at, fields: { customer: integer, terminal: integer, amount: number, at: timestamp } }
  labels: { predict: false, key: terminal, time: at, lateness: 2d, fields: { terminal: integer, at: timestamp, fraud: boolean } }
features:
  histories:
    customer: { input: payments, key: customer, values: [amount] }
    terminal: { input: labels, key: terminal, values: [fraud] }
    crowd: { input: payments, key: terminal }
  columns:
    own: { window: mean, of: amount, history: customer, length: 1d }
    risk: { window: share, of: fraud, history: terminal, length: 7d, delay: 1d }
    busy: { window: count, history: crowd, length: 1h, approximate: true }
  vector: [amount, own, risk, busy]
featureLog: { topic: shop.vectors }
retention: { age: 3d }
cascade: { tiers: [{ model: m }] }
`

it('says what a pipeline makes, what its windows rest on, and what may go wrong', () => {
  const pipeline = parsePipeline(source, 'p.yaml')
  const report = pipelineReport(pipeline).join('\n')
  expect(report).toContain(`release   r2, schema ${pipeline.schemaHash}, definition of features ${pipeline.features.hash}`)
  expect(report).toContain('history   terminal: labels by terminal, kept for ')
  expect(report).toContain('windows   own over customer: exact: the history goes by the partition key')
  expect(report).toContain('windows   risk over terminal, delayed by 1d: exact for what is at most 18h out of order')
  expect(report).toContain('windows   busy over crowd: approximate: ')
  expect(report).toContain('alignment inputs wait for each other within 6h of event time, but not for one without records for 2s')
  expect(report).toContain('log       served vectors on shop.vectors')
  expect(report).toContain('segment   preprocessing reads payments, labels')
  expect(report).toContain('warning   busy: training and serving may differ')
  expect(report).toMatch(/warning {3}topics keep 3d and histories .*: a store that is lost cannot be made anew from the topics/)
})
