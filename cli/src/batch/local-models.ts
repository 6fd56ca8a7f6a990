import { tierModels } from '@spillway/cascade-router'
import { MeshError } from '@spillway/core'
import { maxLinkMessageBytes, type Pipeline } from '@spillway/mesh'
import { GrpcChannel } from '@spillway/rpc'
import { LocalModelClient, type ModelClient, ModelManager, OipModelClient } from '@spillway/serving'
import type { Telemetry } from '@spillway/telemetry'
import type { BatchParts } from './batch-process.ts'

/** The models of a batch run, by tier: in this process, but for those that the pipeline file has on a server of their own. */
export async function localModels(pipeline: Pipeline, telemetry: Telemetry, { begin }: BatchParts): Promise<(tier: number) => ModelClient> {
  const { tiers } = pipeline.cascade
  const own = tierModels(pipeline)
  const clients = new Map<string | undefined, ModelClient>()
  if (own.models.length > 0) {
    const manager = await begin(new ModelManager({ ...own, telemetry }))
    clients.set(undefined, new LocalModelClient(manager))
  }
  for (const { address } of tiers) {
    if (address === undefined || clients.has(address)) continue
    const channel = new GrpcChannel({ address, telemetry, maxMessageBytes: maxLinkMessageBytes })
    clients.set(address, await begin(new OipModelClient(channel)))
  }
  return (tier) => {
    const client = clients.get(tiers[tier]!.address)
    if (client === undefined) throw new MeshError('INTERNAL', `no model client for tier ${tier}`)
    return client
  }
}
