import kafkajs from 'kafkajs'

/** Resolves when a broker answers a request. */
export async function untilAnswers(brokers: readonly string[], timeoutMs: number): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], clientId: 'spillway-test-brokers', logLevel: kafkajs.logLevel.NOTHING, retry: { retries: 0 } })
  const endMs = Date.now() + timeoutMs
  for (;;) {
    const admin = kafka.admin()
    try {
      await admin.connect()
      const { brokers: nodes } = await admin.describeCluster()
      if (nodes.length > 0) return
    } catch (error) {
      if (Date.now() > endMs) throw new Error(`no answer from ${brokers.join(', ')} in ${timeoutMs} ms`, { cause: error })
    } finally {
      await admin.disconnect()
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
