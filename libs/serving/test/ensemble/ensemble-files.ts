import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Models, Tensors } from '../../src/mod.ts'

const inMainThread = 'backend: "module" parameters { key: "thread" value { string_value: "main" } }'

/** A model of a TypeScript module, run in the test's own thread. */
export async function writeModule(repository: string, model: string, source: string): Promise<void> {
  await mkdir(join(repository, model, '1'), { recursive: true })
  await writeFile(join(repository, model, 'config.pbtxt'), inMainThread)
  await writeFile(join(repository, model, '1/model.ts'), source)
}

export async function writeEnsemble(repository: string, model: string, config: string): Promise<void> {
  await mkdir(join(repository, model, '1'), { recursive: true })
  await writeFile(join(repository, model, 'config.pbtxt'), `platform: "ensemble" ${config}`)
}

/** An ensemble of one step, `x` to `y`. */
export const oneStep = (model: string): string =>
  `ensemble_scheduling { step { model_name: "${model}" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }`

export async function infer(
  models: Models,
  model: string,
  inputs: Tensors,
  options: { readonly signal?: AbortSignal; readonly deadlineMs?: number } = {},
): Promise<Tensors> {
  const handle = await models.acquire(model)
  try {
    const rowCount = inputs.values().next().value!.shape[0]!
    return await handle.infer(inputs, rowCount, { deadlineMs: Infinity, signal: new AbortController().signal, ...options })
  } finally {
    handle.release()
  }
}
