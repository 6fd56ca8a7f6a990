import { Command } from 'commander'

interface Entry {
  readonly name: string
  readonly description: string
  /** Gives what adds the command's arguments, options and action. */
  readonly load: () => Promise<(command: Command) => void>
}

const entries: readonly Entry[] = [
  {
    name: 'demo',
    description: 'run the fraud example with simulated card transactions',
    load: async () => (await import('./commands/demo.ts')).defineDemo,
  },
  {
    name: 'up',
    description: 'run every service of a pipeline in this process',
    load: async () => (await import('./commands/run.ts')).defineUp,
  },
  {
    name: 'serve',
    description: 'run one service of a pipeline, or a model service without one, in this process',
    load: async () => (await import('./commands/run.ts')).defineServe,
  },
  {
    name: 'validate',
    description: 'check a pipeline file and show what it makes',
    load: async () => (await import('./commands/validate.ts')).defineValidate,
  },
  {
    name: 'predict',
    description: 'run one event through a pipeline, synchronously and read-only',
    load: async () => (await import('./commands/client.ts')).definePredict,
  },
  {
    name: 'publish',
    description: 'append an event to a topic; answers when it is durable',
    load: async () => (await import('./commands/client.ts')).definePublish,
  },
  {
    name: 'subscribe',
    description: 'print a topic’s events as they come, one JSON a line',
    load: async () => (await import('./commands/client.ts')).defineSubscribe,
  },
  {
    name: 'features',
    description: 'feature vectors for training, as served, and compared',
    load: async () => (await import('./commands/features.ts')).defineFeatures,
  },
  {
    name: 'backfill',
    description: 'run a whole pipeline over a topic’s past or over files, at full speed',
    load: async () => (await import('./commands/backfill.ts')).defineBackfill,
  },
  {
    name: 'dlq',
    description: 'list, show, redrive and drop dead letters',
    load: async () => (await import('./commands/dlq.ts')).defineDlq,
  },
  {
    name: 'models',
    description: 'see and change what a running model service serves',
    load: async () => (await import('./commands/models.ts')).defineModels,
  },
]

/**
 * The `spillway` command. Only the command that is called is defined in full: others may bring ONNX Runtime, gRPC and clients of brokers, a second of loading.
 * @param args what is to be parsed, without the program's own name
 */
export async function makeProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('spillway')
    .description('A streaming inference mesh: events in on topics, predictions and alerts out.')
    .version('0.1.0')
    .showHelpAfterError('(add --help for what there is)')
    .exitOverride()
  const [first, second] = args.filter((arg) => !arg.startsWith('-'))
  const called = first === 'help' ? second : first
  for (const { name, description, load } of entries) {
    const command = program.command(name).description(description)
    if (name === called) (await load())(command)
  }
  return program
}
