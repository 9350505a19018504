import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { FakeNetwork } from '../../widget/model/socket.fixture'
import type { Pass } from '../api/client'
import type { Position } from './frames'
import { Link } from './link'
import type { LinkState } from './link'

const ready = { type: 'ready', epoch: 1, seq: 4, member_id: 'm', expires_at: 0 }

describe('Link', () => {
  let network: FakeNetwork
  let states: LinkState[]
  let link: Link
  let pass: Pass | null
  let resume: Position | null
  let renewals: number
  let renew: () => Promise<void>

  beforeEach(() => {
    vi.useFakeTimers()
    network = new FakeNetwork()
    states = []
    resume = null
    renewals = 0
    pass = { token: 'first', endsAt: Date.now() + 900_000 }
    renew = () => {
      renewals += 1
      pass = { token: `renewed ${renewals}`, endsAt: Date.now() + 900_000 }
      return Promise.resolve()
    }
    let ids = 0
    link = new Link({
      openSocket: network.open,
      pass: () => pass,
      renew: () => renew(),
      resume: () => resume,
      isVisible: () => true,
      onFrame: () => undefined,
      onState: (state) => states.push(state),
      newId: () => `c${(ids += 1)}`,
      random: () => 1,
      now: Date.now,
    })
  })

  afterEach(() => {
    vi.useRealTimers()
  })

  async function start(): Promise<void> {
    link.wake()
    await vi.advanceTimersByTimeAsync(0)
    await greet()
  }

  async function greet(): Promise<void> {
    network.last.onopen?.()
    network.last.receive(ready)
    await vi.advanceTimersByTimeAsync(0)
  }

  function answer(): void {
    const beat = network.last.sent.at(-1) as { id: string }
    network.last.receive({ type: 'ack', id: beat.id, data: null })
  }

  function close(code: number): void {
    network.last.onclose?.({ code, reason: '' })
  }

  it('says who it is and where it stopped, and is live when the stream is ready', async () => {
    resume = { epoch: 1, seq: 3 }
    await start()
    expect(network.last.sent[0]).toEqual({ type: 'auth', token: 'first', resume })
    expect(states).toEqual(['connecting', 'live'])
  })

  it('comes back after every close, later each time, and never gives up', async () => {
    await start()
    for (const delay of [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000, 20_000]) {
      const before = network.sockets.length
      close(1006)
      await vi.advanceTimersByTimeAsync(delay - 1)
      expect(network.sockets).toHaveLength(before)
      await vi.advanceTimersByTimeAsync(1)
      expect(network.sockets).toHaveLength(before + 1)
    }
  })

  it.each([
    [4400, 'refused'],
    [4403, 'denied'],
  ])('does not come back after %i', async (code, state) => {
    await start()
    close(code)
    link.wake()
    link.reconnect()
    await vi.advanceTimersByTimeAsync(600_000)
    expect(states.at(-1)).toBe(state)
    expect(network.sockets).toHaveLength(1)
  })

  it('gets a new token when the old one is not taken', async () => {
    await start()
    close(4401)
    await vi.advanceTimersByTimeAsync(1_000)
    network.last.onopen?.()
    expect(network.last.sent[0]).toMatchObject({ token: 'renewed 1' })
  })

  it('renews the token on the open socket before it ends', async () => {
    await start()
    for (let left = 840; left > 0; left -= 20) {
      answer()
      await vi.advanceTimersByTimeAsync(20_000)
    }
    expect(network.sockets).toHaveLength(1)
    expect(renewals).toBe(1)
    expect(network.last.sent).toContainEqual({ type: 'auth', token: 'renewed 1' })
  })

  it('tells the socket of a token that a call renewed, without another renewal', async () => {
    await start()
    pass = { token: 'by a call', endsAt: Date.now() + 1_800_000 }
    for (let left = 840; left > 0; left -= 20) {
      answer()
      await vi.advanceTimersByTimeAsync(20_000)
    }
    expect(renewals).toBe(0)
    expect(network.last.sent).toContainEqual({ type: 'auth', token: 'by a call' })
  })

  it('notices a socket that died in silence', async () => {
    await start()
    answer()
    await vi.advanceTimersByTimeAsync(29_999)
    expect(network.sockets).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(network.sockets[0]?.isClosed).toBe(true)
    expect(network.sockets).toHaveLength(2)
  })

  it('gives up a server that is never ready', async () => {
    link.wake()
    await vi.advanceTimersByTimeAsync(10_000)
    expect(network.last.isClosed).toBe(true)
    expect(states).toEqual(['connecting', 'waiting'])
  })

  it('tries at once when woken', async () => {
    await start()
    close(1013)
    link.wake()
    await vi.advanceTimersByTimeAsync(0)
    expect(network.sockets).toHaveLength(2)
  })

  it('opens nothing once it was stopped, also when a token comes late', async () => {
    let give: () => void = () => undefined
    pass = null
    renew = () => new Promise((resolve) => (give = resolve))
    link.wake()
    link.stop()
    give()
    await vi.advanceTimersByTimeAsync(60_000)
    expect(network.sockets).toEqual([])
    expect(states.at(-1)).toBe('idle')
  })

  it('keeps trying while no token can be had', async () => {
    pass = null
    renew = () => Promise.reject(new Error('unreachable'))
    link.wake()
    await vi.advanceTimersByTimeAsync(5_000)
    expect(network.sockets).toEqual([])
    renew = () => {
      pass = { token: 'at last', endsAt: Date.now() + 900_000 }
      return Promise.resolve()
    }
    await vi.advanceTimersByTimeAsync(20_000)
    expect(network.sockets.length).toBeGreaterThan(0)
  })
})
