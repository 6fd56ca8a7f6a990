import type { MessageReader } from './message-reader.ts'
import type { EnsembleStep } from './model-config.ts'

/** `ensemble_scheduling`. Whether the steps fit together is seen when they are loaded. */
export function readEnsemble(reader: MessageReader): readonly EnsembleStep[] | undefined {
  const scheduling = reader.message('ensemble_scheduling')
  if (scheduling === undefined) return undefined
  const steps = scheduling.messages('step').map((step): EnsembleStep => {
    const model = step.text('model_name') ?? ''
    step.mustHave(model !== '', 'model_name', 'is missing: expected the name of a model')
    const version = step.int('model_version', { least: -1 }) ?? -1
    if (version === 0) throw step.error('model_version', 'is 0: expected a version, or -1 for the default one')
    const inputs = step.textMap('input_map')
    const outputs = step.textMap('output_map')
    step.mustHave(outputs.size > 0, 'output_map', 'is missing: expected what the step gives')
    step.unused('models have one name space', 'model_namespace')
    step.end()
    return { model, inputs, outputs, ...(version > 0 && { version: String(version) }) }
  })
  scheduling.unused('the bound is that of each model', 'max_inflight_requests')
  scheduling.end()
  if (steps.length === 0) throw scheduling.error('step', 'is missing: an ensemble has at least one step')
  return steps
}
