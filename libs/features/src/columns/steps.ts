import { categorySteps } from './category-steps.ts'
import type { ColumnKind } from './column-data.ts'
import { dateSteps } from './date-steps.ts'
import { imputeStep } from './impute-step.ts'
import { numberSteps } from './number-steps.ts'
import { type StepDefinition, stepName, type StepName } from './step-definition.ts'
import type { CompiledStep, StepCompiler, StepCompilers, StepContext } from './step.ts'
import { textSteps } from './text-steps.ts'
import { textVectorSteps } from './text-vectors.ts'

const compilers: StepCompilers<StepName> = {
  ...textSteps,
  ...numberSteps,
  ...imputeStep,
  ...dateSteps,
  ...categorySteps,
  ...textVectorSteps,
}

/** @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section */
export function compileStep(definition: StepDefinition, from: ColumnKind, context: StepContext): CompiledStep {
  const name = stepName(definition)
  return (compilers[name] as StepCompiler<StepName>)(definition[name] as never, from, context, definition)
}
