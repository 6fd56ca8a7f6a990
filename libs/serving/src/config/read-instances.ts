import type { MessageReader } from './message-reader.ts'

const kinds = ['KIND_AUTO', 'KIND_GPU', 'KIND_CPU', 'KIND_MODEL'] as const

/** What Triton's ONNX Runtime backend runs a KIND_GPU instance with. */
const gpuProvider = 'cuda'

interface Instances {
  readonly instanceCount?: number
  /** First choice first. */
  readonly executionProviders?: readonly string[]
}

/** `instance_group` and `optimization.execution_accelerators`: how many instances there are, and on what they run. */
export function readInstances(reader: MessageReader): Instances {
  const groups = reader.messages('instance_group')
  let instanceCount = 0
  let kind: (typeof kinds)[number] | undefined
  for (const group of groups) {
    group.text('name')
    const own = group.choice('kind', kinds) ?? 'KIND_AUTO'
    if (kind !== undefined && own !== kind)
      throw group.error('kind', `is ${own}, and ${kind} in the group before: all instances are of one kind`)
    kind = own
    instanceCount += group.int('count', { least: 0, most: 1024 }) || 1
    group.refused('all instances take requests', 'passive')
    group.unused('which device it is, ONNX Runtime decides', 'gpus', 'secondary_devices')
    group.unused('it is for TensorRT', 'profile')
    group.unused('threads are not bound to cores', 'host_policy')
    group.unused('runs are limited by the count of instances', 'rate_limiter')
    group.end()
  }
  const { gpu, cpu } = readOptimization(reader)
  const onGpu = kind === 'KIND_GPU' ? [...gpu, gpuProvider] : gpu
  // ONNX Runtime itself takes the CPU for what none of them can do.
  const executionProviders = [...new Set([...onGpu, ...cpu])]
  return {
    ...(groups.length > 0 && { instanceCount }),
    ...(executionProviders.length > 0 ? { executionProviders } : kind === 'KIND_CPU' && { executionProviders: ['cpu'] }),
  }
}

function readOptimization(reader: MessageReader): { gpu: readonly string[]; cpu: readonly string[] } {
  const optimization = reader.message('optimization')
  const accelerators = optimization?.message('execution_accelerators')
  const names = (field: string): readonly string[] =>
    (accelerators?.messages(field) ?? []).map((accelerator) => {
      const name = accelerator.text('name') ?? ''
      accelerator.mustHave(name !== '', 'name', 'is missing: expected the name of an execution provider, as in "webgpu"')
      accelerator.unused('providers run with their own settings', 'parameters')
      accelerator.end()
      return name.toLowerCase()
    })
  const found = { gpu: names('gpu_execution_accelerator'), cpu: names('cpu_execution_accelerator') }
  accelerators?.end()
  optimization?.unused('ONNX Runtime optimizes every graph', 'graph')
  optimization?.unused('models have no priorities', 'priority')
  optimization?.unused(
    'tensors are handed over as they lie',
    'cuda',
    'input_pinned_memory',
    'output_pinned_memory',
    'gather_kernel_buffer_threshold',
  )
  optimization?.unused('batches form while the backend is busy', 'eager_batching')
  optimization?.end()
  return found
}
