import type { NatsBus } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import { check } from '../checker/check.ts'
import { readNats } from '../checker/read-nats.ts'
import type { Report } from '../checker/report.ts'
import { type FraudNames, pipelineFacts } from './fraud-run.ts'

/** How many records lie on a topic that nothing was removed from; 0 where it is not made yet, or not all of its partitions. */
export async function writtenOn(bus: NatsBus, topic: string): Promise<number> {
  try {
    return (await bus.topics.offsets(topic)).reduce((sum, { end }) => sum + Number(end), 0)
  } catch (error) {
    if (error instanceof MeshError && error.code === 'NOT_FOUND') return 0
    throw error
  }
}

/** What the checker says of a finished run. */
export async function checkOnNats(servers: readonly string[], names: FraudNames): Promise<Report> {
  const read = (topic: string): ReturnType<typeof readNats> => readNats(servers, topic)
  return check({
    inputs: { [names.transactions]: await read(names.transactions), [names.labels]: await read(names.labels) },
    predictions: await read(names.predictions),
    deadLetters: await read(names.deadLetters),
    alerts: await read(names.alerts),
    pipeline: pipelineFacts(names),
    sample: 1000,
  })
}
