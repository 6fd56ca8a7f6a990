import { concatTensors, takeTensor, type Tensor } from '@spillway/core'
import type { InferResponse, Tensors } from '../backend.ts'
import type { ModelHandle, Models } from '../models.ts'

export interface KeyedRows {
  readonly model: string
  readonly inputs: Tensors
  /** Of each row; '' for none. */
  readonly keys: readonly string[]
}

/** Rows of one version. */
interface Group {
  readonly handle: ModelHandle
  readonly rows: number[]
}

/** Whether the model's calls go to several versions now. @throws MeshError as `Models.acquire`, where there is no such model */
export function isSplit(models: Models, model: string): boolean {
  return models.traffic(model).split.length > 1
}

/**
 * Gives each row to the version that its key goes to, as if it were a call of its own, and puts the answers together in the order of the rows: outputs that the
 * versions have in common. @param run the rows of one version @throws MeshError as `Models.acquire` and `run`: one that fails fails them all
 */
export async function inferByKey(
  models: Models,
  { model, inputs, keys }: KeyedRows,
  run: (handle: ModelHandle, inputs: Tensors, rowCount: number) => Promise<Tensors>,
): Promise<InferResponse> {
  const groups = new Map<string, Group>()
  try {
    await fillGroups(groups, models, model, keys)
    const [first, ...others] = [...groups.values()] as [Group, ...Group[]]
    const { version } = first.handle
    if (others.length === 0) return { model, version, outputs: await run(first.handle, inputs, keys.length) }
    const all = [first, ...others]
    const runs = await Promise.allSettled(all.map(({ handle, rows }) => run(handle, takeTensors(inputs, rows), rows.length)))
    const outputs = runs.map((settled) => {
      if (settled.status === 'rejected') throw settled.reason
      return settled.value
    })
    const order = new Uint32Array(keys.length)
    const rowVersions = new Array<string>(keys.length)
    let place = 0
    for (const { handle, rows } of all)
      for (const row of rows) {
        order[row] = place++
        rowVersions[row] = handle.version
      }
    return { model, version: rowVersions[0]!, rowVersions, outputs: inRowOrder(outputs, order) }
  } finally {
    for (const { handle } of groups.values()) handle.release()
  }
}

async function fillGroups(groups: Map<string, Group>, models: Models, model: string, keys: readonly string[]): Promise<void> {
  const versions = new Map<string, string>()
  for (const [row, key] of keys.entries()) {
    const known = versions.get(key)
    if (known !== undefined) {
      groups.get(known)!.rows.push(row)
      continue
    }
    const acquired = models.acquire(model, key === '' ? {} : { key })
    const handle = acquired instanceof Promise ? await acquired : acquired
    const { version } = handle
    // Rows without a key take turns.
    if (key !== '') versions.set(key, version)
    const group = groups.get(version)
    if (group === undefined) groups.set(version, { handle, rows: [row] })
    else {
      handle.release()
      group.rows.push(row)
    }
  }
}

function takeTensors(tensors: Tensors, rows: readonly number[]): Tensors {
  return new Map(Array.from(tensors, ([name, tensor]) => [name, takeTensor(tensor, rows)]))
}

/** @param order the place of each row in the answers, one after the other */
function inRowOrder(answers: readonly Tensors[], order: Uint32Array): Tensors {
  const [first, ...others] = answers as [Tensors, ...Tensors[]]
  const outputs = new Map<string, Tensor>()
  for (const [name, tensor] of first)
    if (others.every((answer) => isLike(tensor, answer.get(name))))
      outputs.set(name, takeTensor(concatTensors(answers.map((answer) => answer.get(name)!)), order))
  return outputs
}

function isLike(tensor: Tensor, other: Tensor | undefined): boolean {
  return other?.datatype === tensor.datatype && other.shape.slice(1).join() === tensor.shape.slice(1).join()
}
