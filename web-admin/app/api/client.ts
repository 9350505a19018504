/**
 * The API over fetch. The access token lives in this object only; when it has run out, the refresh
 * cookie gives a new one and the call is repeated once.
 */

import { ApiError, problemOf, unreachable } from './problem'
import type { AccessToken } from './types'

const ROOT = '/api/v1'

export interface Call {
  query?: Record<string, string | null>
  body?: unknown
  /** Makes a repeated POST take effect once. */
  idempotencyKey?: string
  signal?: AbortSignal
}

export interface ApiClientOptions {
  fetch: typeof fetch
  /** Runs one refresh at a time in all tabs: each refresh cookie works only once. */
  exclusively: <T>(action: () => Promise<T>) => Promise<T>
}

export class ApiClient {
  /** Called when the sign-in has ended and cannot be refreshed. */
  onSignedOut: () => void = () => undefined
  #token: string | null = null
  #refreshing: Promise<void> | null = null

  constructor(private readonly options: ApiClientOptions) {}

  get<T>(path: string, call: Call = {}): Promise<T> {
    return this.#call('GET', path, call)
  }

  post<T = undefined>(path: string, call: Call = {}): Promise<T> {
    return this.#call('POST', path, call)
  }

  put<T = undefined>(path: string, call: Call = {}): Promise<T> {
    return this.#call('PUT', path, call)
  }

  async signIn(email: string, password: string): Promise<void> {
    const response = await this.#send('POST', '/auth/login', { body: { email, password } })
    this.#token = (await read<AccessToken>(response)).access_token
  }

  async signOut(): Promise<void> {
    const response = await this.#send('POST', '/auth/logout', {})
    this.#token = null
    await read(response)
  }

  /** Gets an access token for the refresh cookie; callers at the same time share one request. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.options
      .exclusively(async () => {
        const response = await this.#send('POST', '/auth/refresh', {})
        this.#token = (await read<AccessToken>(response)).access_token
      })
      .finally(() => {
        this.#refreshing = null
      })
    return this.#refreshing
  }

  async #call<T>(method: string, path: string, call: Call): Promise<T> {
    const response = await this.#send(method, path, call)
    if (response.status !== 401) return read(response)
    await this.#refreshOrLeave()
    return read(await this.#send(method, path, call))
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

  async #send(method: string, path: string, call: Call): Promise<Response> {
    const url = ROOT + path + queryOf(call.query ?? {})
    const headers = new Headers({ accept: 'application/json' })
    if (this.#token !== null) headers.set('authorization', `Bearer ${this.#token}`)
    if (call.body !== undefined) headers.set('content-type', 'application/json')
    if (call.idempotencyKey !== undefined) headers.set('idempotency-key', call.idempotencyKey)
    try {
      return await this.options.fetch(url, {
        method,
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

function queryOf(query: Record<string, string | null>): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== null)
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`
}
