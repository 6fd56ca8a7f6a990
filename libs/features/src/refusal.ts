import { MeshError } from '@spillway/core'

/** `field` is the path within the section. */
export function wrong(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}

/** Names as a message offers them. */
export function listed(names: Iterable<string>): string {
  return [...names].join(', ') || 'none'
}
