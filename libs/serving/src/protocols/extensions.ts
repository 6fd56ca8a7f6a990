/**
 * The extensions that are served, by the names that Triton's clients look for. `schedule_policy`: a request's `timeout` counts, and no model has priority levels.
 * Not served: sequence, shared memory (system and CUDA), trace, logging.
 */
export const extensions: readonly string[] = [
  'classification',
  'model_repository',
  'model_repository(unload_dependents)',
  'schedule_policy',
  'model_configuration',
  'binary_tensor_data',
  'parameters',
  'statistics',
]
