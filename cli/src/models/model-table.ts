import type { ModelState } from '@spillway/model'
import { textTable } from '../text-table.ts'

const mostReason = 100

/** A line for each version; what is wrong with the whole model is said of the newest. */
export function modelTable(models: readonly ModelState[]): string {
  const rows = models.flatMap((model) =>
    model.versions.length === 0
      ? [[model.name, '-', 'not loaded', '', '', firstLine(model.problem ?? '')]]
      : model.versions.map(({ version, state, reason }, index) => [
          model.name,
          version,
          state,
          trafficOf(model, version),
          labelsOf(model, version).join(', '),
          firstLine(reason ?? (index === 0 ? model.problem : undefined) ?? ''),
        ]),
  )
  return textTable(['MODEL', 'VERSION', 'STATE', 'TRAFFIC', 'LABELS', 'REASON'], rows)
}

/** What is wrong with a model and its versions, each as a line, whole. */
export function problemText({ problem, versions }: ModelState): string {
  const lines = versions.flatMap(({ version, reason }) => (reason === undefined ? [] : [`version ${version}: ${reason}`]))
  if (problem !== undefined) lines.unshift(`problem: ${problem}`)
  return lines.map((line) => `\n${line.replaceAll(/\s*\n\s*/g, ' ')}`).join('')
}

/** Which calls a version gets. */
function trafficOf(model: ModelState, version: string): string {
  const { split, shadow } = model.traffic
  const isIt = (to: string): boolean => to === version || (to.startsWith('label:') && model.labels[to.slice('label:'.length)] === version)
  const total = split.reduce((sum, { weight }) => sum + weight, 0)
  const share = split.filter(({ to }) => isIt(to)).reduce((sum, { weight }) => sum + weight, 0)
  const parts = total > 0 ? (share > 0 ? [percent(share / total)] : []) : model.default_version === version ? ['default'] : []
  if (shadow !== undefined && isIt(shadow.to)) parts.push(`shadow of ${percent(shadow.fraction)}`)
  return parts.join(', ')
}

function percent(part: number): string {
  return `${Number((part * 100).toFixed(2))} %`
}

function labelsOf({ labels }: ModelState, version: string): readonly string[] {
  return Object.entries(labels).flatMap(([label, of]) => (of === version ? [label] : []))
}

function firstLine(text: string): string {
  const [line = ''] = text.split('\n', 1)
  return line.length > mostReason ? `${line.slice(0, mostReason)}…` : line
}

/** `3=90, 4=10, shadow 5=0.1`. */
export function trafficText({ split, shadow }: ModelState['traffic']): string {
  const parts = split.map(({ to, weight }) => `${to}=${weight}`)
  if (shadow !== undefined) parts.push(`shadow ${shadow.to}=${shadow.fraction}`)
  return parts.length === 0 ? 'all to the default version' : parts.join(', ')
}
