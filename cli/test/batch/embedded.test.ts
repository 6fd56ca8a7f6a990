import { join } from 'node:path'
import { describe } from 'vitest'
import { provesTheCircle } from './circle.ts'

describe('on the embedded bus', () => {
  provesTheCircle((folder) => ({ kind: 'embedded', path: join(folder, 'bus.db') }))
})
