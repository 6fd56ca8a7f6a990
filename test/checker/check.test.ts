import { beforeAll, describe, expect, it } from 'vitest'
import { check } from './check.ts'
import { changed, deadLetter, fabricate, runOf } from './fabricated-run.ts'
import { featureNames, Features, readTransaction } from './features.ts'
import type { CheckedRecord } from './record.ts'
import { findings, isClean, type Report, summary } from './report.ts'

type Parts = Awaited<ReturnType<typeof fabricate>>

let faultless: Parts

beforeAll(async () => {
  faultless = await fabricate()
})

/** The faultless run with one change made to a copy of it, checked. */
async function spoiled(change: (parts: Parts) => void): Promise<Report> {
  const parts = structuredClone(faultless)
  change(parts)
  return check(runOf(parts))
}

function found(report: Report): Record<string, number> {
  return Object.fromEntries(findings.filter((name) => report[name].count > 0).map((name) => [name, report[name].count]))
}

function indexOf(parts: Parts, id: number): number {
  return parts.predictions.findIndex((record) => record.headers?.['ce_id'] === String(id))
}

function transactionAt(id: number, time: string, amount: number): object {
  return { transaction_id: id, customer_id: 1, terminal_id: 7, amount, tx_datetime: time }
}

function labelAt(id: number, time: string, fraud: boolean): object {
  return { transaction_id: id, terminal_id: 7, tx_datetime: time, fraud }
}

function recordAt(offset: number, event: object): CheckedRecord {
  return { partition: 0, offset, key: '1', value: JSON.stringify(event) }
}

function lane(record: CheckedRecord): string {
  const { id, tier } = JSON.parse(record.value) as { id: string; tier: string }
  return `${Number(id) % 4} ${tier}`
}

describe('a faultless run', () => {
  it('is clean, and its counts are said', async () => {
    const report = await spoiled(() => undefined)
    expect(found(report)).toEqual({})
    expect(isClean(report)).toBe(true)
    expect(report).toMatchObject({ inputs: 160, predictions: 159, deadLetters: 1, historyDeadLetters: 0, scoresChecked: 159, degraded: 0 })
    expect(Object.keys(report.byTier).sort()).toEqual(['fraud-cheap', 'fraud-heavy'])
    expect(report.alerts).toBeGreaterThan(0)
    expect(summary(report)).toContain('lost 0, duplicated 0')
  })

  it('may answer two inputs of one id twice', async () => {
    const report = await spoiled(({ transactions, predictions, alerts }) => {
      const repeated = { ...transactions[0]!, offset: 1000 }
      transactions.push(repeated)
      predictions.push({ ...predictions[0]!, offset: 1000 })
      alerts.push(...alerts.filter((alert) => alert.headers?.['ce_id'] === '0'))
    })
    expect(found(report)).not.toHaveProperty('duplicated')
    expect(found(report)).not.toHaveProperty('lost')
  })

  it('may have a dead letter of a row that no topic took: it is in no output, and in the history of those after it', async () => {
    const report = await spoiled((parts) => {
      const [alert] = parts.alerts
      const id = alert!.headers!['ce_id']
      const source = parts.transactions.find(({ value }) => value.includes(`"transaction_id":${id},`))!
      parts.alerts.shift()
      parts.predictions.splice(indexOf(parts, Number(id)), 1)
      parts.deadLetters.push({ ...deadLetter(source, 'sink alerts'), offset: 1 })
    })
    expect(found(report)).toEqual({})
    expect(report).toMatchObject({ inputs: 160, predictions: 158, deadLetters: 2 })
  })

  it('may be read without headers', async () => {
    const report = await spoiled((parts) => {
      parts.deadLetters = parts.deadLetters.map(({ partition, offset, key, value }) => ({ partition, offset, key, value }))
    })
    expect(found(report)).toEqual({})
  })
})

