import type { MeshError } from '@spillway/core'
import type { DeadLetterDesk } from './dead-letter-desk.ts'

/** What the mesh hands the gateway for each pipeline. */
export interface GatewayPipeline {
  readonly name: string
  /** Topics that may be subscribed to: inputs, outputs and dead letters; internal topics of frames are not among them. */
  readonly topics: readonly string[]
  /** Those of `topics` that may be published to. */
  readonly inputTopics: readonly string[]
  readonly deadLetters: DeadLetterDesk
  /** The record key of an event for an input topic, from the input's `key` field; undefined where the input names none or the event lacks it. Never throws. */
  keyOf(topic: string, event: Uint8Array): Uint8Array | undefined
  /**
   * Runs events through the pipeline, read-only.
   * @param events one JSON object each, UTF-8, as on the input topic.
   * @returns one result an event, in order.
   * @throws MeshError for the call as a whole: UNAVAILABLE, RESOURCE_EXHAUSTED, …
   */
  predict(events: readonly Uint8Array[], call: PredictCall): Promise<readonly PredictResult[]>
}

export interface PredictCall {
  /** Fires when the caller is gone or the time for an answer is over. */
  readonly signal: AbortSignal
  /** Latest useful answer, ms since the epoch, always given: a synchronous caller never waits for an outage to end. The way back to the caller is already taken off it. */
  readonly deadlineMs: number
  /** W3C `traceparent`; '' where there is none. */
  readonly traceParent: string
  /** '' where unknown. */
  readonly principal: string
}

/** `prediction` and `alert` are JSON, UTF-8, as on the output topics. */
export type PredictResult =
  | { readonly prediction: Uint8Array; readonly alert?: Uint8Array }
  | { readonly error: MeshError; readonly stage: string }
