import { type LinkedStage, type PortLink, type Runner, type Signature, type Stage, StageLinks, type StageObserver } from '@spillway/core'
import type { Models } from '../../models.ts'
import type { EnsemblePlan } from './ensemble-plan.ts'
import { StepStage } from './step-stage.ts'

/** Where the rows of an answer leave the ensemble's stages. */
export const answerSink = 'answer'

export interface EnsembleLinksOptions {
  readonly ensemble: string
  readonly plan: EnsemblePlan
  /** What the answer is made of, as columns. */
  readonly answer: Signature
  readonly models: () => Models
  readonly observer: StageObserver
}

const entryId = 'inputs'
const answerId = 'answer'
const stepId = (index: number): string => `step[${index}]`

/** The ensemble as stages of one graph, as a pipeline's are: each step goes on as soon as the steps that it follows are done. */
export function linkEnsemble(options: EnsembleLinksOptions): Runner {
  const { plan, ensemble, models, answer, observer } = options
  const last = [...plan.steps.keys()].filter((index) => !plan.steps.some(({ follows }) => follows.includes(index)))
  const first = [...plan.steps.keys()].filter((index) => plan.steps[index]!.follows.length === 0)
  const nodes = new Map<string, LinkedStage>()
  nodes.set(entryId, linked(new Fork(`ensemble "${ensemble}"`, first.map(stepId)), first.map(stepId)))
  for (const [index, step] of plan.steps.entries()) {
    const next = [...plan.steps.keys()].filter((other) => plan.steps[other]!.follows.includes(index)).map(stepId)
    const ports = next.length === 0 ? [answerId] : next
    nodes.set(stepId(index), linked(new StepStage({ ensemble, step, batched: plan.batched, ports, models }), ports, step.follows.length))
  }
  const links = new Map<string, PortLink>([[answerSink, { sink: answerSink }]])
  nodes.set(answerId, { stage: new Answer(`ensemble "${ensemble}"`, answer), links, gathers: last.length })
  return new StageLinks({ node: (id) => nodes.get(id)!, observer }).runner(first.length === 1 ? stepId(first[0]!) : entryId)
}

/** A port is named as the stage that it leads to. */
function linked(stage: Stage, ports: readonly string[], gathers = 1): LinkedStage {
  return { stage, links: new Map(ports.map((port) => [port, { stage: port }])), gathers }
}

/** Gives the same rows to several stages. */
class Fork implements Stage {
  readonly name: string
  readonly accepts: Signature = new Map()
  readonly ports: Readonly<Record<string, Signature>>

  constructor(name: string, ports: readonly string[]) {
    this.name = name
    this.ports = Object.fromEntries(ports.map((port) => [port, new Map()]))
  }

  process: Stage['process'] = (batch) =>
    Promise.resolve({ outputs: new Map(Object.keys(this.ports).map((port) => [port, batch])), failures: [] })
}

/** Takes of the rows what the ensemble answers. */
class Answer implements Stage {
  readonly name: string
  readonly accepts: Signature
  readonly ports: Readonly<Record<string, Signature>> = { [answerSink]: new Map() }

  constructor(name: string, accepts: Signature) {
    this.name = name
    this.accepts = accepts
  }

  process: Stage['process'] = (batch) => {
    const columns = new Map([...batch.columns].filter(([name]) => this.accepts.has(name)))
    return Promise.resolve({ outputs: new Map([[answerSink, { ...batch, columns }]]), failures: [] })
  }
}