describe('a planted defect is found, and nothing else', () => {
  it('a lost prediction', async () => {
    const report = await spoiled((parts) => parts.predictions.splice(indexOf(parts, 17), 1))
    expect(found(report)).toEqual({ lost: 1 })
    expect(report.lost.examples[0]).toContain('transaction 17 ')
  })

  it('a lost dead letter', async () => {
    expect(found(await spoiled((parts) => parts.deadLetters.pop()))).toEqual({ lost: 1 })
  })

  it('a repeated prediction', async () => {
    const report = await spoiled((parts) => parts.predictions.push({ ...parts.predictions[indexOf(parts, 17)]!, offset: 5000 }))
    expect(found(report)).toEqual({ duplicated: 1 })
  })

  it('a repeated dead letter', async () => {
    expect(found(await spoiled((parts) => parts.deadLetters.push({ ...parts.deadLetters[0]!, offset: 1 })))).toEqual({ duplicated: 1 })
  })

  it('a prediction beside a dead letter', async () => {
    const report = await spoiled((parts) => {
      const [prediction] = parts.predictions
      const source = parts.transactions.find(({ value }) => value.includes(`"transaction_id":${prediction!.headers!['ce_id']},`))!
      parts.deadLetters.push({ ...deadLetter(source, 'sink alerts'), offset: 1 })
    })
    expect(found(report)).toEqual({ duplicated: 1 })
  })

  it('a prediction of no input', async () => {
    const report = await spoiled((parts) =>
      parts.predictions.push(changed({ ...parts.predictions[3]!, offset: 5000 }, { transaction_id: 999 })),
    )
    expect(found(report)).toEqual({ unexpected: 1 })
  })

  it('two predictions of a customer and tier that changed places', async () => {
    const report = await spoiled(({ predictions }) => {
      const first = predictions.findIndex((record, index) => predictions.slice(index + 1).some((later) => lane(later) === lane(record)))
      const second = predictions.findIndex((record, index) => index > first && lane(record) === lane(predictions[first]!))
      const [a, b] = [predictions[first]!, predictions[second]!]
      predictions[first] = { ...b, offset: a.offset }
      predictions[second] = { ...a, offset: b.offset }
    })
    expect(Object.keys(found(report))).toEqual(['outOfOrder'])
  })

  it('a score that is off by 0.00001', async () => {
    const report = await spoiled(({ predictions }) => {
      const score = (JSON.parse(predictions[9]!.value) as { score: number }).score
      predictions[9] = changed(predictions[9]!, { score: score + 1e-5 })
    })
    expect(found(report)).toEqual({ wrongScores: 1 })
    expect(report.wrongScores.examples[0]).toContain('transaction 9:')
  })

  it('a row that the wrong tier answered', async () => {
    const report = await spoiled(({ predictions }) => {
      const escalated = predictions.findIndex((record) => record.value.includes('fraud-heavy'))
      predictions[escalated] = changed(predictions[escalated]!, { tier: 'fraud-cheap', reason: 'accepted-below' })
    })
    expect(found(report)).toEqual({ wrongScores: 1 })
  })

  it('history that was never written: scores after it are wrong', async () => {
    const report = await spoiled(({ transactions, labels }) => {
      transactions[40] = changed(transactions[40]!, { amount: 77_777 })
      labels.splice(0, 60)
    })
    expect(report.wrongScores.count).toBeGreaterThan(5)
  })

  it('a decision against the score', async () => {
    const report = await spoiled((parts) => {
      const at = parts.predictions.findIndex((record) => record.value.includes('"decision":false'))
      parts.predictions[at] = changed(parts.predictions[at]!, { decision: true })
      parts.alerts.push(parts.predictions[at]!)
    })
    expect(found(report)).toEqual({ wrongContent: 1 })
  })

  it('a copied field that differs', async () => {
    expect(found(await spoiled(({ predictions }) => (predictions[5] = changed(predictions[5]!, { amount: 1 }))))).toEqual({
      wrongContent: 1,
    })
  })

  it('an alert missing, and one too many', async () => {
    expect(found(await spoiled(({ alerts }) => alerts.pop()))).toEqual({ wrongAlerts: 1 })
    expect(found(await spoiled(({ alerts }) => alerts.push(alerts[0]!)))).toEqual({ wrongAlerts: 1 })
  })

  it('a dead letter with other bytes, and one without a reason', async () => {
    const otherBytes = await spoiled(({ deadLetters }) => (deadLetters[0] = { ...deadLetters[0]!, value: '{}' }))
    expect(found(otherBytes)).toEqual({ wrongDeadLetters: 1 })
    const silent = await spoiled(
      ({ deadLetters }) => (deadLetters[0] = { ...deadLetters[0]!, headers: { ...deadLetters[0]!.headers, 'spillway-message': '' } }),
    )
    expect(found(silent)).toEqual({ wrongDeadLetters: 1 })
  })
})

