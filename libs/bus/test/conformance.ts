import { describe } from 'vitest'
import { deliveryTests } from './conformance/delivery.ts'
import type { MakeHarness } from './conformance/fixture.ts'
import { instanceTests } from './conformance/instances.ts'
import { noteTests } from './conformance/notes.ts'
import { processTests } from './conformance/process.ts'
import { publishTests } from './conformance/publish.ts'
import { replayTests } from './conformance/replay.ts'
import { schedulingTests } from './conformance/scheduling.ts'
import { stampTests } from './conformance/stamp.ts'
import { subscribeTests } from './conformance/subscribe.ts'

export type { BusHarness, MakeHarness } from './conformance/fixture.ts'

/** What every adapter of the Bus port must do, whatever the log beneath it. */
export function busConformance(name: string, makeHarness: MakeHarness): void {
  describe(`${name}: bus conformance`, { timeout: 40_000 }, () => {
    publishTests(makeHarness)
    subscribeTests(makeHarness)
    processTests(makeHarness)
    deliveryTests(makeHarness)
    schedulingTests(makeHarness)
    stampTests(makeHarness)
    noteTests(makeHarness)
    replayTests(makeHarness)
    instanceTests(makeHarness)
  })
}
