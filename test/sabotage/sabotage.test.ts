import { describe, expect, test } from 'vitest'
import { finalLine, isKept } from '../chaos/verdict.ts'
import { isClean, type Report, summary } from '../checker/report.ts'
import { fraudEvents } from '../e2e/fraud-run.ts'
import { embeddedRun } from './embedded-run.ts'
import { committingEarly, ForgetfulStore, overtaking, withoutTransactions } from './saboteurs.ts'

const transactionCount = 3000

/** What `npm run chaos` would have said of such a run. */
function chaosSays(report: Report): { readonly kept: boolean; readonly line: string } {
  const outcome = { name: 'embedded', seed: 1, faults: [], report, stuck: [], badDrains: [] }
  return { kept: isKept(outcome), line: finalLine(outcome) }
}

/** A checker that passes everything proves nothing: each promise is broken once, and must be missed. */
describe('the checker, given a run in which', () => {
  const events = fraudEvents(transactionCount)

  test('all went well, finds nothing', async () => {
    const report = await embeddedRun(events)
    expect(isClean(report), summary(report)).toBe(true)
    expect(report).toMatchObject({ inputs: transactionCount, predictions: transactionCount, scoresChecked: transactionCount })
    expect(report.byTier['fraud-heavy']).toBeGreaterThan(0)
    expect(chaosSays(report)).toEqual({ kept: true, line: 'embedded: 0 faults, 0 lost, 0 duplicated, 0 mismatched: OK (seed 1)' })
  })

  test('outputs were published outside the transaction, and a slice failed before its position was stored, finds duplicates', async () => {
    const report = await embeddedRun(events, { bus: withoutTransactions(5) })
    expect(report.duplicated.count, summary(report)).toBeGreaterThan(0)
    expect(report.lost.count).toBe(0)
    expect(chaosSays(report)).toEqual({ kept: false, line: expect.stringMatching(/ 0 lost, [1-9]\d* duplicated, .*: FAILED/) as string })
  })

  test('a position was stored before the outputs, and these were lost, finds them missing', async () => {
    const report = await embeddedRun(events, { bus: committingEarly(5) })
    expect(report.lost.count, summary(report)).toBeGreaterThan(0)
    expect(report.duplicated.count).toBe(0)
    expect(chaosSays(report)).toEqual({ kept: false, line: expect.stringMatching(/ [1-9]\d* lost, 0 duplicated, .*: FAILED/) as string })
  })

  test('a slice’s outputs landed behind those of the next, finds them out of order', async () => {
    const report = await embeddedRun(events, { bus: overtaking(5) })
    expect(report.outOfOrder.count, summary(report)).toBeGreaterThan(0)
    expect([report.lost.count, report.duplicated.count]).toEqual([0, 0])
  })

  test.each(['customer', 'terminal'])('one write to the %s history was lost, finds wrong scores', async (history) => {
    const report = await embeddedRun(events, { store: (store, plan) => new ForgetfulStore(store, plan, history, 3) })
    expect(report.wrongScores.count, summary(report)).toBeGreaterThan(0)
    // Every row that missed the entry shows it, also where the score came out the same.
    expect(report.wrongFeatures.count, summary(report)).toBeGreaterThanOrEqual(report.wrongScores.count)
    expect(chaosSays(report)).toEqual({
      kept: false,
      line: expect.stringMatching(/ 0 lost, 0 duplicated, [1-9]\d* mismatched: FAILED/) as string,
    })
    expect([report.lost.count, report.duplicated.count]).toEqual([0, 0])
  })
})
