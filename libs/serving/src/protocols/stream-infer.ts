import { MeshError } from '@spillway/core'
import type { RpcCall } from '@spillway/rpc'
import { inference } from '@spillway/wire'

/** Requests of one stream that are worked on at once; the next is read when the oldest has been answered. */
const mostInFlight = 64

type Answer = Promise<inference.ModelStreamInferResponse>

/**
 * Answers each request of a stream, in their order, several at once. A request that fails is answered with the error's message and its id, and the stream goes
 * on, as in Triton. @param infer one request
 */
export async function* streamInfer(
  requests: AsyncIterable<inference.ModelInferRequest>,
  call: RpcCall,
  infer: (request: inference.ModelInferRequest) => Promise<inference.ModelInferResponse>,
): AsyncGenerator<inference.ModelStreamInferResponse> {
  const aborted = new Promise<never>((_, reject) => {
    const abort = (): void => reject(MeshError.from(call.signal.reason, 'CANCELLED'))
    if (call.signal.aborted) abort()
    else call.signal.addEventListener('abort', abort, { once: true })
  })
  // It is raced only while the stream is waited for.
  aborted.catch(() => undefined)
  const iterator = requests[Symbol.asyncIterator]()
  const readNext = (): Promise<IteratorResult<inference.ModelInferRequest>> => {
    const next = iterator.next()
    // Nobody waits for it while as many are in flight as may be.
    next.catch(() => undefined)
    return next
  }
  const answers: Answer[] = []
  let next: Promise<IteratorResult<inference.ModelInferRequest>> | undefined = readNext()
  while (next !== undefined || answers.length > 0) {
    const [oldest] = answers
    const read = next !== undefined && answers.length < mostInFlight ? next : undefined
    const event: 'answered' | IteratorResult<inference.ModelInferRequest> = await Promise.race([
      aborted,
      ...(oldest === undefined ? [] : [oldest.then((): 'answered' => 'answered')]),
      ...(read === undefined ? [] : [read]),
    ])
    if (event === 'answered') {
      yield await answers.shift()!
    } else if (event.done === true) {
      next = undefined
    } else {
      answers.push(answer(event.value, infer))
      next = readNext()
    }
  }
}

async function answer(
  request: inference.ModelInferRequest,
  infer: (request: inference.ModelInferRequest) => Promise<inference.ModelInferResponse>,
): Answer {
  try {
    const response = await infer(request)
    response.parameters['triton_final_response'] = { parameterChoice: { $case: 'boolParam', value: true } }
    return { errorMessage: '', inferResponse: response }
  } catch (error) {
    const failed = { ...inference.ModelInferResponse.decode(noBytes), modelName: request.modelName, id: request.id }
    return { errorMessage: MeshError.from(error, 'INTERNAL').message, inferResponse: failed }
  }
}

const noBytes = new Uint8Array(0)
