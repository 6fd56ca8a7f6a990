import type { Checkpoint, CheckpointStore } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import { EmbeddedHistoryStore } from '@spillway/features'
import type { WorkFolder } from './work-folder.ts'

/** The histories of keys in use are best all in memory: a batch run has it for little else. */
export const cacheBytes: number = 1 << 30

/**
 * The histories of a batch run. With a work folder they are committed with the run's checkpoint, at once: a run that is gone on with finds them as of
 * its positions, however much event time lies between two checkpoints. Without one they are in memory.
 */
export class BatchHistories {
  readonly store: EmbeddedHistoryStore
  /** Undefined without a work folder. */
  readonly checkpoints: CheckpointStore | undefined

  constructor(work: WorkFolder | undefined, cacheBytes: number) {
    if (work === undefined) {
      this.store = new EmbeddedHistoryStore({ path: ':memory:', cacheBytes })
      this.checkpoints = undefined
      return
    }
    const store = new EmbeddedHistoryStore({ path: work.historiesPath, cacheBytes, exclusive: true, commits: 'asked' })
    this.store = store
    this.checkpoints = {
      path: work.positionsPath,
      load: () => Promise.resolve(parseCheckpoint(store.note, work.historiesPath)),
      store: (checkpoint) => Promise.resolve(store.commit(JSON.stringify(checkpoint))),
    }
  }
}

function parseCheckpoint(note: string | undefined, path: string): Checkpoint | undefined {
  if (note === undefined) return undefined
  try {
    return JSON.parse(note) as Checkpoint
  } catch (thrown) {
    throw new MeshError('FAILED_PRECONDITION', `${path} holds no intact positions: delete its folder to begin anew`, { cause: thrown })
  }
}
