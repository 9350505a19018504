/** The types of a call, by method and path, out of the generated schema. */

import type { components, paths } from './schema'

export type Schemas = components['schemas']
export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'

/** Paths as they are written here, without what all of them begin with. */
type Short<P> = P extends `/api/v1${infer Rest}` ? Rest : never
type Long<P extends string> = Extract<`/api/v1${P}`, keyof paths>

export type PathOf<M extends Method> = Short<
  { [P in keyof paths]: paths[P][M] extends { responses: unknown } ? P : never }[keyof paths]
>
type Operation<M extends Method, P extends string> = paths[Long<P>][M]

type PathValues<O> = O extends { parameters: { path: infer V extends object } } ? { path: V } : unknown
type QueryValues<O> = O extends { parameters: { query?: infer V } }
  ? { query?: { [K in keyof V]?: V[K] | null | undefined } }
  : unknown
type Body<O> = O extends { requestBody: { content: { 'application/json': infer B } } }
  ? { body: B }
  : O extends { requestBody?: { content: { 'application/json': infer B } } | undefined }
    ? { body?: B }
    : unknown

interface Extras {
  /** Makes a repeated POST take effect once. */
  idempotencyKey?: string
  signal?: AbortSignal
}

type CallOf<O> = PathValues<O> & QueryValues<O> & Body<O> & Extras
/** The second argument may be left out where nothing in it is asked for. */
export type CallArguments<M extends Method, P extends string> =
  Record<never, never> extends CallOf<Operation<M, P>>
    ? [call?: CallOf<Operation<M, P>>]
    : [call: CallOf<Operation<M, P>>]

type Json<R> = R extends { content: { 'application/json': infer A } } ? A : undefined
type Succeeded<R> = R extends Record<200, infer A>
  ? Json<A>
  : R extends Record<201, infer A>
    ? Json<A>
    : R extends Record<202, infer A>
      ? Json<A>
      : undefined
export type Answer<M extends Method, P extends string> =
  Operation<M, P> extends { responses: infer R } ? Succeeded<R> : never
