import type { Component, Signature, Tensor } from '@spillway/core'

/** What a servable's inputs and outputs are; row dimension left out. */
export interface ModelSignature {
  readonly inputs: Signature
  readonly outputs: Signature
  /**
   * Whole shapes by tensor (-1: any size) of a model whose first dimension is not the row: a request is run alone, and the mesh cannot use it. Absent where
   * rows are batched.
   */
  readonly wholeShapes?: ReadonlyMap<string, readonly number[]>
}

export type Tensors = ReadonlyMap<string, Tensor>

/** Runs one version of one model on whole tensors. Rows are independent: row i of every output belongs to row i of every input. */
export interface Backend extends Component {
  /** Known once started, as the three below. */
  readonly signature: ModelSignature
  /** Most rows of one run; Infinity where the model sets no limit. */
  readonly maxBatchRows: number
  /** From how many rows on a run gains nothing by more, where that is known: what waits beyond goes into a run of its own. */
  readonly enoughRows?: number
  /** Runs that go on at once; one more would only wait. */
  readonly concurrency: number
  /** Whether a run that nobody waits for any more can be stopped: only then does its signal ever fire. */
  readonly stoppable?: boolean
  /**
   * All inputs of the signature, with the same count of rows.
   * @param deadlineMs ms since the epoch: after that nobody does; Infinity where absent
   * @throws MeshError
   */
  run(inputs: Tensors, signal: AbortSignal, deadlineMs?: number): Promise<Tensors>
  /** As `run`, of the rows of several requests one after the other: for a backend that puts them together better than its caller. */
  runParts?(parts: readonly Tensors[], signal: AbortSignal, deadlineMs?: number): Promise<PartsRun>
}

/** Outputs of all rows, and of the time that the run took what went into putting inputs together and getting outputs back. */
export interface PartsRun {
  readonly outputs: Tensors
  readonly inputMs: number
  readonly outputMs: number
}

/** What the cascade router and every protocol call: a model by name, in this process or behind OIP v2 gRPC. */
export interface ModelClient {
  /** @throws MeshError NOT_FOUND for an unknown model, UNAVAILABLE where its server is away or it is not ready. */
  signature(model: string, signal: AbortSignal): Promise<ModelSignature>
  infer(request: InferRequest): Promise<InferResponse>
}

export interface InferRequest {
  readonly model: string
  /** The latest ready version where absent. */
  readonly version?: string
  readonly inputs: Tensors
  readonly rowCount: number
  /** Of each row, '' for none: where the model's traffic is split and no version is named, each row goes to the version of its key. */
  readonly keys?: readonly string[]
  /** ms since the epoch; Infinity for none. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
}

export interface InferResponse {
  readonly model: string
  /** The one that answered; of several the first row's. */
  readonly version: string
  /** Of each row, where several versions answered. */
  readonly rowVersions?: readonly string[]
  readonly outputs: Tensors
}
