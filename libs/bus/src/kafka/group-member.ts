import kafkajs from 'kafkajs'
import { assignPartitions } from '../assignment.ts'
import { isMembershipLost, protocolType } from './errors.ts'
import type { Membership } from './group-offsets.ts'
import { type Broker, type Cluster, coordinatorTypes } from './kafkajs-cluster.ts'

/** Name of the assignment in the group's protocol: members that do not know it cannot join the group. */
const protocolName = 'spillway-copartitioned'

const { MemberAssignment, MemberMetadata } = kafkajs.AssignerProtocol

export interface GroupMemberOptions {
  readonly group: string
  /** All with `partitions` partitions; partition `i` of each goes to the same member. */
  readonly topics: readonly string[]
  readonly partitions: number
  readonly sessionTimeoutMs: number
  /** How long the group waits for its members to join again. */
  readonly rebalanceTimeoutMs: number
}

export interface Assignment {
  readonly partitions: readonly number[]
  /** Those of them that another member had until now, and is about to leave. What nobody had who is in the group is not waited for. */
  readonly moving: readonly number[]
}

/** This process's place in a consumer group (Kafka protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup). */
export class GroupMember {
  readonly #cluster: Cluster
  readonly #options: GroupMemberOptions
  #coordinator: Broker | undefined
  #memberId = ''
  #generationId = -1

  constructor(cluster: Cluster, options: GroupMemberOptions) {
    this.#cluster = cluster
    this.#options = options
  }

  /** Undefined while it is no member. */
  get membership(): Membership | undefined {
    return this.#memberId === '' ? undefined : { groupGenerationId: this.#generationId, memberId: this.#memberId }
  }

  /** Joins, or joins again, and gives what this member now owns; `owned` is what it would keep. Another rebalance meanwhile starts it over. */
  async join(owned: readonly number[]): Promise<Assignment> {
    for (;;) {
      try {
        return await this.#joinOnce(owned)
      } catch (error) {
        const type = protocolType(error)
        if (type !== 'REBALANCE_IN_PROGRESS') {
          this.#coordinator = undefined
          throw error
        }
      }
    }
  }

  async #joinOnce(owned: readonly number[]): Promise<Assignment> {
    const { group, topics, sessionTimeoutMs, rebalanceTimeoutMs } = this.#options
    await this.#cluster.connect()
    const coordinator = (this.#coordinator ??= await this.#cluster.findGroupCoordinator({
      groupId: group,
      coordinatorType: coordinatorTypes.group,
    }))
    const metadata = MemberMetadata.encode({ version: 0, topics: [...topics], userData: encodeNumbers(owned) })
    const joined = await coordinator.joinGroup({
      groupId: group,
      memberId: this.#memberId,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: rebalanceTimeoutMs,
      groupProtocols: [{ name: protocolName, metadata }],
    })
    this.#memberId = joined.memberId
    this.#generationId = joined.generationId
    const { memberAssignment } = await coordinator.syncGroup({
      groupId: group,
      generationId: this.#generationId,
      memberId: this.#memberId,
      groupAssignment: joined.memberId === joined.leaderId ? this.#assign(joined.members) : [],
    })
    const assignment = memberAssignment.length === 0 ? null : MemberAssignment.decode(memberAssignment)
    return { partitions: assignment?.assignment[topics[0]!] ?? [], moving: numbersIn(assignment?.userData) }
  }

  #assign(
    members: readonly { readonly memberId: string; readonly memberMetadata: Buffer }[],
  ): { memberId: string; memberAssignment: Buffer }[] {
    const { topics, partitions } = this.#options
    const owners = members.map(({ memberId, memberMetadata }) => ({
      memberId,
      owned: numbersIn(MemberMetadata.decode(memberMetadata)?.userData),
    }))
    const ownerOf = new Map(owners.flatMap(({ memberId, owned }) => owned.map((partition) => [partition, memberId])))
    const isMoving = (to: string, partition: number): boolean => ![undefined, to].includes(ownerOf.get(partition))
    return Array.from(assignPartitions(partitions, owners), ([memberId, assigned]) => ({
      memberId,
      memberAssignment: MemberAssignment.encode({
        version: 0,
        assignment: Object.fromEntries(topics.map((topic) => [topic, [...assigned]])),
        userData: encodeNumbers(assigned.filter((partition) => isMoving(memberId, partition))),
      }),
    }))
  }

  /** Says that it lives. Resolves with whether the group wants its members to join again. @throws where the membership is lost, or the coordinator is away. */
  async heartbeat(): Promise<'stable' | 'rebalancing'> {
    const { group } = this.#options
    try {
      this.#coordinator ??= await this.#cluster.findGroupCoordinator({ groupId: group, coordinatorType: coordinatorTypes.group })
      await this.#coordinator.heartbeat({ groupId: group, groupGenerationId: this.#generationId, memberId: this.#memberId })
      return 'stable'
    } catch (error) {
      if (protocolType(error) === 'REBALANCE_IN_PROGRESS') return 'rebalancing'
      if (!isMembershipLost(error)) this.#coordinator = undefined
      throw error
    }
  }

  /** Forgets its membership: the next join is a newcomer's. */
  forget(): void {
    this.#memberId = ''
    this.#generationId = -1
  }

  async leave(): Promise<void> {
    const [memberId, coordinator] = [this.#memberId, this.#coordinator]
    this.forget()
    if (memberId !== '' && coordinator !== undefined) await coordinator.leaveGroup({ groupId: this.#options.group, memberId })
  }
}

function encodeNumbers(numbers: readonly number[]): Buffer {
  return Buffer.from(JSON.stringify(numbers))
}

/** What a member has said; nothing where it is another version's word. */
function numbersIn(userData: Buffer | undefined): readonly number[] {
  const text = userData?.toString() ?? ''
  return /^\[[\d,]*\]$/.test(text) ? (JSON.parse(text) as number[]) : []
}
