export interface Answer {
  /** gRPC's status or HTTP's; `lost` where none came. */
  readonly outcome: string
  readonly body: Buffer
}

export interface Caller {
  call(done: (answer: Answer) => void): void
  close(): Promise<void>
}

export const nothing: Buffer = Buffer.alloc(0)
export const lost: Answer = { outcome: 'lost', body: nothing }
