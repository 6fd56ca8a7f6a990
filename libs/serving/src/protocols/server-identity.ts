/** What the server calls itself in its metadata. */
export interface ServerIdentity {
  /** Clients of Triton look for `triton` in places. */
  readonly name: string
  readonly version: string
}

export const defaultIdentity: ServerIdentity = { name: 'spillway', version: '0.1.0' }
