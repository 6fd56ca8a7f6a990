import { MeshError } from '@spillway/core'

const maxNoteLength = 1000

/** @throws MeshError INVALID_ARGUMENT for a note that is too long or of several lines */
export function checkNote(note: string): void {
  if (note.length > maxNoteLength || note.includes('\n'))
    throw new MeshError('INVALID_ARGUMENT', `a note has one line of at most ${maxNoteLength} characters, this one ${note.length}`, {
      field: 'note',
    })
}
