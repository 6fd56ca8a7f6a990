import { describe } from 'vitest'
import { sharedKafka } from '../../../test/brokers/shared.ts'
import { provesTheCircle } from './circle.ts'

const kafka = await sharedKafka()

describe.skipIf('skipped' in kafka)('on Kafka', () => {
  provesTheCircle(() => ({ kind: 'kafka', brokers: 'skipped' in kafka ? [] : kafka.brokers }))
})
