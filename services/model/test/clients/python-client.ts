import { execFile } from 'node:child_process'
import { access, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

const requirement = 'tritonclient[http,grpc]==2.73.0'
const folder: string = join(import.meta.dirname, '../../../../.cache/python', requirement.replace(/\W+/g, '-'))

/** The Python that has Triton's client, made where it is not there yet, or why it cannot be had. */
export async function tritonPython(): Promise<{ readonly python: string } | { readonly missing: string }> {
  const python = join(folder, 'bin', 'python')
  const whole = join(folder, 'complete')
  if (await exists(whole)) return { python }
  try {
    // What a fetch that was cut short left behind.
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
    await run('python3', ['-m', 'venv', folder], { timeout: 60_000 })
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', requirement]
    await run(python, install, { timeout: 170_000, maxBuffer: 16_000_000 })
    await writeFile(whole, '')
    return { python }
  } catch (error) {
    return { missing: `${requirement} could not be installed: ${(error as Error).message.slice(0, 400)}` }
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
