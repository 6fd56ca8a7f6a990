import kafkajs from 'kafkajs'
import { expect, test } from 'vitest'
import { bridgeLogger } from '../src/kafka/kafka-logger.ts'

const { ERROR, INFO, WARN } = kafkajs.logLevel

test('kafkajs warns of what nobody else tells: not of answers, which are thrown too, nor of its daily work', () => {
  const said: string[] = []
  const log = bridgeLogger({ debug: (_, text) => said.push(`debug ${text}`), warn: (_, text) => said.push(`warn ${text}`) })(INFO)
  const entry = (level: number, message: string): void =>
    log({ namespace: 'Connection', level, label: '', log: { message, timestamp: '', logger: 'kafkajs', error: 'why' } })
  entry(ERROR, 'Response AddPartitionsToTxn(key: 24, version: 1)')
  entry(ERROR, 'Connection error: read ECONNRESET')
  entry(WARN, 'The producer is slow')
  entry(INFO, 'Joined')
  expect(said).toEqual([
    'debug kafkajs Connection: Response AddPartitionsToTxn(key: 24, version: 1)',
    'warn kafkajs Connection: Connection error: read ECONNRESET',
    'warn kafkajs Connection: The producer is slow',
    'debug kafkajs Connection: Joined',
  ])
})
