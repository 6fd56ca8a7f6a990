import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { VersionPolicy } from '../../src/mod.ts'
import { type Action, aspiredVersions, newestFirst, nextAction, versionOf, type VersionView } from '../../src/lifecycle/version-policy.ts'

const version = fc.integer({ min: 1, max: 12 }).map(String)
const versions = fc.uniqueArray(version, { maxLength: 8 })
const policy: fc.Arbitrary<VersionPolicy> = fc.oneof(
  fc.record({ kind: fc.constant('latest' as const), count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('all' as const) }),
  fc.record({ kind: fc.constant('specific' as const), versions }),
)
const aspiration = fc.record({
  policy,
  available: versions,
  promoted: fc.option(version, { nil: undefined }),
  held: versions.map((held) => new Set(held)),
})

describe('a version', () => {
  test.each([
    ['00000123', '123'],
    ['1', '1'],
    ['0', undefined],
    ['', undefined],
    ['1a', undefined],
    ['-1', undefined],
    ['1.0', undefined],
    ['18446744073709551615', '18446744073709551615'],
    ['123456789012345678901', undefined],
  ])('that is written %s is %s', (text, expected) => expect(versionOf(text)).toBe(expected))

  test('is newer by number, however large', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.bigInt({ min: 1n, max: 10n ** 19n })), (numbers) => {
        const sorted = numbers.map(String).toSorted(newestFirst)
        expect(sorted).toEqual(numbers.toSorted((a, b) => (a < b ? 1 : -1)).map(String))
      }),
    )
  })
})

describe('the versions that should be served', () => {
  test('are there, newest first, each once', () => {
    fc.assert(
      fc.property(aspiration, (given) => {
        const aspired = aspiredVersions(given)
        expect(aspired.every((one) => given.available.includes(one))).toBe(true)
        expect(new Set(aspired).size).toBe(aspired.length)
        expect(aspired).toEqual(aspired.toSorted(newestFirst))
      }),
    )
  })

  test('have whatever is promoted or held, and is there', () => {
    fc.assert(
      fc.property(aspiration, (given) => {
        const aspired = aspiredVersions(given)
        for (const one of [...given.held, ...(given.promoted === undefined ? [] : [given.promoted])])
          expect(aspired.includes(one)).toBe(given.available.includes(one))
      }),
    )
  })

  test('are the newest N, the promoted one counting as the newest', () => {
    fc.assert(
      fc.property(versions, fc.integer({ min: 1, max: 4 }), fc.option(version, { nil: undefined }), (available, count, promoted) => {
        const aspired = aspiredVersions({ policy: { kind: 'latest', count }, available, promoted, held: new Set() })
        expect(aspired).toHaveLength(Math.min(count, available.length))
        const others = aspired.filter((one) => one !== promoted)
        const leftOut = available.filter((one) => !aspired.includes(one))
        for (const one of others) for (const old of leftOut) expect(Number(one)).toBeGreaterThan(Number(old))
      }),
    )
    const only = (promoted: string | undefined): readonly string[] =>
      aspiredVersions({ policy: { kind: 'latest', count: 1 }, available: ['1', '2', '3'], promoted, held: new Set() })
    expect(only(undefined)).toEqual(['3'])
    expect(only('1')).toEqual(['1'])
    expect(only('9')).toEqual(['3'])
  })

  test('are all, or the specific ones that are there', () => {
    fc.assert(
      fc.property(versions, versions, (available, named) => {
        const held = new Set<string>()
        const all = aspiredVersions({ policy: { kind: 'all' }, available, promoted: undefined, held })
        expect(new Set(all)).toEqual(new Set(available))
        const specific = aspiredVersions({ policy: { kind: 'specific', versions: named }, available, promoted: undefined, held })
        expect(new Set(specific)).toEqual(new Set(named.filter((one) => available.includes(one))))
      }),
    )
  })
})

const view: fc.Arbitrary<Omit<VersionView, 'version'>> = fc.record({
  aspired: fc.boolean(),
  state: fc.constantFrom('absent' as const, 'refused' as const, 'available' as const),
  changed: fc.boolean(),
})
const model: fc.Arbitrary<readonly VersionView[]> = fc
  .array(view, { maxLength: 6 })
  .map((views) => views.map((one, index) => ({ ...one, version: String(index + 1) })))

/** What the model is when the action has been done, the load being refused where `fails` says so. */
function after(views: readonly VersionView[], { kind, version: of }: Action, fails: boolean): readonly VersionView[] {
  return views.map((one) => {
    if (one.version !== of) return one
    if (kind === 'unload') return { ...one, state: 'absent' as const, changed: false }
    if (kind === 'reload') return { ...one, changed: false }
    return { ...one, state: fails ? ('refused' as const) : ('available' as const), changed: false }
  })
}

const available = (views: readonly VersionView[]): number => views.filter(({ state }) => state === 'available').length

describe('the next action', () => {
  test('brings the model to what should be served, in a bounded count of steps', () => {
    fc.assert(
      fc.property(model, (start) => {
        let views = start
        for (let step = 0; step <= start.length * 2; step++) {
          const action = nextAction(views)
          if (action === undefined) break
          views = after(views, action, false)
        }
        expect(nextAction(views)).toBeUndefined()
        const mayServe = views.some(({ aspired, state }) => aspired && state === 'available') || !views.some(({ aspired }) => aspired)
        for (const { aspired, state, changed } of views) {
          if (aspired) expect([state === 'absent', changed && state === 'available']).toEqual([false, false])
          else if (mayServe) expect(state).not.toBe('available')
        }
      }),
    )
  })

  test('never takes the last served version away while another is wanted, whichever loads fail', () => {
    fc.assert(
      fc.property(model, fc.infiniteStream(fc.boolean()), (start, failures) => {
        let views = start
        for (;;) {
          const action = nextAction(views)
          if (action === undefined) break
          const before = available(views)
          views = after(views, action, failures.next().value)
          if (before > 0 && views.some(({ aspired }) => aspired)) expect(available(views)).toBeGreaterThan(0)
        }
      }),
    )
  })

  test('unloads what is no longer wanted before it asks for more memory', () => {
    const views: VersionView[] = [
      { version: '1', aspired: false, state: 'available', changed: false },
      { version: '2', aspired: true, state: 'available', changed: false },
      { version: '3', aspired: true, state: 'absent', changed: false },
    ]
    expect(nextAction(views)).toEqual({ kind: 'unload', version: '1' })
  })
})
