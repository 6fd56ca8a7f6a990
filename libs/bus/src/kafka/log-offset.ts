import { MeshError } from '@spillway/core'
import type { Cluster } from './kafkajs-cluster.ts'
import { partitionCount } from './produce.ts'

/** Where a partition's records begin, or where those end that are committed. */
export async function logOffset(
  cluster: Cluster,
  { topic, partition }: { readonly topic: string; readonly partition: number },
  at: 'earliest' | 'latest',
): Promise<bigint> {
  // A lost connection may have taken the metadata with it, and nothing may be wanted yet that would make the fetcher ask for it.
  await cluster.connect()
  await cluster.refreshMetadataIfNecessary()
  await partitionCount(cluster, topic)
  const [found] = await cluster.fetchTopicsOffset([{ topic, partitions: [{ partition }], fromBeginning: at === 'earliest' }])
  // kafkajs leaves out what its metadata does not know: a partition that was just made, say.
  const offset = found?.partitions[0]?.offset
  if (offset === undefined) throw new MeshError('UNAVAILABLE', `the brokers do not tell of partition ${partition} of "${topic}" yet`)
  return BigInt(offset)
}
