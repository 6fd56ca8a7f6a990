import { join } from 'node:path'
import type { Pipeline } from '@spillway/mesh'
import type { ListedModel, SignatureExpectation } from '@spillway/serving'
import { tierExpectation } from './tier-stages.ts'

/** The models of a pipeline's own repository, as the model manager takes them. */
export interface TierModels {
  readonly repository: string
  readonly models: readonly string[]
  /** Those of which tiers name versions. */
  readonly listed: readonly ListedModel[]
  /** What the tiers need of their signatures, for as long as the process runs: a version that has it not is never served. */
  readonly expects: ReadonlyMap<string, SignatureExpectation>
}

/** What the tiers ask of the models that have no server of their own. */
export function tierModels(pipeline: Pipeline): TierModels {
  const { cascade, modelsPath } = pipeline
  const expectations = new Map<string, SignatureExpectation[]>()
  const versions = new Map<string, (string | undefined)[]>()
  for (const [tier, { address, model, version }] of cascade.tiers.entries()) {
    if (address !== undefined) continue
    expectations.set(model, [...(expectations.get(model) ?? []), tierExpectation(pipeline, tier)])
    versions.set(model, [...(versions.get(model) ?? []), version])
  }
  return {
    repository: modelsPath,
    models: [...expectations.keys()],
    listed: Array.from(versions, ([model, asked]) => listedModel(modelsPath, model, asked)).filter((listed) => listed !== undefined),
    expects: new Map(
      Array.from(expectations, ([model, checks]) => [
        model,
        (signature) => {
          for (const check of checks) check(signature)
        },
      ]),
    ),
  }
}

function listedModel(modelsPath: string, model: string, asked: readonly (string | undefined)[]): ListedModel | undefined {
  const named = asked.filter((version) => version !== undefined)
  if (named.length === 0) return undefined
  // Where another tier takes the latest, what that is may change: all are loaded.
  const policy = named.length === asked.length ? { kind: 'specific' as const, versions: named } : { kind: 'all' as const }
  return { name: model, basePath: join(modelsPath, model), policy }
}
