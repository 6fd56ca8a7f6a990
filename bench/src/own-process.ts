import { spawn } from 'node:child_process'

/**
 * Runs a script in a process of its own, so that no round inherits another's heap. @returns the numbers that it printed, a line each
 * @throws Error where it ends with another code than 0, or its last line is no number above 0
 */
export function figuresOf(script: string, args: readonly string[], nodeArgs: readonly string[] = []): Promise<readonly number[]> {
  const child = spawn(process.execPath, [...process.execArgv, ...nodeArgs, script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code) => {
      const printed = output.trim().split('\n').map(Number)
      if (code === 0 && printed.at(-1)! > 0) resolve(printed)
      else reject(new Error(`a round ended with ${String(code)}: ${output}`))
    })
  })
}
