import { type Code, MeshError } from '@spillway/core'

/** What kafkajs puts on its errors: `type` is the protocol's name of the error. */
interface KafkaFailure {
  readonly name?: string
  readonly type?: string
  readonly message?: string
  readonly code?: unknown
  readonly retriable?: boolean
  readonly cause?: unknown
}

function chain(thrown: unknown): readonly KafkaFailure[] {
  const found: KafkaFailure[] = []
  for (let next = thrown; typeof next === 'object' && next !== null && found.length < 8; next = (next as KafkaFailure).cause)
    found.push(next as KafkaFailure)
  return found
}

/** The protocol's name of an error; undefined where it is none of the protocol. */
export function protocolType(thrown: unknown): string | undefined {
  return chain(thrown).find((failure) => failure.type !== undefined)?.type
}

/** Another producer with the same transactional id has begun. kafkajs does not know PRODUCER_FENCED (90), which newer brokers say for it. */
export function isFenced(thrown: unknown): boolean {
  return chain(thrown).some((failure) => failure.type === 'INVALID_PRODUCER_EPOCH' || failure.message === 'Unknown error code 90')
}

/** A topic takes no batch as large as one that it was given. */
export function isTooLarge(thrown: unknown): boolean {
  const type = protocolType(thrown)
  return type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE'
}

/** The group no longer knows this member: what it owned is another's. */
export function isMembershipLost(thrown: unknown): boolean {
  const type = protocolType(thrown)
  return type === 'UNKNOWN_MEMBER_ID' || type === 'ILLEGAL_GENERATION' || type === 'FENCED_INSTANCE_ID'
}

const comeAgainTypes: ReadonlySet<string> = new Set([
  'CONCURRENT_TRANSACTIONS',
  'GROUP_LOAD_IN_PROGRESS',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'NOT_COORDINATOR_FOR_GROUP',
])

/** A coordinator is still finishing what went before, or is not ready yet: it asks to be asked again soon. */
export function asksToComeAgain(thrown: unknown): boolean {
  return comeAgainTypes.has(protocolType(thrown) ?? '')
}

const brokerAwayTypes: ReadonlySet<string> = new Set([
  'LEADER_NOT_AVAILABLE',
  'NOT_LEADER_FOR_PARTITION',
  'REQUEST_TIMED_OUT',
  'BROKER_NOT_AVAILABLE',
  'REPLICA_NOT_AVAILABLE',
  'NETWORK_EXCEPTION',
  'GROUP_LOAD_IN_PROGRESS',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'NOT_COORDINATOR_FOR_GROUP',
  'NOT_ENOUGH_REPLICAS',
  'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
  'NOT_CONTROLLER',
  'KAFKA_STORAGE_ERROR',
  'FENCED_LEADER_EPOCH',
  'UNKNOWN_LEADER_EPOCH',
])

const brokerAwayNames: ReadonlySet<string> = new Set([
  'KafkaJSConnectionError',
  'KafkaJSConnectionClosedError',
  'KafkaJSRequestTimeoutError',
  'KafkaJSBrokerNotFound',
  'KafkaJSMetadataNotLoaded',
  'KafkaJSTopicMetadataNotLoaded',
  'KafkaJSGroupCoordinatorNotFound',
  'KafkaJSLockTimeout',
])

/** A broker that cannot be reached or is not ready yet: waiting cures it. */
export function isBrokerAway(thrown: unknown): boolean {
  return chain(thrown).some((failure) => brokerAwayNames.has(failure.name ?? '') || brokerAwayTypes.has(failure.type ?? ''))
}

const codesByType: Readonly<Record<string, Code>> = {
  UNKNOWN_TOPIC_OR_PARTITION: 'NOT_FOUND',
  MESSAGE_TOO_LARGE: 'INVALID_ARGUMENT',
  RECORD_LIST_TOO_LARGE: 'INVALID_ARGUMENT',
  INVALID_TOPIC_EXCEPTION: 'INVALID_ARGUMENT',
  INVALID_RECORD: 'INVALID_ARGUMENT',
  INVALID_TIMESTAMP: 'INVALID_ARGUMENT',
  TOPIC_AUTHORIZATION_FAILED: 'PERMISSION_DENIED',
  GROUP_AUTHORIZATION_FAILED: 'PERMISSION_DENIED',
  CLUSTER_AUTHORIZATION_FAILED: 'PERMISSION_DENIED',
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 'PERMISSION_DENIED',
  SASL_AUTHENTICATION_FAILED: 'UNAUTHENTICATED',
  POLICY_VIOLATION: 'FAILED_PRECONDITION',
  OFFSET_OUT_OF_RANGE: 'OUT_OF_RANGE',
  INVALID_PRODUCER_EPOCH: 'ABORTED',
  CONCURRENT_TRANSACTIONS: 'ABORTED',
}

/** kafkajs's errors as the mesh's; `what` says what was being done. */
export function kafkaError(thrown: unknown, what: string): MeshError {
  if (thrown instanceof MeshError) return thrown
  const failure = chain(thrown)[0]
  const text = failure?.message ?? String(thrown)
  if (isBrokerAway(thrown)) return new MeshError('UNAVAILABLE', `${what}: the Kafka broker is away (${text})`, { cause: thrown })
  return new MeshError(codesByType[protocolType(thrown) ?? ''] ?? 'INTERNAL', `${what}: ${text}`, { cause: thrown })
}
