/**
 * The API over fetch. The access token lives in this object only; when it has run out, the refresh
 * cookie gives a new one and the call is repeated once.
 */

import type { Answer, CallArguments, Method, PathOf, Schemas } from './paths'
import { linesOf } from './lines'
import { ApiError, problemOf, unreachable } from './problem'

const ROOT = '/api/v1'

/** A call without its types, as it is sent. */
interface Call {
  path?: object
  query?: object | undefined
  body?: unknown
  idempotencyKey?: string
  signal?: AbortSignal
}

export interface Pass {
  token: string
  endsAt: number
}

export interface ApiClientOptions {
  fetch: typeof fetch
  now: () => number
  /** Runs one refresh at a time in all tabs: each refresh cookie works only once. */
  exclusively: <T>(action: () => Promise<T>) => Promise<T>
}

export class ApiClient {
  /** Called when the sign-in has ended and cannot be refreshed. */
  onSignedOut: () => void = () => undefined
  /** Into which tenant an operator looks. */
  lookInto: string | null = null
  #token: string | null = null
  #endsAt = 0
  #refreshing: Promise<void> | null = null

  constructor(private readonly options: ApiClientOptions) {}

  /** The access token in force and when it ends by our own clock; for what needs no request. */
  get pass(): Pass | null {
    return this.#token === null ? null : { token: this.#token, endsAt: this.#endsAt }
  }

  /** A fresh token before the old one ends; a refusal ends the sign-in as it does for any call. */
  async renew(): Promise<void> {
    await this.#refreshOrLeave()
  }

  get<P extends PathOf<'get'>>(path: P, ...call: CallArguments<'get', P>): Promise<Answer<'get', P>> {
    return this.#call('get', path, call)
  }

  post<P extends PathOf<'post'>>(path: P, ...call: CallArguments<'post', P>): Promise<Answer<'post', P>> {
    return this.#call('post', path, call)
  }

  put<P extends PathOf<'put'>>(path: P, ...call: CallArguments<'put', P>): Promise<Answer<'put', P>> {
    return this.#call('put', path, call)
  }

  patch<P extends PathOf<'patch'>>(
    path: P,
    ...call: CallArguments<'patch', P>
  ): Promise<Answer<'patch', P>> {
    return this.#call('patch', path, call)
  }

  delete<P extends PathOf<'delete'>>(
    path: P,
    ...call: CallArguments<'delete', P>
  ): Promise<Answer<'delete', P>> {
    return this.#call('delete', path, call)
  }

  /** The body as it comes, for answers that do not end by themselves. */
  async stream<P extends PathOf<'get'>>(
    path: P,
    ...call: CallArguments<'get', P>
  ): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#answer('get', path, call)
    if (!response.ok) throw await problemOf(response)
    return response.body ?? new ReadableStream()
  }

  /** What the server says line by line, until it ends or the signal says so. */
  async *lines(path: string, signal: AbortSignal): AsyncGenerator<string> {
    const response = await this.#answer('get', path, [{ signal }])
    if (!response.ok || response.body === null) throw await problemOf(response)
    yield* linesOf(response.body)
  }

  async signIn(proof: Schemas['LoginIn']): Promise<void> {
    const response = await this.#send('post', '/auth/login', { body: proof })
    this.#take(await read<Schemas['TokenOut']>(response))
  }

  async signOut(): Promise<void> {
    const response = await this.#send('post', '/auth/logout', {})
    this.#token = null
    await read(response)
  }

  /** Gets an access token for the refresh cookie; callers at the same time share one request. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.options
      .exclusively(async () => {
        const response = await this.#send('post', '/auth/refresh', {})
        this.#take(await read<Schemas['TokenOut']>(response))
      })
      .finally(() => {
        this.#refreshing = null
      })
    return this.#refreshing
  }

  #take({ access_token: token, expires_in: seconds }: Schemas['TokenOut']): void {
    this.#token = token
    this.#endsAt = this.options.now() + seconds * 1_000
  }

  async #call<T>(method: Method, path: string, call: [call?: Call]): Promise<T> {
    return read(await this.#answer(method, path, call))
  }

  async #answer(method: Method, path: string, [call = {}]: [call?: Call]): Promise<Response> {
    const response = await this.#send(method, path, call)
    if (response.status !== 401) return response
    await this.#refreshOrLeave()
    return this.#send(method, path, call)
  }

  async #refreshOrLeave(): Promise<void> {
    try {
      await this.refresh()
    } catch (error) {
      if (error instanceof ApiError && error.isRefusal) {
        this.#token = null
        this.onSignedOut()
      }
      throw error
    }
  }

  async #send(method: Method, path: string, call: Call): Promise<Response> {
    const url = ROOT + filled(path, call.path ?? {}) + queryOf(call.query ?? {})
    const headers = new Headers({ accept: 'application/json' })
    if (this.#token !== null) headers.set('authorization', `Bearer ${this.#token}`)
    if (this.lookInto !== null) headers.set('x-botyard-tenant', this.lookInto)
    if (call.body !== undefined) headers.set('content-type', 'application/json')
    if (call.idempotencyKey !== undefined) headers.set('idempotency-key', call.idempotencyKey)
    try {
      return await this.options.fetch(url, {
        method: method.toUpperCase(),
        headers,
        body: call.body === undefined ? null : JSON.stringify(call.body),
        signal: call.signal ?? null,
        credentials: 'same-origin',
      })
    } catch (error) {
      if (call.signal?.aborted) throw error
      throw unreachable()
    }
  }
}

async function read<T>(response: Response): Promise<T> {
  if (!response.ok) throw await problemOf(response)
  const text = await response.text()
  return (text === '' ? undefined : JSON.parse(text)) as T
}

/** The path with its {names} replaced; a value never leads to another path. */
function filled(path: string, values: object): string {
  const known = new Map<string, unknown>(Object.entries(values))
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(known.get(name))))
}

function queryOf(query: object): string {
  const given = Object.entries(query).flatMap(([name, value]: [string, unknown]) =>
    value === null || value === undefined ? [] : [[name, String(value)]],
  )
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`
}
