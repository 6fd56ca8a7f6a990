import { MeshError } from '@spillway/core'
import type { JsonCursor } from '../json/json-cursor.ts'

/** Reads the names of one object's members. Those that mean something come once: readers differ in which of two counts. */
export class MemberNames {
  readonly #known: readonly string[]
  readonly #place: string
  /** Bits by place in `known`. */
  #read = 0

  /** @param known names of at most 31 members @param place of the object and what stands between it and a member's name, for messages */
  constructor(known: readonly string[], place: string) {
    this.#known = known
    this.#place = place
  }

  /** @throws MeshError INVALID_ARGUMENT naming a member that is given twice */
  next(cursor: JsonCursor): string {
    const name = cursor.key()
    const index = this.#known.indexOf(name)
    if (index < 0) return name
    if ((this.#read & (1 << index)) !== 0) {
      const field = `${this.#place}${name}`
      throw new MeshError('INVALID_ARGUMENT', `"${field}" is given twice`, { field })
    }
    this.#read |= 1 << index
    return name
  }
}
