import type { FastifyReply, FastifyRequest } from 'fastify'
import type { PlaceInApp } from './call-place.ts'

export type ModelPath = { readonly model: string; readonly version?: string }

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** Adds a route, its requests bounded where `place` is given, and 405 for the other methods of its path. */
export type AddRoute = (method: 'GET' | 'POST', path: string, handler: Handler, place?: PlaceInApp) => void
