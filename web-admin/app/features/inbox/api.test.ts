import { afterEach, describe, expect, it, vi } from 'vitest'
import { api } from '../../api/api'
import { findDelivery } from './api'
import { message } from './conversation.fixture'

describe('findDelivery', () => {
  const { signal } = new AbortController()
  const failed = message(2, { delivery: { state: 'failed', error_class: null, attempts: 1 } })

  afterEach(() => {
    vi.restoreAllMocks()
  })

  /** What the server has, by its state now. */
  function serverHas(state: string) {
    return vi.spyOn(api, 'get').mockImplementation(((path: string, { query }: { query?: { state?: string } }) => {
      if (path !== '/deliveries') return Promise.resolve({ id: 'd2' })
      const items = query?.state === undefined || query.state === state ? [{ id: 'd2', message_id: 'm2' }] : []
      return Promise.resolve({ items, next: null })
    }) as never)
  }

  it('looks among those in the state that the message has', async () => {
    const get = serverHas('failed')
    expect(await findDelivery(failed, 'c', signal)).toEqual({ id: 'd2' })
    expect(get).toHaveBeenCalledTimes(2)
  })

  it('finds one that has left it meanwhile', async () => {
    serverHas('sent')
    expect(await findDelivery(failed, 'c', signal)).toEqual({ id: 'd2' })
  })

  it('says when there is none any more', async () => {
    serverHas('sent')
    expect(await findDelivery(message(9), 'c', signal)).toBeNull()
  })
})
