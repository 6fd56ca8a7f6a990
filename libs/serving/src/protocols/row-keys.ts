import { reservedPrefix } from '@spillway/wire'

/**
 * How rows of one request go to several versions by keys of their own: an answer says by a parameter that the model's traffic is split; the caller then sends
 * BYTES [rows] of keys beside its inputs, and is told each row's version beside the outputs. Servers of others never say so, and are never sent keys.
 */
export const splitParameter = 'spillway.split'
export const rowKeysTensor: string = `${reservedPrefix}row_keys`
export const rowVersionsTensor: string = `${reservedPrefix}row_versions`
