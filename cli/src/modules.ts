/** What modules of one's own, named in a pipeline file, are written with. */
export { defineStage, type StageCall, type StageModule, type StageModuleResult } from '@spillway/mesh'
export {
  type Batch,
  type BytesColumn,
  column,
  fp64,
  MeshError,
  type RowMeta,
  sliceBatch,
  takeRows,
  type Tensor,
  text,
  textAt,
  withColumns,
} from '@spillway/core'
