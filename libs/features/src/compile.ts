import type { FeaturesDefinition } from './definition.ts'
import { type CompileOptions, FeatureCompiler } from './feature-compiler.ts'
import type { FeatureInput, FeaturePlan } from './plan.ts'
import { fittedDefinitionHash } from './statistics/definition-hash.ts'
import { storedValues } from './statistics/fitted-values.ts'
import { storedSelection } from './statistics/selection.ts'

export type { CompileOptions }

/**
 * Resolves every reference of the section. Where it is absent, the vector is every number and integer of the predicting input, in order.
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section, as in `columns.amount.field`
 */
export function compileFeatures(
  definition: FeaturesDefinition | undefined,
  inputs: ReadonlyMap<string, FeatureInput>,
  options: CompileOptions = {},
): FeaturePlan {
  const { statistics } = options
  return new FeatureCompiler(definition, inputs, options).plan((section) => ({
    values: storedValues(statistics, (column) => fittedDefinitionHash(column, section)),
    select: storedSelection(statistics, section),
  }))
}

/** Modules that the section names, as it writes them: to be imported from beside the pipeline file. */
export function moduleRequests(definition: FeaturesDefinition | undefined): readonly string[] {
  return [...new Set(Object.values(definition?.columns ?? {}).flatMap(({ module }) => module ?? []))]
}

/** Files of words that the section names, as it writes them: to be read from beside the pipeline file. */
export function fileRequests(definition: FeaturesDefinition | undefined): readonly string[] {
  const steps = Object.values(definition?.columns ?? {}).flatMap((column) => column.steps ?? [])
  return [...new Set(steps.flatMap(({ vocabulary }) => (typeof vocabulary === 'object' && 'file' in vocabulary ? [vocabulary.file] : [])))]
}