describe('a run that shows its features', () => {
  const shown = async (change: (features: Record<string, number>) => void): Promise<Report> => {
    const parts = structuredClone(faultless)
    const features = new Features(
      parts.transactions.map(readTransaction).filter((each) => each !== undefined),
      parts.labels,
    )
    parts.predictions = parts.predictions.map((prediction) => {
      const transaction = readTransaction(
        parts.transactions.find(({ value }) => value.includes(`"transaction_id":${prediction.headers!['ce_id']},`))!,
      )!
      const values = features.of(transaction)
      const named = Object.fromEntries(featureNames.map((name, index) => [name, values[index]!]))
      if (transaction.id === '30') change(named)
      return changed(prediction, { features: named })
    })
    const run = runOf(parts)
    return check({ ...run, pipeline: { ...run.pipeline, showsFeatures: true } })
  }

  it('has them compared', async () => {
    const report = await shown(() => undefined)
    expect(found(report)).toEqual({})
    expect(report.featuresChecked).toBe(159)
  })

  it('fails for one that is off, and for one that is missing', async () => {
    expect(found(await shown((features) => (features['terminal_count_7d']! += 1)))).toEqual({ wrongFeatures: 1 })
    expect(found(await shown((features) => delete features['amount']))).toEqual({ wrongFeatures: 1 })
  })
})

describe('what is known from outside', () => {
  it('an acknowledged input that is not on its topic is lost', async () => {
    const run = runOf(structuredClone(faultless))
    const acknowledged = [0, 2, 9000].map((offset) => ({ topic: 'transactions', partition: 0, offset }))
    expect(found(await check({ ...run, acknowledged }))).toEqual({ lost: 1 })
  })

  it('a dead letter of a good event is wrong', async () => {
    const run = runOf(structuredClone(faultless))
    expect(found(await check({ ...run, mayBeDead: () => false }))).toEqual({ wrongDeadLetters: 1 })
    expect(found(await check({ ...run, mayBeDead: (_topic, { value }) => value.startsWith('{"transaction_id": 159') }))).toEqual({})
  })
})

describe('the features, against numbers worked out by hand', () => {
  it('counts (t - w, t] for the customer and (t - 7 d - w, t - 7 d] for the terminal', () => {
    const transactions = [
      transactionAt(0, '2018-05-05T05:00:00.000Z', 100),
      transactionAt(1, '2018-05-28T05:00:00.001Z', 10),
      transactionAt(2, '2018-06-02T05:00:00.000Z', 20),
      transactionAt(3, '2018-06-03T05:00:00.000Z', 30),
      // On the partition behind the one that is asked about: not seen, though its time is earlier.
      transactionAt(4, '2018-06-03T04:00:00.000Z', 1000),
    ].map((event, offset) => readTransaction(recordAt(offset, event))!)
    const labels = [
      labelAt(9, '2018-05-27T05:00:00.000Z', true),
      labelAt(8, '2018-05-26T05:00:00.000Z', false),
      labelAt(7, '2018-05-27T05:00:00.001Z', true),
      labelAt(6, '2018-04-28T05:00:00.000Z', true),
    ].map((event, offset) => recordAt(offset, event))
    const values = new Features(transactions, labels).of(transactions[3]!)
    // A Sunday at five: weekend, night. The day-old and the label a millisecond too young lie outside.
    expect([...values]).toEqual([30, 1, 1, 1, 30, 3, 20, 4, 40, 1, 1, 2, 0.5, 3, Math.fround(2 / 3)])
  })
})
