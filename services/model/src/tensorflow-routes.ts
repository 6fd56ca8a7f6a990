import { MeshError } from '@spillway/core'
import type { ModelHandle, Models, VersionChoice } from '@spillway/serving'
import { decodeExamples, decodePredict, encodeClassification, encodePrediction, encodeRegression } from '@spillway/wire'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { AppCalls } from './app-call.ts'
import type { PlaceInApp } from './call-place.ts'
import type { Answer, ModelCall, ModelCalls } from './model-call.ts'
import { parsePredictionPath, parseStatusPath, type PredictionPath, type PredictionVerb, type StatusPath } from './tensorflow-path.ts'
import { metadataText, pretty, statusText, unknownLabel } from './tensorflow-status.ts'

const json = 'application/json'

/** Requests of one key go to one version where traffic is split: the API's bodies have no place for it, nor its answers for the version. */
const keyHeader = 'spillway-key'
const versionHeader = 'spillway-model-version'

/**
 * TensorFlow Serving's REST API (tensorflow.org/tfx/serving/api_rest) below `/v1`: model status and metadata, predict, classify and regress. KServe's V1
 * protocol has the same paths (and the list `GET /v1/models`), Vertex AI the same bodies. Paths are taken in any case; one that is none of these is
 * 400 `Malformed request`, as every refusal `{"error": "…"}`.
 */
export function tensorflowRoutes(app: FastifyInstance, models: Models, place: PlaceInApp): void {
  const calls = new AppCalls()
  const prediction = ({ method, originalUrl }: FastifyRequest): PredictionPath | undefined =>
    method === 'POST' ? parsePredictionPath(pathOf(originalUrl)) : undefined
  const onRequest = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    if (prediction(request) !== undefined) place(request, reply)
  }
  app.all('/v1/*', { onRequest }, async (request, reply) => {
    const predicted = prediction(request)
    if (predicted !== undefined) return calls.answer(request, reply, (call) => answerPrediction(models, predicted, call))
    const path = pathOf(request.originalUrl)
    const asked = request.method === 'GET' ? parseStatusPath(path) : undefined
    if (asked === undefined) throw new MeshError('INVALID_ARGUMENT', `Malformed request: ${request.method} ${path}`)
    const text = await described(models, asked)
    return reply.type(json).send(text)
  })
}

function pathOf(url: string): string {
  return url.split('?', 1)[0]!
}

/** A version beyond 64 bits, which is refused. */
const longNumber = /\d{19}/

/** Its predictions, classifications and regressions. */
export function tensorflowCalls(models: Models): ModelCalls {
  return {
    statuses: {},
    find: (path) => {
      const asked = longNumber.test(path) ? undefined : parsePredictionPath(path)
      return asked && ((call) => answerPrediction(models, asked, call))
    },
  }
}

async function described(models: Models, { model, choice = {}, metadata }: StatusPath): Promise<string> {
  if (model === undefined) return pretty({ models: models.names() })
  if (!metadata) return statusText(models, model, choice)
  const handle = await acquired(models, model, choice)
  try {
    return metadataText(handle)
  } finally {
    handle.release()
  }
}

/** `POST …:predict|classify|regress`. @throws MeshError why it is refused */
async function answerPrediction(models: Models, { model, choice, verb }: PredictionPath, call: ModelCall): Promise<Answer> {
  const key = call.headers[keyHeader]
  const found = acquired(models, model, typeof key === 'string' ? { ...choice, key } : choice)
  const handle = found instanceof Promise ? await found : found
  try {
    const body = await runs[verb](handle, call)
    return { headers: ['content-type', json, versionHeader, handle.version], body }
  } finally {
    handle.release()
  }
}

type Run = (handle: ModelHandle, call: ModelCall) => Promise<Uint8Array>

const runs: Readonly<Record<PredictionVerb, Run>> = {
  predict: async (handle, { body, signal }) => {
    const { layout, inputs, rowCount } = decodePredict(body, handle.signature)
    return encodePrediction(await handle.infer(inputs, rowCount, { deadlineMs: Infinity, signal }), layout)
  },
  classify: async (handle, { body, signal }) => {
    const { inputs, rowCount } = decodeExamples(body, handle.signature)
    return encodeClassification(await handle.infer(inputs, rowCount, { deadlineMs: Infinity, signal }), handle.classLabels)
  },
  regress: async (handle, { body, signal }) => {
    const { inputs, rowCount } = decodeExamples(body, handle.signature)
    return encodeRegression(await handle.infer(inputs, rowCount, { deadlineMs: Infinity, signal }))
  },
}

/** As `Models.acquire`, refused in TensorFlow Serving's words. */
function acquired(models: Models, model: string, choice: VersionChoice): ModelHandle | Promise<ModelHandle> {
  const refused = (thrown: unknown): never => {
    throw refusal(models, model, choice, MeshError.from(thrown))
  }
  try {
    const found = models.acquire(model, choice)
    return found instanceof Promise ? found.catch(refused) : found
  } catch (thrown) {
    return refused(thrown)
  }
}

function refusal(models: Models, model: string, { version, label }: VersionChoice, error: MeshError): MeshError {
  if (label !== undefined && (error.code === 'FAILED_PRECONDITION' || error.code === 'NOT_FOUND')) return unknownLabel(label)
  // A model that is not loaded is one that there is not, but while the process starts or stops: then another try may find it.
  if (error.code !== 'NOT_FOUND' && !(error.code === 'UNAVAILABLE' && models.ready)) return error
  const which = version === undefined ? `Latest(${model})` : `Specific(${model}, ${version})`
  return new MeshError('NOT_FOUND', `Servable not found for request: ${which}`, { cause: error })
}
