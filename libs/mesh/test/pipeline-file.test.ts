import { MeshError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { compileGraph, hostedStages, parsePipeline, pipelineTopics } from '../src/mod.ts'

const minimal = `
pipeline: churn
inputs:
  visits:
    id: visit_id
    key: user
    fields: { visit_id: integer, user: string, age: number, clicks: integer }
features: { vector: [age, clicks] }
cascade:
  tiers: [{ model: churn }]
`

const twoTiers = `
pipeline: fraud
inputs:
  transactions:
    key: customer
    time: at
    fields: { customer: integer, terminal: integer, amount: number, at: timestamp }
  labels:
    predict: false
    key: terminal
    time: at
    fields: { terminal: integer, at: timestamp, fraud: boolean }
features:
  histories: { terminal: { input: labels, key: terminal, values: [fraud] } }
  columns: { risk: { window: share, of: fraud, history: terminal, length: 7d, delay: 7d } }
  vector: [amount, risk]
cascade:
  tiers: [{ model: cheap, accept: { below: 0.1 } }, { model: heavy }]
placement: { features: topic, escalations: topic, scored: topic, models: grpc }
`

function refusal(source: string): string {
  try {
    parsePipeline(source, 'p.yaml')
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError)
    expect((error as MeshError).code).toBe('INVALID_ARGUMENT')
    return (error as MeshError).message
  }
  throw new Error('the file was accepted')
}

describe('a pipeline file', () => {
  test('of ten lines is a pipeline, with every default in place', () => {
    const pipeline = parsePipeline(minimal, '/somewhere/p.yaml')
    expect(pipeline.inputs.get('visits')).toMatchObject({ topic: 'visits', predict: true })
    expect(pipeline.features.vector.names).toEqual(['age', 'clicks'])
    expect(pipeline.modelsPath).toBe('/somewhere/models')
    expect(pipeline.deadLetterTopic).toBe('churn.dead-letters')
    expect(pipeline.deadline.withinMs).toBe(Infinity)
  })

  test.each([
    ['', { withinMs: Infinity, late: 'degrade' }],
    ['deadline: 2s\n', { withinMs: 2000, late: 'degrade' }],
    ['deadline: { within: 2s, late: wait }\n', { withinMs: 2000, late: 'wait' }],
    ['deadline: { late: refuse }\n', { withinMs: Infinity, late: 'refuse' }],
  ])('%j gives a deadline', (line, deadline) => {
    expect(parsePipeline(minimal + line, 'p.yaml').deadline).toEqual(deadline)
  })

  test.each<[string, string, RegExp]>([
    [
      'an unknown setting',
      minimal.replace('pipeline: churn', 'pipeline: churn\npartition: 4'),
      /^p\.yaml:3: partition: there is no such setting: expected one of pipeline, release, partitions, .*groups$/,
    ],
    [
      'an unknown setting of a tier',
      minimal.replace(/tiers: .*/, 'tiers: [{ model: a, accept: { bellow: 0.1 } }, { model: b }]'),
      /^p\.yaml:\d+: cascade\.tiers\.0\.accept\.bellow: there is no such setting: expected one of below, above$/m,
    ],
    [
      'an unknown setting of a link',
      minimal + 'placement: { feature: local }\n',
      /^p\.yaml:11: placement\.feature: there is no such setting: expected one of features, escalations, scored, models$/,
    ],
    [
      'an unknown setting of an input',
      minimal.replace('fields:', 'ids: x\n    fields:'),
      /^p\.yaml:\d+: inputs\.visits\.ids: there is no such setting: expected one of .*id, key, time/,
    ],
    [
      'an unknown setting of what may be short',
      minimal + 'featureLog: { topics: x }\n',
      /^p\.yaml:11: featureLog\.topics: there is no such setting: expected one of topic, calls$/,
    ],
    ['a wrong type', minimal.replace('pipeline: churn', 'pipeline: churn\npartitions: many'), /^p\.yaml:3: partitions: .*number/],
    ['a missing part', minimal.replace(/cascade:[^]*/, ''), /^p\.yaml:?\d*: cascade: /],
    [
      'an unknown field type',
      minimal.replace('age: number', 'age: float'),
      /^p\.yaml:7: inputs\.visits\.fields\.age.*: .*string, number, integer, boolean or timestamp/,
    ],
    ['an unknown field in the vector', minimal.replace('[age, clicks]', '[age, clcks]'), /^p\.yaml:8: features\.vector.*clcks/],
    ['an unknown link', minimal + 'placement: { features: http }\n', /^p\.yaml:11: placement\.features: .*local/],
    [
      'order per key over a topic that escalated rows wait on',
      minimal.replace(/tiers: .*/, 'tiers: [{ model: a, accept: { below: 0.1 } }, { model: b }]') +
        'placement: { escalations: topic }\nordering: per-key\n',
      /^p\.yaml:12: ordering: "per-key" cannot be kept.*make it "escalations: local"/,
    ],
    [
      'a first tier that is to degrade',
      minimal.replace(/tiers: .*/, 'tiers: [{ model: a, whenUnavailable: degrade }]'),
      /^p\.yaml:\d+: cascade\.tiers\.0\.whenUnavailable: the first tier has no tier before it/,
    ],
    [
      'a deadline that is neither',
      minimal + 'deadline: { late: never }\n',
      /^p\.yaml:11: deadline\.late: choose "degrade" .*"wait" .*"refuse"/,
    ],
    [
      'escalation over gRPC',
      minimal + 'placement: { escalations: grpc }\n',
      /^p\.yaml:11: placement\.escalations: choose "topic".*or "local"/,
    ],
    [
      'an included field that no event has',
      minimal + 'outputs: { predictions: { include: [name] } }\n',
      /^p\.yaml:11: outputs\.predictions\.include\[0\]: .*"name".*visit_id, user, age, clicks/,
    ],
    [
      'an included field that predictions have themselves',
      minimal.replace('clicks: integer', 'clicks: integer, score: number') + 'outputs: { predictions: { include: [score] } }\n',
      /^p\.yaml:11: outputs\.predictions\.include\[0\]: predictions have a "score" of their own/,
    ],
    [
      'another name for a link that there is not',
      minimal + 'topics: { feature: x }\n',
      /^p\.yaml:11: topics\.feature: .*choose among features, scored/,
    ],
    [
      'an internal topic that is an output too',
      minimal + 'topics: { features: predictions }\n',
      /^p\.yaml:11: topics\.features: topic "predictions" is taken/,
    ],
    [
      'two users of one topic',
      minimal + 'outputs: { alerts: { topic: visits } }\n',
      /^p\.yaml:11: outputs\.alerts\.topic: topic "visits" is taken by inputs\.visits/,
    ],
    [
      'a tier without thresholds',
      minimal.replace('[{ model: churn }]', '[{ model: a }, { model: b }]'),
      /^p\.yaml:10: cascade\.tiers\.0: every tier but the last needs/,
    ],
    [
      'a feature shown that the vector has not',
      minimal + 'outputs: { predictions: { features: [age, clcks] } }\n',
      /^p\.yaml:11: outputs\.predictions\.features\[1\]: the vector has no "clcks": choose among age, clicks/,
    ],
    [
      'a feature log on a topic of its own inputs',
      minimal + 'featureLog: { topic: visits }\n',
      /^p\.yaml:11: featureLog\.topic: topic "visits" is taken by inputs\.visits/,
    ],
    ['a feature log that is none', minimal + 'featureLog: yes please\n', /^p\.yaml:11: featureLog: write true, or settings/],
    ['a bad duration', minimal + 'deadline: 5 minutes\n', /^p\.yaml:11: deadline\.within: "5 minutes" is no duration/],
    ['YAML that is none', 'pipeline: [', /^p\.yaml: not valid YAML: .*line 1/s],
    ['an empty file', '', /^p\.yaml: (the file|pipeline): /],
  ])('with %s is refused, naming line, path and what would be right', (_, source, message) => {
    expect(refusal(source)).toMatch(message)
  })
})

