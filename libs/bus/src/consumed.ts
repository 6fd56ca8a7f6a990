import { MeshError } from '@spillway/core'
import type { Outputs, Slice } from './port.ts'

/** How many of the slice's records the outputs answer. @throws MeshError INVALID_ARGUMENT where that is none, or more than there are */
export function consumedRecords({ consumed }: Outputs, slice: Slice): number {
  const { count } = slice.records
  if (consumed === undefined) return count
  if (!Number.isInteger(consumed) || consumed < 1 || consumed > count)
    throw new MeshError('INVALID_ARGUMENT', `the handler answered ${consumed} of the slice's ${count} records, expected 1 to ${count}`, {
      field: 'consumed',
    })
  return consumed
}
