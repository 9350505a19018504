import { beforeEach, describe, expect, it, vi } from 'vitest'
import { ApiClient } from './client'
import { ApiError, describeProblem } from './problem'

const token = { access_token: 'new', expires_in: 900, token_type: 'bearer' }

function json(status: number, body: unknown): Response {
  return new Response(JSON.stringify(body), { status })
}

function problem(status: number, code: string): Response {
  return json(status, { type: 'about:blank', title: 'No', status, detail: 'Not so.', code })
}

describe('ApiClient', () => {
  const fetch = vi.fn<typeof globalThis.fetch>()
  let client: ApiClient

  beforeEach(() => {
    fetch.mockReset()
    client = new ApiClient({ fetch, now: () => 1_000, exclusively: (action) => action() })
  })

  function calls(): string[] {
    return fetch.mock.calls.map(([url, init]) => `${init?.method ?? ''} ${url as string}`)
  }

  function header(call: number, name: string): string | null {
    return new Headers(fetch.mock.calls[call]?.[1]?.headers).get(name)
  }

  it('sends what it is given and reads the answer', async () => {
    fetch.mockResolvedValueOnce(json(201, { id: 'm1' }))
    const answer = await client.post('/conversations/{conversation_id}/messages', {
      path: { conversation_id: 'a/b' },
      body: { segments: [{ type: 'text', text: 'hi' }] },
      idempotencyKey: 'k',
    })
    expect(answer).toEqual({ id: 'm1' })
    expect(calls()).toEqual(['POST /api/v1/conversations/a%2Fb/messages'])
    expect(fetch.mock.calls[0]?.[1]?.body).toBe('{"segments":[{"type":"text","text":"hi"}]}')
    expect(header(0, 'idempotency-key')).toBe('k')
  })

  it('says into whom an operator looks', async () => {
    fetch.mockImplementation(() => Promise.resolve(json(200, {})))
    await client.get('/auth/me')
    client.lookInto = 't'
    await client.get('/auth/me')
    expect([header(0, 'x-botyard-tenant'), header(1, 'x-botyard-tenant')]).toEqual([null, 't'])
  })

  it('leaves absent parameters out of the address', async () => {
    fetch.mockResolvedValueOnce(json(200, {}))
    await client.get('/messages/search', { query: { cursor: null, text: '开门 &' } })
    expect(calls()).toEqual(['GET /api/v1/messages/search?text=%E5%BC%80%E9%97%A8+%26'])
  })

  it('reads an empty answer as nothing', async () => {
    fetch.mockResolvedValueOnce(new Response(null, { status: 204 }))
    expect(await client.post('/auth/logout')).toBeUndefined()
  })

  it('refreshes a token that ran out, once for all callers, and repeats the calls', async () => {
    fetch.mockImplementation((url, init) => {
      if (url === '/api/v1/auth/refresh') return Promise.resolve(json(200, token))
      const isNew = new Headers(init?.headers).get('authorization') === 'Bearer new'
      return Promise.resolve(isNew ? json(200, { ok: true }) : problem(401, 'token_expired'))
    })
    expect(await Promise.all([client.get('/auth/me'), client.get('/quota')])).toEqual([{ ok: true }, { ok: true }])
    expect(calls().filter((call) => call.endsWith('refresh'))).toHaveLength(1)
    expect(client.pass).toEqual({ token: 'new', endsAt: 901_000 })
  })

  it('says that the sign-in has ended when the refresh is refused', async () => {
    client.onSignedOut = vi.fn()
    fetch.mockImplementation(() => Promise.resolve(problem(401, 'unauthenticated')))
    await expect(client.get('/auth/me')).rejects.toMatchObject({ status: 401 })
    expect(client.onSignedOut).toHaveBeenCalledOnce()
  })

  it('does not take an unreachable server for a sign-out', async () => {
    client.onSignedOut = vi.fn()
    fetch.mockResolvedValueOnce(problem(401, 'token_expired')).mockRejectedValueOnce(new TypeError())
    await expect(client.get('/auth/me')).rejects.toMatchObject({ status: 0, code: 'unreachable' })
    expect(client.onSignedOut).not.toHaveBeenCalled()
  })

  it('does not refresh when a password is wrong', async () => {
    fetch.mockResolvedValueOnce(problem(401, 'invalid_credentials'))
    await expect(client.signIn({ email: 'a@b.example', password: 'x' })).rejects.toMatchObject({ code: 'invalid_credentials' })
    expect(fetch).toHaveBeenCalledOnce()
  })

  it('uses the token of the sign-in and forgets it on sign-out', async () => {
    fetch.mockResolvedValueOnce(json(200, token)).mockImplementation(() => Promise.resolve(json(200, {})))
    await client.signIn({ email: 'a@b.example', password: 'x' })
    await client.get('/auth/me')
    await client.signOut()
    await client.get('/auth/me')
    expect(header(1, 'authorization')).toBe('Bearer new')
    expect(header(3, 'authorization')).toBeNull()
  })

  it('makes a usable error of a proxy’s page and of an empty body', async () => {
    fetch.mockResolvedValueOnce(new Response('<h1>Bad gateway</h1>', { status: 502 }))
    await expect(client.get('/auth/me')).rejects.toMatchObject({ status: 502, code: 'unexpected' })
    fetch.mockResolvedValueOnce(new Response(null, { status: 404, statusText: 'Not Found' }))
    await expect(client.get('/auth/me')).rejects.toMatchObject({ status: 404, detail: 'Not Found' })
  })
})

describe('describeProblem', () => {
  const t = (key: string) => key

  it.each([
    [new ApiError(0, 'unreachable', ''), 'problem.unreachable'],
    [new ApiError(403, 'forbidden', 'Internal words.'), 'problem.denied'],
    [new ApiError(403, 'tenant_not_active', 'The tenant is suspended.'), 'problem.notActive'],
    [new ApiError(404, 'webhook_not_found', 'There is no such webhook.'), 'problem.missing'],
    [new ApiError(429, 'rate_limited', ''), 'problem.tooMany'],
    [new ApiError(503, 'unavailable', ''), 'problem.server'],
    [new ApiError(409, 'owner_changed', 'Somebody was faster.'), 'Somebody was faster.'],
    [new ApiError(422, 'invalid', 'Invalid.', [{ path: '/items/0', message: 'Empty.' }]), 'Invalid.\n/items/0: Empty.'],
    [new ApiError(418, 'odd', ''), 'problem.unexpected'],
  ])('explains %s', (error, text) => {
    expect(describeProblem(error, t)).toBe(text)
  })
})
