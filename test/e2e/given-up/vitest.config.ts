import { join } from 'node:path'
import type { ViteUserConfig } from 'vitest/config'

/** A run whose first test takes too long, for `end-with-test.test.ts`. */
const config: ViteUserConfig = {
  root: import.meta.dirname,
  test: { include: ['given-up.ts'], setupFiles: [join(import.meta.dirname, '..', 'end-with-test.ts')] },
}
export default config