describe('the graph of a pipeline', () => {
  test('is cut into segments at its topic links', () => {
    const graph = compileGraph(parsePipeline(twoTiers, 'p.yaml'))
    expect(graph.segments.map(({ name, sources, group }) => [name, group, sources.map(({ topic }) => topic)])).toEqual([
      ['preprocessing', 'fraud.preprocessing', ['transactions', 'labels']],
      ['cascade-router', 'fraud.cascade-router', ['fraud.features']],
      ['postprocessing', 'fraud.postprocessing', ['fraud.scored']],
      ['cascade-router.tier-2', 'fraud.cascade-router.tier-2', ['fraud.tier-2']],
    ])
  })

  test('has its feature log between the features and the first tier, on a topic that is internal', () => {
    const pipeline = parsePipeline(`${twoTiers}featureLog: true\n`, 'p.yaml')
    const graph = compileGraph(pipeline)
    expect(graph.stages.get('preprocessing.transactions')!.edges.get('features')).toMatchObject({ stage: 'feature-log', link: 'local' })
    const edges = Object.fromEntries(graph.stages.get('feature-log')!.edges)
    expect(edges).toMatchObject({ rows: { stage: 'tier-1', link: 'topic' }, log: { to: 'output', topic: 'fraud.feature-log' } })
    expect(pipelineTopics(pipeline, graph)).toContainEqual({ name: 'fraud.feature-log', internal: true })
    expect([...hostedStages(graph, new Set(['preprocessing']))]).toContain('feature-log')
  })

  test('is one segment where every link is local', () => {
    const graph = compileGraph(parsePipeline(twoTiers.replace(/placement:.*/, ''), 'p.yaml'))
    expect(graph.segments.map(({ name }) => name)).toEqual(['preprocessing'])
  })

  test('a process hosts its service’s stages and what these reach over local links', () => {
    const graph = compileGraph(parsePipeline(twoTiers.replace('scored: topic', 'scored: local'), 'p.yaml'))
    expect([...hostedStages(graph, new Set(['cascade-router']))]).toEqual(['tier-1', 'postprocessing', 'tier-2'])
    expect([...hostedStages(graph, new Set(['preprocessing']))]).toEqual(['preprocessing.transactions', 'preprocessing.labels'])
  })
})
