import { MeshError } from '@spillway/core'

const maxStampLength = 200

/** @throws MeshError INVALID_ARGUMENT for a stamp that is empty or too long */
export function checkStamp(stamp: string | undefined): void {
  if (stamp !== undefined && (stamp.length === 0 || stamp.length > maxStampLength))
    throw new MeshError('INVALID_ARGUMENT', `the stamp has ${stamp.length} characters, expected 1 to ${maxStampLength}`, { field: 'stamp' })
}
