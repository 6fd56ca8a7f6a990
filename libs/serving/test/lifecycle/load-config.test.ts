import { expect, test } from 'vitest'
import type { ModelConfig } from '../../src/config/model-config.ts'
import { loadConfig } from '../../src/lifecycle/complete-config.ts'

const config = (backend: ModelConfig['backend']): ModelConfig => ({
  name: 'm',
  backend,
  platform: '',
  versionPolicy: { kind: 'all' },
  warmup: [],
  parameters: new Map(),
})

test('ONNX models have the instances that are theirs by default, a module only as many as somebody says', () => {
  expect(loadConfig('m', undefined, { onnxInstanceCount: 2 }).instanceCount).toBe(2)
  expect(loadConfig('m', config('onnxruntime'), { onnxInstanceCount: 2 }).instanceCount).toBe(2)
  expect(loadConfig('m', config('module'), { onnxInstanceCount: 2 }).instanceCount).toBeUndefined()
  expect(loadConfig('m', config('module'), { instanceCount: 3, onnxInstanceCount: 2 }).instanceCount).toBe(3)
  expect(loadConfig('m', { ...config('onnxruntime'), instanceCount: 1 }, { instanceCount: 3, onnxInstanceCount: 2 }).instanceCount).toBe(1)
})
