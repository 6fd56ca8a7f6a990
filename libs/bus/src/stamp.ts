import { MeshError } from '@spillway/core'
import type { ProcessOptions } from './port.ts'

const maxStampLength = 200

/** @throws MeshError INVALID_ARGUMENT for a stamp that is empty or too long */
export function checkStamp(stamp: string | undefined): void {
  if (stamp !== undefined && (stamp.length === 0 || stamp.length > maxStampLength))
    throw new MeshError('INVALID_ARGUMENT', `the stamp has ${stamp.length} characters, expected 1 to ${maxStampLength}`, { field: 'stamp' })
}

/** How often a refused position is looked at again. */
export const stampRecheckMs = 3000

/** Why a group's position is not taken on; undefined where it may be. */
export function stampRefusal(
  place: string,
  { group, stamp: own }: Pick<ProcessOptions, 'group' | 'stamp'>,
  found: string | undefined,
): MeshError | undefined {
  if (own === undefined || found === undefined || found === own) return undefined
  return new MeshError(
    'FAILED_PRECONDITION',
    `the position of group "${group}" on ${place} rests on "${found}", this process on "${own}": give it what the position rests on, or reset the group's position`,
    { field: 'stamp' },
  )
}
