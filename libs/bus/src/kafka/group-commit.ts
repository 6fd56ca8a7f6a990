import { randomUUID } from 'node:crypto'
import { MeshError } from '@spillway/core'
import { comeAgain } from './come-again.ts'
import { type Broker, type Cluster, coordinatorTypes } from './kafkajs-cluster.ts'
import { merged, produce, type ProduceBatch, type ProducerIdentity, rounds, Sequences } from './produce.ts'
import { SharedRequests } from './shared-requests.ts'

/** What one input partition commits: part of a transaction. */
export interface Share {
  /** The first is its position. */
  readonly batches: readonly ProduceBatch[]
  /** The offset that its position must land at; undefined where it may be any. */
  readonly landing: bigint | undefined
  /** It has failed before: it must not fail others with it. */
  readonly isAlone: boolean
}

interface Waiting extends Share {
  readonly bytes: number
  readonly done: PromiseWithResolvers<void>
}

/** A transactional id as it was begun. */
interface Producer {
  readonly identity: ProducerIdentity & { readonly transactionalId: string }
  readonly coordinator: Broker
  readonly sequences: Sequences
}

/** A time in which every transaction came to its end. After the first that did not, it is over: what had been read in it may no longer hold. */
export interface Session {
  /** The next transaction is the first one's. */
  readonly producers: Producer[]
  /** Why it is over. */
  failure: { readonly error: unknown } | undefined
}

export interface GroupCommitOptions {
  /** For its transactions alone: what is asked of topics by name on it leaves its metadata without the others. */
  readonly cluster: Cluster
  readonly group: string
  /** The largest record batch that a topic takes, as far as that is known. */
  batchBytes(topic: string): number
  /** Ends its waiting for the coordinator. */
  readonly signal: AbortSignal
}

/**
 * Transactional ids of a process, which take turns: while a broker still writes the markers of a transaction that is decided, it lets no other begin by the same id. With one id
 * a transaction took 1.6 times as long.
 */
const turns = 2
/** Of a transaction of several partitions; one alone may be larger. */
const maxTransactionBytes = 8 << 20

/**
 * The transactions of a process, one after the other: what its input partitions have ready while one is being committed goes together in the next, so that a
 * partition waits for two transactions at most, however many partitions there are. Their ids are the process's own, and new with each process: who takes a partition over
 * finds whose it was in the position there, and ends them (`fence`).
 */
export class GroupCommit {
  readonly cluster: Cluster
  /** What its transactional ids begin with, after the group. */
  readonly owner: string = randomUUID()
  readonly #options: GroupCommitOptions
  #session: Promise<Session> | undefined
  readonly #waiting: Waiting[] = []
  #isRunning = false
  readonly #fences = new SharedRequests<string, readonly Producer[]>()

  constructor(options: GroupCommitOptions) {
    this.#options = options
    this.cluster = options.cluster
  }

  /** The session that goes on, or a new one: resolves when nothing that was begun before it can still commit. */
  async open(): Promise<Session> {
    this.#session ??= this.#begin().catch((error: unknown) => {
      this.#session = undefined
      throw error
    })
    return this.#session
  }

  async #begin(): Promise<Session> {
    const producers = await this.#initialise(this.owner)
    // What ended the session before may have been that another broker leads a partition now.
    await this.cluster.refreshMetadata()
    return { producers, failure: undefined }
  }

  /** InitProducerId ends what another has begun with an id, and leaves that one unable to commit. */
  async #initialise(owner: string): Promise<Producer[]> {
    await this.cluster.connect()
    return Promise.all(Array.from({ length: turns }, async (_, turn) => this.#producer(`${this.#options.group}-${owner}-${turn}`)))
  }

  #producer(transactionalId: string): Promise<Producer> {
    return comeAgain(async () => {
      const coordinator = await this.cluster.findGroupCoordinator({
        groupId: transactionalId,
        coordinatorType: coordinatorTypes.transaction,
      })
      const { producerId, producerEpoch } = await coordinator.initProducerId({ transactionalId, transactionTimeout: 60_000 })
      return { coordinator, identity: { producerId, producerEpoch, transactionalId }, sequences: new Sequences() }
    }, this.#options.signal)
  }

  /** Ends another process's session: resolves when nothing that it has begun can still commit. It may begin a new one, in which it looks its positions up again. */
  async fence(owner: string): Promise<void> {
    await this.#fences.ask(owner, () => this.#initialise(owner))
  }

  /** Resolves when the share is committed. Rejects where it may not be, or where the session is over: then it is, for all. */
  commit(session: Session, share: Share): Promise<void> {
    if (session.failure !== undefined) return Promise.reject(session.failure.error)
    const done = Promise.withResolvers<void>()
    const bytes = share.batches.reduce((sum, batch) => sum + batch.bytes, 0)
    this.#waiting.push({ ...share, bytes, done })
    if (!this.#isRunning) void this.#run(session)
    return done.promise
  }

  async #run(session: Session): Promise<void> {
    this.#isRunning = true
    // What is ready in this turn of the event loop goes together.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#waiting.length > 0) {
      const shares = this.#take()
      try {
        const producer = session.producers.shift()!
        session.producers.push(producer)
        await this.#transact(producer, shares)
        for (const { done } of shares) done.resolve()
      } catch (error) {
        session.failure = { error }
        this.#session = undefined
        for (const { done } of [...shares, ...this.#waiting.splice(0)]) done.reject(error)
      }
    }
    this.#isRunning = false
  }

  #take(): readonly Waiting[] {
    let [count, bytes] = [0, 0]
    for (const { isAlone, bytes: more } of this.#waiting) {
      if (count > 0 && (isAlone || this.#waiting[0]!.isAlone || bytes + more > maxTransactionBytes)) break
      count++
      bytes += more
    }
    return this.#waiting.splice(0, count)
  }

  async #transact({ identity, coordinator, sequences }: Producer, shares: readonly Share[]): Promise<void> {
    const batches = merged(
      shares.flatMap((share) => share.batches),
      (topic) => this.#options.batchBytes(topic),
    )
    await comeAgain(() => coordinator.addPartitionsToTxn({ ...identity, topics: partitionsByTopic(batches) }), this.#options.signal)
    const landed = new Map<ProduceBatch, bigint>()
    for (const round of rounds(batches)) {
      const offsets = await produce(
        this.cluster,
        identity,
        round.map((batch) => sequences.take(batch)),
      )
      for (const [i, batch] of round.entries()) landed.set(batch, offsets[i]!)
    }
    for (const share of shares) checkLanding(share, landed)
    await coordinator.endTxn({ ...identity, transactionResult: true })
  }
}

/** Another has written there since the position was read, or a leader that had been deposed and did not know it has shown an earlier one as the last. */
function checkLanding({ batches, landing }: Share, landed: ReadonlyMap<ProduceBatch, bigint>): void {
  const { topic, partition } = batches[0]!
  const offset = landed.get(batches[0]!)
  if (landing !== undefined && offset !== landing)
    throw new MeshError(
      'UNAVAILABLE',
      `the position on "${topic}"/${partition} landed at ${offset}, expected ${landing}: it is looked up again`,
    )
}

function partitionsByTopic(batches: readonly ProduceBatch[]): { readonly topic: string; readonly partitions: readonly number[] }[] {
  const topics = Map.groupBy(batches, (batch) => batch.topic)
  return Array.from(topics, ([topic, of]) => ({ topic, partitions: [...new Set(of.map((batch) => batch.partition))] }))
}
