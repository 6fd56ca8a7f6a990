/** The closed set of codes: gRPC's, without OK. Their numbers are those of grpc/status.proto. */
export const codeNumbers = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const

export type Code = keyof typeof codeNumbers

const codesByNumber = new Map<number, Code>(Object.entries(codeNumbers).map(([code, number]) => [number, code as Code]))

export function codeFromNumber(number: number): Code {
  return codesByNumber.get(number) ?? 'UNKNOWN'
}

export function isCode(name: unknown): name is Code {
  return typeof name === 'string' && Object.hasOwn(codeNumbers, name)
}

/** What another attempt, with nothing changed, may cure. */
const transientCodes: ReadonlySet<Code> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED', 'DEADLINE_EXCEEDED'])

export interface MeshErrorOptions {
  readonly cause?: unknown
  /** The input field or setting that is wrong, as a path: `amount`, `cascade.tiers[0].model`. */
  readonly field?: string
  /** What failed serves all rows alike, as a store does: no row is at fault, however long it lasts. */
  readonly isOutage?: boolean
}

/** The one error of the mesh. The message says what to do next; `field` names what is wrong where the input is. */
export class MeshError extends Error {
  override readonly name = 'MeshError'
  readonly code: Code
  readonly field: string | undefined
  /** See the option. Not carried over a wire. */
  readonly isOutage: boolean

  constructor(code: Code, message: string, options: MeshErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.field = options.field
    this.isOutage = options.isOutage ?? false
  }

  /** Whether another attempt, with nothing changed, may succeed. */
  get retryable(): boolean {
    return transientCodes.has(this.code)
  }

  /** Any thrown value as a MeshError; one that is not ours keeps its text and becomes the cause. */
  static from(thrown: unknown, code: Code = 'UNKNOWN'): MeshError {
    if (thrown instanceof MeshError) return thrown
    if (thrown instanceof Error) return new MeshError(thrown.name === 'AbortError' ? 'CANCELLED' : code, thrown.message, { cause: thrown })
    return new MeshError(code, String(thrown), { cause: thrown })
  }
}
