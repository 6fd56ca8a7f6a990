import type { DeadLetter, DeadLetterDetail } from '@spillway/mesh'

/** A letter as two lines: what it is, and why. */
export function letterLines(letter: DeadLetter): string {
  const { position, timeMs, segment, stage, code, message, field, id, outcome, redriven, incomplete } = letter
  const marks = [
    ...(outcome === 'open' ? [] : [outcome]),
    ...(redriven === 0 ? [] : [`given back ${redriven} times before`]),
    ...(incomplete === undefined ? [] : [`incomplete: ${incomplete}`]),
  ]
  const where = stage === segment ? segment : `${segment} at ${stage}`
  const head = `${position.padEnd(10)} ${new Date(timeMs).toISOString()}  ${code}  ${where}  event ${id}`
  const why = `${field === undefined || message.startsWith(field) ? '' : `${field}: `}${message}`
  return `${head}${marks.length === 0 ? '' : `  (${marks.join('; ')})`}\n           ${oneLine(why)}`
}

export function detailLines(letter: DeadLetterDetail): string {
  const { event, headers, row, source, key } = letter
  const lines = [letterLines(letter), `event at   ${source}, key ${key === '' ? 'none' : key}`]
  for (const [name, value] of Object.entries(headers)) lines.push(`header     ${name}: ${oneLine(value)}`)
  lines.push(`event      ${event}`)
  for (const [name, value] of Object.entries(row ?? {})) lines.push(`row        ${name}: ${JSON.stringify(value)}`)
  return lines.join('\n')
}

/** Text from outside, without what would move a terminal's cursor. */
function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ')
}

/** What a letter has in common with others: how it failed, and where. */
export function kindOf({ segment, stage, code }: DeadLetter): string {
  return `${code} in ${segment} at ${stage}`
}
