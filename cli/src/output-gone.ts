/**
 * Ends the process where whoever reads its output goes, as `head` does: one that listens for signals drains, any other ends as by SIGPIPE, which Node.js
 * ignores, and then fails at a write.
 */
export function endWithReader(output: NodeJS.WriteStream): void {
  let isGone = false
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    if (isGone) return
    isGone = true
    if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM')
    else process.exit(128 + 13)
  })
}
