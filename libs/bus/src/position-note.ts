import { MeshError } from '@spillway/core'
import type { Attempt } from './port.ts'

const maxNoteLength = 1000

/** The note that lies with a partition's position: the word of the owner before, until this one has committed; then this one's own. */
export class PositionNote {
  #note: string | undefined
  #isOwn = false
  #takenOver = true

  /** Whether it is this owner's: one that ends in order drops it, since it must not be taken for the word of a process that died. */
  get isOwn(): boolean {
    return this.#isOwn
  }

  /** What an owner that ends in order leaves as it was. */
  get ofOwnerBefore(): string | undefined {
    return this.#isOwn ? undefined : this.#note
  }

  /** Whether the next attempt may find, or keep, one. */
  get isOpen(): boolean {
    return this.#takenOver || this.#note !== undefined
  }

  /** With the position that is gone on from. */
  found(note: string | undefined): void {
    this.#note = note
  }

  /** A position has been committed, with this note or none. */
  committed(note: string | undefined): void {
    this.#note = note
    this.#isOwn = note !== undefined
  }

  /** The first thing has been done since the partition was taken over. */
  advanced(): void {
    this.#takenOver = false
  }

  /** @param keep commits a note with the position as it is, and says so by `committed` */
  attempt(keep: (note: string) => Promise<void>, maxRecordBytes: Attempt['maxRecordBytes']): Attempt {
    return {
      takenOver: this.#takenOver,
      note: this.#note,
      maxRecordBytes,
      keepNote: async (note) => {
        checkNote(note)
        await keep(note)
      },
    }
  }
}

/** @throws MeshError INVALID_ARGUMENT for a note that is too long or of several lines */
function checkNote(note: string): void {
  if (note.length > maxNoteLength || note.includes('\n'))
    throw new MeshError('INVALID_ARGUMENT', `a note has one line of at most ${maxNoteLength} characters, this one ${note.length}`, {
      field: 'note',
    })
}
