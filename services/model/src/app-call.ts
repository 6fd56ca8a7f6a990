import type { FastifyReply, FastifyRequest } from 'fastify'
import { CallerSignals } from './caller-signal.ts'
import { type Answerer, answerCall, writeAnswer } from './model-call.ts'

/** Answers calls whose bodies the app has read; its error handler answers those that are refused. */
export class AppCalls {
  readonly #signals = new CallerSignals()

  async answer(request: FastifyRequest, reply: FastifyReply, answerer: Answerer): Promise<FastifyReply> {
    const { headers, raw } = request
    const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0)
    const answer = await answerCall(answerer, { headers, body, signal: this.#signals.of(raw.socket) })
    writeAnswer(reply.hijack().raw, 200, answer)
    return reply
  }
}
